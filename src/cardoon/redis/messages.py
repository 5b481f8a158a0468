"""Claim messages, with the results that they have waited for; adopt those of another server."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cardoon.broker import MAX_INPUT_BYTES, Delivery, Input, Outgoing
from cardoon.clock import SystemClock
from cardoon.redis.connection import Argument
from cardoon.redis.failures import understood
from cardoon.redis.packing import read_count
from cardoon.redis.store import Slots, Store, Wait

MAX_CLAIM_BYTES = 32 * 2**20
"""Frames, and results that messages waited for, that one claim may carry together; a single larger
message still comes alone."""

_MOST_AT_ONCE = 500
_MOST_BYTES_AT_ONCE = 8 * 2**20
"""Of results that are fetched together."""

_LOOK_AGAIN_SECONDS = 1.0
"""Hints may be lost, so whoever waits looks at the store this often."""

_SHORTEST_WAIT = 0.001

_REAL_TIME = SystemClock()


class Claimed(NamedTuple):
    """What one claim came back with."""

    deliveries: list[Delivery]
    pause: float
    """Seconds until something else may be due; infinity for nothing in sight."""
    has_more: bool
    """There may be something due now: more than there was room for, or behind the many that have to wait."""
    resting: frozenset[str]
    """The queues of which nothing is lent at present."""


class Outlook(NamedTuple):
    """What one claim leaves to the next: nothing is due in these queues until then, or their bells ring."""

    bells: Mapping[str, str]
    until: float
    """By the monotonic clock."""

    def wait_for(self, queues: Sequence[str], deadline: float) -> Wait | None:
        """What the next claim has to wait for; None if it may find something at once, or has no time."""
        now = _REAL_TIME.monotonic()
        if self.until <= now or deadline <= now or self.bells.keys() != set(queues):
            return None
        seconds = max(min(self.until, deadline, now + _LOOK_AGAIN_SECONDS) - now, _SHORTEST_WAIT)
        return Wait([self.bells[queue] for queue in queues], seconds)


def claim(
    store: Store, queues: Sequence[str], *, limit: int, lease: float, after: Wait | None = None
) -> Claimed:
    """Lease what is due, queue by queue in this order; the server waits for `after` before."""
    with store.slot() as (name, serial):
        terms: list[Argument] = [limit, repr(float(lease)), MAX_CLAIM_BYTES]
        arguments = [name, serial, "0", *terms, *queues]
        pause, has_more, rows, resting = store.run("claim", arguments, again=2, after=after)
    with understood(store.place):
        rest = frozenset(name.decode() for name in resting)
        return Claimed(_unpack(store, rows), float(pause), bool(has_more), rest)


def adopt(
    store: Store, messages: Sequence[Outgoing], *, lease: float, durable: bool
) -> list[Delivery | None]:
    """Store messages as leased, but not those whose id is stored; return them as they are lent."""
    packed: list[Argument] = [repr(float(lease))]
    for each in messages:
        packed += (each.queue, each.id, each.frame, each.priority)
    with store.slot() as (name, serial):
        arguments = [name, str(serial), "0", *packed]
        first, letters = store.run("adopt", arguments, again=2, durably=durable)
    return [
        Delivery(each.queue, each.id, each.frame, number, 1, priority=each.priority)
        if letter == ord("1")
        else None
        for number, (letter, each) in enumerate(zip(letters, messages, strict=True), first)
    ]


def recall(store: Store, owner: str) -> list[Delivery]:
    """What the latest calls of a process took that is still on loan, without frames."""
    rows = store.run("recall", (owner, Slots.MOST))
    with understood(store.place):
        return [
            Delivery(
                queue.decode(),
                name.decode(),
                b"",
                int(number),
                int(attempt),
                priority=int(priority),
                crashes=int(crashes),
                retries=int(retries),
            )
            for queue, name, number, attempt, priority, crashes, retries in rows
        ]


def _unpack(store: Store, rows: Sequence[Any]) -> list[Delivery]:
    afters = [_read_after(row[8]) for row in rows]
    frames = _fetch_outcomes(store, afters) if any(afters) else {}
    return [
        Delivery(
            queue.decode(errors="backslashreplace"),
            _read_name(store, name, int(number)),
            frame,
            int(number),
            attempt,
            read_count(crashes),
            read_count(retries),
            read_count(priority),
            _inputs(after, frames),
        )
        for (queue, name, number, frame, attempt, crashes, retries, priority, _), after in zip(
            rows, afters, strict=True
        )
    ]


def _read_name(store: Store, name: bytes, number: int) -> str:
    """The id of a message. One that is no text, as no driver writes it, is replaced by one that is."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        # Nobody was ever told the new one, so nothing can have been signed for it.
        told = f"row-{uuid.uuid4()}"
        store.ask_many([("HSET", store.key("m", str(number)), "id", told)])
        return told


def _read_after(after: Any) -> Sequence[bytes]:
    """What a message waits for, ids and digests in turn; nothing if it makes no sense, which the gate sees."""
    found = after or ()
    is_right = len(found) % 2 == 0 and all(isinstance(part, bytes) for part in found)
    return found if is_right and _are_text(found[::2]) else ()


def _are_text(names: Iterable[bytes]) -> bool:
    try:
        return all(name.decode() for name in names)
    except UnicodeDecodeError:
        return False


def _inputs(after: Sequence[bytes] | None, frames: dict[bytes, bytes]) -> tuple[Input, ...]:
    inputs = []
    room = MAX_INPUT_BYTES
    for name, request in zip(after[::2], after[1::2], strict=True) if after else ():
        frame = frames.get(name)
        if frame is not None and len(frame) > room:
            frame = None
        room -= len(frame or b"")
        inputs.append(Input(name.decode(), request, frame))
    return tuple(inputs)


def _fetch_outcomes(store: Store, afters: Iterable[Sequence[bytes]]) -> dict[bytes, bytes]:
    """The results that messages have waited for, by the id of their task, in bounded pieces."""
    frames: dict[bytes, bytes] = {}
    for after in afters:
        room = MAX_INPUT_BYTES
        wanted = list(dict.fromkeys(after[::2]))
        for start in range(0, len(wanted), _MOST_AT_ONCE):
            names = wanted[start : start + _MOST_AT_ONCE]
            sizes = store.ask_many([("STRLEN", _outcome(store, name)) for name in names])
            piece: list[bytes] = []
            together = 0
            for name, size in zip(names, sizes, strict=True):
                if not size or size - 1 > room or name in frames:
                    continue
                room -= size - 1
                if piece and together + size > _MOST_BYTES_AT_ONCE:
                    frames.update(_fetch(store, piece))
                    piece, together = [], 0
                piece.append(name)
                together += size
            frames.update(_fetch(store, piece))
    return frames


def _fetch(store: Store, names: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    if not names:
        return ()
    (values,) = store.ask_many([("MGET", *(_outcome(store, name) for name in names))])
    found: list[tuple[bytes, Any]] = list(zip(names, values, strict=True))
    # The first byte says how it ended.
    return [(name, value[1:]) for name, value in found if value is not None]


def _outcome(store: Store, name: bytes) -> bytes:
    return store.key("outcome:").encode() + name
