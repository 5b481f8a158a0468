"""Batches as the arrays that the functions take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cardoon.broker import Outgoing, Trigger


def pack_sent(outgoing: Sequence[Outgoing]) -> tuple[list[Any] | None, ...]:
    """Ids, queues, priorities, times, frames, and which are broadcast; nothing where none is."""
    fanouts = [one.fanout for one in outgoing]
    return (
        [one.id for one in outgoing],
        [one.queue for one in outgoing],
        [one.priority for one in outgoing],
        [one.run_at for one in outgoing],
        [one.frame for one in outgoing],
        fanouts if any(fanouts) else None,
    )


def pack_limits(outgoing: Sequence[Outgoing]) -> tuple[list[Any] | None, ...]:
    """Keys, numbers and gaps; nothing where no message has a limit."""
    limits = [one.limit for one in outgoing]
    if not any(limits):
        return None, None, None
    return (
        [None if limit is None else limit.key for limit in limits],
        [None if limit is None else limit.most for limit in limits],
        [None if limit is None else limit.gap for limit in limits],
    )


def pack_waiting(outgoing: Sequence[Outgoing]) -> tuple[list[Any] | None, ...]:
    """What messages wait for; nothing where none does. Places count from 1, as PostgreSQL does."""
    if not any(one.after for one in outgoing):
        return (None,) * 7
    inputs = [
        (place, position, predecessor.id, predecessor.request)
        for place, one in enumerate(outgoing, 1)
        for position, predecessor in enumerate(one.after)
    ]
    return (
        [len(one.after) for one in outgoing],
        [one.trigger is Trigger.FAILURE for one in outgoing],
        [one.delay for one in outgoing],
        *(list(column) for column in zip(*inputs, strict=True)),
    )


def whole(receipt: int | str) -> int:
    """A receipt of ours, or a number that is nobody's."""
    return receipt if isinstance(receipt, int) and 0 <= receipt < 2**63 else -1
