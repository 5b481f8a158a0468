"""Where messages lie, by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cardoon.lookup import Place
from cardoon.sqlite.database import Database
from cardoon.sqlite.statements import MAX_BATCH_ROWS, document


def find(database: Database, ids: Sequence[str], *, now: float) -> Mapping[str, Place]:
    """The place of each of these messages that is anywhere."""
    found: dict[str, Place] = {}
    for start in range(0, len(ids), MAX_BATCH_ROWS):
        asked = document(list(ids[start : start + MAX_BATCH_ROWS]))
        found.update(
            (name, Place(place)) for name, place in database.rows("lookup.kept", ids=asked)
        )
        found.update(
            (name, Place(place))
            for name, place in database.rows("lookup.queued", ids=asked, now=now)
        )
    return found
