"""Publish, claim, adopt and extend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cardoon.broker import MAX_INPUT_BYTES, Delivery, Input, Outgoing
from cardoon.postgres.connection import Call
from cardoon.postgres.database import Session
from cardoon.postgres.packing import pack_limits, pack_sent, pack_waiting, whole
from cardoon.sifting import sift_unique

MAX_CLAIM_BYTES = 32 * 2**20
"""Frames, and results that messages waited for, that one claim may carry together; a single larger
message still comes alone."""

_MOST_CLAIMS = 1 << 40
"""Of one process: claims are numbered from where it began, at random among 2^56."""

MAX_BATCH_ROWS = 5000
MAX_BATCH_BYTES = 32 * 2**20
"""What one call carries at most, so that memory stays bounded."""

_ROWS_OF_FANOUT = 50
"""What a message that is broadcast counts for: it may have ten thousand copies."""


class Caller(Protocol):
    """What calls functions within one transaction."""

    def call(self, name: str, *arguments: Any) -> list[Any]:
        """Call one function; its rows."""
        ...


class Claimed(NamedTuple):
    """What a claim has brought."""

    deliveries: list[Delivery]
    pause: float | None = None
    """Where there are none: seconds until there may be; None for nobody knows."""
    is_more: bool = False
    """Whether to claim again at once."""


def publish(
    session: Session, outgoing: Sequence[Outgoing], *, now: float | None, then: Sequence[Call]
) -> Mapping[str, str]:
    """Store messages, but not those whose id is stored; return who stands in for whom.

    In one round trip, unless a message is unique or there are very many.
    """
    if not any(one.unique for one in outgoing):
        batches = list(split(outgoing))
        if len(batches) == 1:
            session.run([Call("publish", pack(batches[0], now=now))], then=then)
            return {}
    with session.transaction():
        stand_ins = publish_within(session, outgoing, now=now)
    session.run(then)
    return stand_ins


def publish_within(
    caller: Caller, outgoing: Sequence[Outgoing], *, now: float | None
) -> Mapping[str, str]:
    """Store messages in a transaction that has begun."""
    wanted, stand_ins = _sift(caller, outgoing, now=now)
    for batch in split(wanted):
        caller.call("publish", *pack(batch, now=now))
    return stand_ins


def pack(outgoing: Sequence[Outgoing], *, now: float | None) -> tuple[Any, ...]:
    """The arguments of `publish`."""
    return (
        now,
        *pack_sent(outgoing),
        *_pack_unique(outgoing),
        *pack_limits(outgoing),
        *pack_waiting(outgoing),
    )


def split(outgoing: Sequence[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    """Runs of messages small enough for one call each."""
    start = 0
    while start < len(outgoing):
        end, size, rows = start, 0, 0
        while end < len(outgoing):
            size += len(outgoing[end].frame)
            rows += _ROWS_OF_FANOUT if outgoing[end].fanout else 1
            if (size > MAX_BATCH_BYTES or rows > MAX_BATCH_ROWS) and end > start:
                break
            end += 1
        yield outgoing[start:end]
        start = end


def claim(
    session: Session,
    queues: Sequence[str],
    *,
    limit: int,
    lease: float,
    now: float | None,
    token: int,
) -> Claimed:
    """Lease due messages, queue by queue, the most urgent of each first."""
    rows = session.call("claim", now, queues, limit, lease, MAX_CLAIM_BYTES, token)
    if rows[0][0] is None:
        return Claimed([], *rows[0][9:])
    deliveries = []
    waited = []
    for number, queue, name, frame, attempt, crashes, retries, priority, inputs, *_ in rows:
        # One without a frame goes to the gate, which refuses it, and does not stop those beside it.
        found = frame or b""
        deliveries.append(Delivery(queue, name, found, number, attempt, crashes, retries, priority))
        if inputs:
            waited.append(number)
    if waited:
        ends = _inputs_of(session, waited)
        deliveries = [
            each._replace(inputs=tuple(ends[each.receipt])) if each.receipt in ends else each
            for each in deliveries
        ]
    return Claimed(deliveries)


def adopt(
    session: Session,
    outgoing: Sequence[Outgoing],
    *,
    lease: float,
    now: float | None,
    token: int,
) -> list[Delivery | None]:
    """Store messages as leased, but not those whose id is stored; return them as they are lent."""
    ids, queues, priorities, _, frames, _ = pack_sent(outgoing)
    rows = session.call("adopt", now, ids, queues, priorities, frames, lease, token)
    lent: list[Delivery | None] = [None] * len(outgoing)
    for place, number in rows:
        each = outgoing[place - 1]
        lent[place - 1] = Delivery(
            each.queue, each.id, each.frame, number, 1, priority=each.priority
        )
    return lent


def recall(caller: Caller, first: int) -> list[Delivery]:
    """What was lent by claims with this number or one of those that follow, without frames."""
    rows = caller.call("lent_by", first, first + _MOST_CLAIMS)
    return [
        Delivery(queue, name, b"", number, attempt, crashes, retries, priority)
        for number, queue, name, attempt, crashes, retries, priority in rows
    ]


def extend(
    session: Session, deliveries: Sequence[Delivery], *, lease: float, now: float | None
) -> list[Delivery]:
    """Renew the leases of those that are still held, and return them."""
    rows = session.call(
        "extend",
        now,
        [whole(each.receipt) for each in deliveries],
        [each.attempt for each in deliveries],
        [each.id for each in deliveries],
        lease,
    )
    return [deliveries[place - 1] for (place,) in rows]


def _pack_unique(outgoing: Sequence[Outgoing]) -> tuple[list[Any] | None, list[Any] | None]:
    unique = [one.unique for one in outgoing]
    if not any(unique):
        return None, None
    keys = [None if each is None else each.key for each in unique]
    if not any(each is not None and each.period > 0 for each in unique):
        return keys, None
    return keys, [0.0 if each is None else each.period for each in unique]


def _sift(
    caller: Caller, outgoing: Sequence[Outgoing], *, now: float | None
) -> tuple[Sequence[Outgoing], Mapping[str, str]]:
    """Those that are to be stored, and who stands in for each of the others."""
    asked = [(one.id, one.unique.key) for one in outgoing if one.unique is not None]
    if not asked:
        return outgoing, {}
    names, keys = zip(*asked, strict=True)
    return sift_unique(outgoing, caller.call("unique_holders", now, list(names), list(keys)))


def _inputs_of(session: Session, numbers: Sequence[int]) -> Mapping[int | str, list[Input]]:
    """What each of these messages has waited for, with the frames as far as there is room."""
    rows = session.call("inputs", numbers)
    carried: Counter[int] = Counter()
    fits = []
    for number, _, _, size in rows:
        fits.append(size is not None and carried[number] + size <= MAX_INPUT_BYTES)
        carried[number] += size if fits[-1] else 0
    sizes = {row[1]: row[3] for row, fit in zip(rows, fits, strict=True) if fit}
    frames = _frames(session, sizes)
    inputs: dict[int | str, list[Input]] = {number: [] for number in numbers}
    for (number, name, request, _), fit in zip(rows, fits, strict=True):
        inputs[number].append(Input(name, request, frames.get(name) if fit else None))
    return inputs


def _frames(session: Session, sizes: Mapping[str, int]) -> Mapping[str, bytes]:
    """The frames of outcomes of known sizes, so many at once as one answer may carry."""
    frames: dict[str, bytes] = {}
    names: list[str] = []
    room = MAX_BATCH_BYTES
    for name, size in sizes.items():
        if names and size > room:
            frames.update(session.call("outcome_frames", names))
            names, room = [], MAX_BATCH_BYTES
        names.append(name)
        room -= size
    if names:
        frames.update(session.call("outcome_frames", names))
    return frames
