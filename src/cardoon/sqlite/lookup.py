"""Where messages lie, by id, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cardoon.broker import KeptMessage
from cardoon.lookup import MAX_MISSING, Place, Whereabouts
from cardoon.security.replay import Nonce
from cardoon.sqlite.database import Database
from cardoon.sqlite.failures import explained
from cardoon.sqlite.presence import Life
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


def trace(database: Database, id: str, *, now: float, monotonic: float) -> Whereabouts | None:
    """All that is known of one message; what lies in a queue counts before what is kept."""
    rows = database.rows("lookup.message", id=id)
    if rows:
        return _describe(database, rows[0], now=now, monotonic=monotonic)
    for place, priority, limit, unique, *kept in database.rows("lookup.latest_kept", id=id):
        shown = KeptMessage(**dict(zip(_KEPT, kept, strict=True)))
        return Whereabouts.of_kept(
            Place(place), shown, priority=priority, limit=limit or "", unique=unique or ""
        )
    return None


def were_done(database: Database, nonces: Sequence[Nonce]) -> list[bool]:
    """Whether what has these nonces was carried out."""
    return [
        database.rows("lookup.done", session=nonce.session, sequence=nonce.sequence) == [(1,)]
        for nonce in nonces
    ]


_KEPT = (
    *("number", "queue", "id", "reason", "detail", "kept_at", "frame", "attempt"),
    *("crashes", "retries"),
)
_PLACES = {0: Place.SCHEDULED, 1: Place.READY, 2: Place.LEASED, 3: Place.DORMANT, 4: Place.READY}


def _describe(
    database: Database, row: Sequence[Any], *, now: float, monotonic: float
) -> Whereabouts:
    number, queue, priority, state, due, attempt, crashes, retries, until, limit, unique = row[:11]
    owner, frame = row[11:]
    place = _PLACES[state]
    if place is Place.SCHEDULED and due <= now:
        place = Place.READY  # with the next claim
    told = Whereabouts(
        place,
        queue,
        frame,
        priority,
        attempt,
        crashes,
        retries,
        limit=limit or "",
        unique=unique or "",
    )
    match place:
        case Place.LEASED:
            return told._replace(
                lease_left=until - monotonic, holder=_describe_owner(database, owner)
            )
        case Place.DORMANT:
            missing = database.rows("lookup.missing", number=number, limit=MAX_MISSING)
            (count,) = database.row("lookup.waits_for", number=number)
            return told._replace(waits_for=count, missing=tuple(name for (name,) in missing))
        case Place.READY:
            (ahead,) = database.row(
                "lookup.ahead", queue=queue, priority=priority, number=number, now=now
            )
            return told._replace(due=due, ahead=ahead)
        case _:
            return told._replace(due=due)


def _describe_owner(database: Database, name: str | None) -> str:
    if name is None:
        return ""
    with explained(database.path):
        is_gone = database.presence.look(name) is Life.DEAD
    return f"process {name}, which is gone" if is_gone else f"process {name}"
