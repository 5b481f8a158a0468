"""Arguments and rows, as PostgreSQL's binary format has them.

A batch travels as a few arrays, however many messages it has, and each is packed in one go. Kinds are
single letters: `f` float8, `t` text, `i` int4, `l` int8, `y` bytea, `o` bool; in capitals arrays of them.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cardoon.exceptions import OperationalError

OIDS: Mapping[str, int] = {
    "f": 701,
    "t": 25,
    "i": 23,
    "l": 20,
    "y": 17,
    "o": 16,
    "F": 1022,
    "T": 1009,
    "I": 1007,
    "L": 1016,
    "Y": 1001,
    "O": 1000,
}
"""PostgreSQL's own numbers of types, which never change."""

_FIXED = {"f": "d", "i": "i", "l": "q", "o": "?"}
_SIZES = {"f": 8, "i": 4, "l": 8, "o": 1}
_HEAD = struct.Struct("!iiIii")
_SIZE = struct.Struct("!i")
_NULL = _SIZE.pack(-1)


def encode(kind: str, value: Any) -> bytes:
    """An argument that is not NULL.

    Raises `OperationalError` for what PostgreSQL cannot keep: text with a NUL character or half of a
    surrogate pair, and numbers that are too large or not finite.
    """
    try:
        if kind.isupper():
            return _encode_array(kind.lower(), value)
        return _encode_one(kind, value)
    except (UnicodeError, struct.error) as error:
        raise OperationalError(f"the store cannot keep this value: {error}") from error


def decoder(kind: str) -> Callable[[bytes], Any]:
    """What makes a value of a column's bytes."""
    return _DECODERS[kind]


def _encode_one(kind: str, value: Any) -> bytes:
    if kind in _WRITERS:
        return _WRITERS[kind](value)
    if kind == "f":
        return struct.pack("!d", _finite(value))
    return struct.pack("!" + _FIXED[kind], value)


def _encode_array(kind: str, values: Sequence[Any]) -> bytes:
    count = len(values)
    if count == 0:
        return struct.pack("!iiI", 0, 0, OIDS[kind])
    head = _HEAD.pack(1, 1 if None in values else 0, OIDS[kind], count, 1)
    if kind in _FIXED and None not in values:
        if kind == "f":
            for value in values:
                _finite(value)
        size = _SIZES[kind]
        flat: list[Any] = [size] * (2 * count)
        flat[1::2] = values
        return head + struct.pack("!" + f"i{_FIXED[kind]}" * count, *flat)
    write = _WRITERS.get(kind) or functools.partial(_encode_one, kind)
    parts = [head]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            one = write(value)
            parts += (_SIZE.pack(len(one)), one)
    return b"".join(parts)


def _text(value: str) -> bytes:
    encoded = value.encode()
    if b"\0" in encoded:
        raise OperationalError("the store cannot keep text with a NUL character; leave it out")
    return encoded


_WRITERS: Mapping[str, Callable[[Any], bytes]] = {"t": _text, "y": bytes}


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise OperationalError(f"the store cannot keep this number: {value}")
    return value


def _fixed(layout: str) -> Callable[[bytes], Any]:
    unpack = struct.Struct(layout).unpack

    def decode(value: bytes) -> Any:
        return unpack(value)[0]

    return decode


def _decode_integers(value: bytes) -> list[int]:
    """An int4 array without NULLs."""
    if len(value) < _HEAD.size:
        return []
    count = (len(value) - _HEAD.size) // 8
    return list(struct.unpack_from("!" + "4xi" * count, value, _HEAD.size))


_DECODERS: Mapping[str, Callable[[bytes], Any]] = {
    "f": _fixed("!d"),
    "i": _fixed("!i"),
    "l": _fixed("!q"),
    "o": _fixed("!?"),
    "t": bytes.decode,
    "y": bytes,
    "I": _decode_integers,
}
