"""The frames that every message costs, written and read by hand; pika has all others.

A message is three: a method, a header with its properties, and its body, in pieces where it is long. Of the
properties only the id counts, which is in the headers. They are the sender's, whoever that is, so what
makes no sense in them is passed over: a connection that ends over it would end again and again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

HEAD = struct.Struct(">BHL")
"""Kind, channel and size of what follows, without the last byte."""

CONTENT_TYPE = b"application/vnd.cardoon"
MAX_BODY_BYTES = 2**29
"""RabbitMQ's own limit. A server that announces more is not believed."""

_END = 0xCE
_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC = 60
_DELIVER, _ACK = (_BASIC, 60), (_BASIC, 80)
_PUBLISH = struct.pack(">HHHB", _BASIC, 40, 0, 0)
"""The method, no ticket, and the exchange without a name, which routes by the queue's."""
_MANDATORY = b"\x01"
_PERSISTENT = b"\x02"

_HAS_CONTENT_TYPE, _HAS_ENCODING, _HAS_HEADERS, _HAS_DELIVERY_MODE = (
    1 << 15,
    1 << 14,
    1 << 13,
    1 << 12,
)
_OURS = _HAS_CONTENT_TYPE | _HAS_HEADERS | _HAS_DELIVERY_MODE
_ID = b"id"
_FIELD = bytes((len(_ID),)) + _ID + b"S"
_LONG_TEXT = ord("S")
_LONG_KINDS = frozenset(b"SxFA")
_FIXED_SIZES = {
    **dict.fromkeys(b"V", 0),
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"sUu", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"D", 5),
    **dict.fromkeys(b"lLdT", 8),
}
"""Of what a table holds, by kind, in bytes."""

_NAME = struct.Struct(">HH")
_CONTENT = struct.Struct(">HHQH")
_DELIVERED = struct.Struct(">QB")
_SIZE = struct.Struct(">L")
_FIRST = HEAD.size
_SECOND = _FIRST + _NAME.size


class Arrival(NamedTuple):
    """One message as it came."""

    consumer: str
    tag: int
    is_copy: bool
    """Whether the server says that it has delivered it before."""
    id: str | None
    """As the sender says."""
    body: bytes


def write_message(channel: int, queue: str, id: str, body: bytes, *, most: int) -> bytes:
    """A message to a queue, persistent and mandatory, in frames of `most` bytes.

    Raises `ValueError` for text that is none.
    """
    name, told = queue.encode(), id.encode()
    method = b"".join((_PUBLISH, bytes((len(name),)), name, _MANDATORY))
    header = b"".join(
        (
            _CONTENT.pack(_BASIC, 0, len(body), _OURS),
            bytes((len(CONTENT_TYPE),)),
            CONTENT_TYPE,
            _SIZE.pack(len(_FIELD) + _SIZE.size + len(told)),
            _FIELD,
            _SIZE.pack(len(told)),
            told,
            _PERSISTENT,
        )
    )
    step = most - HEAD.size - 1
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    frames = [(_METHOD, method), (_HEADER, header), *((_BODY, piece) for piece in pieces)]
    return b"".join(
        part
        for kind, payload in frames
        for part in (HEAD.pack(kind, channel, len(payload)), payload, b"\xce")
    )


class Reader:
    """Takes messages or confirms, or both, out of what comes on one channel."""

    def __init__(
        self,
        channel: int,
        *,
        on_message: Callable[[Arrival], None] | None = None,
        on_confirm: Callable[[int, bool], None] | None = None,
    ) -> None:
        self._channel = channel
        self._on_message = on_message
        self._on_confirm = on_confirm
        self._begun: tuple[str, int, bool] | None = None
        """Of the message of which not everything has come."""
        self._id: str | None = None
        self._left = -1
        self._pieces: list[bytes] = []

    def take(self, frame: bytes) -> bool:
        """Whether this whole frame was for us. Raises `ValueError` and `struct.error` for one that is none."""
        kind, channel, _ = HEAD.unpack_from(frame)
        if channel != self._channel:
            return False
        if frame[-1] != _END:
            raise ValueError("a frame of the server has no end")
        if kind == _METHOD:
            return self._take_method(frame)
        if self._begun is None:
            return False  # of a message that came back, which is pika's
        if kind == _HEADER:
            _, _, self._left, flags = _CONTENT.unpack_from(frame, _FIRST)
            if self._left > MAX_BODY_BYTES:
                raise ValueError(f"the server announces a message of {self._left} bytes")
            self._id = _read_id(frame[_FIRST + _CONTENT.size : -1], flags)
        elif kind == _BODY:
            self._pieces.append(frame[_FIRST:-1])
            self._left -= len(self._pieces[-1])
            if self._left < 0:
                raise ValueError("a message of the server is longer than announced")
        if self._left == 0:
            self._hand_on(self._begun)
        return True

    def _take_method(self, frame: bytes) -> bool:
        name = _NAME.unpack_from(frame, _FIRST)
        if name == _ACK and self._on_confirm is not None:
            tag, bits = _DELIVERED.unpack_from(frame, _SECOND)
            self._on_confirm(tag, bool(bits & 1))
            return True
        if name != _DELIVER or self._on_message is None:
            return False
        start = _SECOND + 1
        end = start + frame[_SECOND]
        tag, bits = _DELIVERED.unpack_from(frame, end)
        self._begun = (frame[start:end].decode(), tag, bool(bits & 1))
        self._left, self._pieces = -1, []
        return True

    def _hand_on(self, begun: tuple[str, int, bool]) -> None:
        consumer, tag, is_copy = begun
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._begun, self._pieces = None, []
        assert self._on_message is not None  # or it would not have begun
        self._on_message(Arrival(consumer, tag, is_copy, self._id, body))


def _read_id(properties: bytes, flags: int) -> str | None:
    """The id in the headers; None where there is none that makes sense."""
    try:
        at = 0
        for flag in (_HAS_CONTENT_TYPE, _HAS_ENCODING):
            if flags & flag:
                at += 1 + properties[at]
        if not flags & _HAS_HEADERS:
            return None
        (size,) = _SIZE.unpack_from(properties, at)
        at += _SIZE.size
        end = at + size
        while at < end:
            name = properties[at + 1 : at + 1 + properties[at]]
            at += 1 + properties[at]
            kind = properties[at]
            at += 1
            if kind not in _LONG_KINDS:
                at += _FIXED_SIZES[kind]
                continue
            (size,) = _SIZE.unpack_from(properties, at)
            at += _SIZE.size + size
            if name == _ID and kind == _LONG_TEXT and at <= end <= len(properties):
                return properties[at - size : at].decode()
    except (IndexError, KeyError, ValueError, struct.error):
        pass
    return None
