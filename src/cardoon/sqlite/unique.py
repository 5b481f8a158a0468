"""Messages of which there is to be one at a time.

The key lies in the row of the message, under a unique index: it is free when the row is gone,
whatever the reason. Only a period that outlives its message has a row of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cardoon.broker import Outgoing
from cardoon.sifting import sift_unique
from cardoon.sqlite.database import Transaction
from cardoon.sqlite.statements import document


def sift(
    transaction: Transaction, outgoing: Sequence[Outgoing], *, now: float
) -> tuple[Sequence[Outgoing], Mapping[str, str]]:
    """Those that are to be stored, and who stands in for each of the others."""
    asked = [(message.id, message.unique.key) for message in outgoing if message.unique is not None]
    if not asked:
        return outgoing, {}
    (found,) = transaction.row("unique.holders", asked=document(asked), now=now)
    return sift_unique(outgoing, json.loads(found))


def note(
    transaction: Transaction,
    sent: Sequence[tuple[int, Outgoing]],
    *,
    now: float,
    is_new: bool = True,
) -> None:
    """Mark messages that were inserted under these numbers; only what is new begins a period."""
    rows = [
        (number, unique.key, now + unique.period if unique.period > 0 and is_new else None)
        for number, message in sent
        if (unique := message.unique) is not None
    ]
    if not rows:
        return
    transaction.run("unique.mark", rows=document(rows))
    periods = [row for row in rows if row[2] is not None]
    if periods:
        transaction.run("unique.remember", rows=document(periods))
