"""What RabbitMQ carries, and what lies in the companion from the start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cardoon.broker import Outgoing


def part(outgoing: Sequence[Outgoing], *, now: float) -> tuple[list[Outgoing], list[Outgoing]]:
    """Plain messages for RabbitMQ, and all others.

    To the companion also goes what others of the batch wait for, or it would take that for lost; and
    what is in the batch twice, for only the companion knows which one was first.
    """
    awaited = {predecessor.id for sent in outgoing for predecessor in sent.after}
    times = Counter(sent.id for sent in outgoing)
    plain: list[Outgoing] = []
    other: list[Outgoing] = []
    for sent in outgoing:
        is_bound = sent.unique is not None or sent.limit is not None
        is_due = sent.run_at is None or sent.run_at <= now
        is_alone = sent.id not in awaited and times[sent.id] == 1
        is_plain = is_due and is_alone and not (is_bound or sent.after or sent.fanout)
        (plain if is_plain else other).append(sent)
    return plain, other
