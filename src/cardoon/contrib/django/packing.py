"""Packing: signed messages as the bytes of one row of the outbox, and back.

The row is a hint like everything beside a frame: what it says is not signed, and a worker believes the
frame alone. Reading checks types and nothing else, and raises `MessageError` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cardoon.broker import Limit, Outgoing, Predecessor, Trigger
from cardoon.exceptions import MessageError
from cardoon.message import cbor

VERSION = 1
_FANOUT = "fanout"


def pack(outgoing: Sequence[Outgoing]) -> bytes:
    """One row's bytes."""
    return cbor.encode([VERSION, [_told(message) for message in outgoing]])


def unpack(packed: bytes) -> list[Outgoing]:
    """What `pack` was given; `MessageError` for bytes that are something else."""
    match cbor.decode(packed):
        case [int(version), list(messages)] if version == VERSION:
            return [_read(message) for message in messages]
        case _:
            raise MessageError("outbox: the row is not of a version that is known here")


def _told(message: Outgoing) -> list[cbor.Value]:
    return [
        message.queue,
        message.id,
        message.frame,
        message.priority,
        None if message.run_at is None else repr(message.run_at),  # the profile has no floats
        [[one.id, one.request] for one in message.after],
        message.trigger.value,
        repr(message.delay),
        message.limit and [message.limit.key, message.limit.most, repr(message.limit.gap)],
        *([_FANOUT] if message.fanout else []),
    ]


def _read(told: Any) -> Outgoing:
    match told:
        case [
            str(queue),
            str(name),
            bytes(frame),
            int(priority),
            str() | None as run_at,
            list(after),
            str(trigger),
            str(delay),
            limit,
            *more,
        ] if more in ([], [_FANOUT]):
            try:
                return Outgoing(
                    queue,
                    name,
                    frame,
                    priority,
                    None if run_at is None else float(run_at),
                    tuple(_read_predecessor(one) for one in after),
                    Trigger(trigger),
                    float(delay),
                    limit=_read_limit(limit),
                    fanout=bool(more),
                )
            except ValueError as error:
                raise MessageError(f"outbox: {error}") from error
        case _:
            raise MessageError("outbox: the row holds something that is no message")


def _read_limit(told: Any) -> Limit | None:
    match told:
        case None:
            return None
        case [str(key), int(most), str(gap)]:
            return Limit(key, most, float(gap))
        case _:
            raise MessageError("outbox: the row holds something that is no limit")


def _read_predecessor(told: Any) -> Predecessor:
    match told:
        case [str(name), bytes(request)]:
            return Predecessor(name, request)
        case _:
            raise MessageError("outbox: the row holds something that is no predecessor")
