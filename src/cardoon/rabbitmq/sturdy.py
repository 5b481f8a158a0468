"""A connection that outlives headers of messages which pika cannot read.

pika makes Python values of all headers, and of some there are none: a timestamp behind the year 9999, a
double that is no number. What it raises ends the connection, the server delivers the message again, and so
on for ever; one message of anybody who may send would stop all who take. Here such a message has no headers.
Tasks pass pika by (`frames`), but results do not.
"""

from __future__ import annotations

import struct
from decimal import DecimalException
from typing import Any

import pika
import pika.exceptions
from pika import frame, spec
from pika.connection import Connection

_HEAD = struct.Struct(">BHL")  # type, channel, size
_CONTENT = struct.Struct(">HHQ")  # class, weight, size of the body
_UNREADABLE = (
    *(ValueError, OverflowError, OSError, struct.error, IndexError, RecursionError),
    *(DecimalException, TypeError, pika.exceptions.AMQPError),
)


class SturdyConnection(Connection):  # type: ignore[misc]  # pika has no types
    """As pika's own, but for what it cannot read of a message."""

    def _read_frame(self) -> tuple[int, Any]:
        try:
            return super()._read_frame()  # type: ignore[no-any-return]
        except _UNREADABLE:
            found = _bare_header(self._frame_buffer)
            if found is None:
                raise
            return found


def _bare_header(buffer: bytes) -> tuple[int, Any] | None:
    """The header frame that a buffer begins with, without what it says; None if it begins with another.

    Only a whole frame with a right end gets as far as that something in it cannot be read.
    """
    kind, channel, size = _HEAD.unpack_from(buffer)
    if kind != spec.FRAME_HEADER or size < _CONTENT.size:
        return None
    _, _, body_size = _CONTENT.unpack_from(buffer, _HEAD.size)
    whole = _HEAD.size + size + spec.FRAME_END_SIZE
    return whole, frame.Header(channel, body_size, pika.BasicProperties())
