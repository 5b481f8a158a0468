"""Claim messages, with the results that they have waited for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cardoon.broker import MAX_INPUT_BYTES, Delivery, Input
from cardoon.redis.connection import Argument
from cardoon.redis.failures import understood
from cardoon.redis.store import Store

MAX_CLAIM_BYTES = 32 * 2**20
"""Frames, and results that messages waited for, that one claim may carry together; a single larger
message still comes alone."""

_MOST_AT_ONCE = 500
_MOST_BYTES_AT_ONCE = 8 * 2**20
"""Of results that are fetched together."""


class Claimed(NamedTuple):
    """What one claim came back with."""

    deliveries: list[Delivery]
    pause: float
    """Seconds until something may be due, if nothing was; infinity for nothing in sight."""
    has_more: bool
    """There may be something due all the same, behind the many that have to wait."""
    resting: frozenset[str]
    """The queues of which nothing is lent at present."""


def claim(store: Store, queues: Sequence[str], *, limit: int, lease: float) -> Claimed:
    """Lease what is due, queue by queue in this order."""
    with store.slot() as (name, serial):
        terms: list[Argument] = [limit, repr(float(lease)), MAX_CLAIM_BYTES]
        arguments = [name, serial, "0", *terms, *queues]
        pause, has_more, rows, resting = store.run("claim", arguments, again=2)
    with understood(store.place):
        rest = frozenset(name.decode() for name in resting)
        return Claimed(_unpack(store, rows), float(pause), bool(has_more), rest)


def _unpack(store: Store, rows: Sequence[Any]) -> list[Delivery]:
    afters = [row[8] or () for row in rows]
    frames = _fetch_outcomes(store, afters) if any(afters) else {}
    return [
        Delivery(
            queue.decode(),
            name.decode(),
            frame,
            int(number),
            attempt,
            int(crashes),
            int(retries),
            int(priority),
            _inputs(after, frames),
        )
        for queue, name, number, frame, attempt, crashes, retries, priority, after in rows
    ]


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
