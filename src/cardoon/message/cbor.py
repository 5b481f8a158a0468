"""Strict deterministic CBOR (RFC 8949, 4.2.1): each value has one encoding, and no other is read.

A parser that accepts two spellings of one value lets a message be changed without its meaning
being changed, and lets two programs read one message differently. So shortest heads only, map keys
strictly ascending, valid UTF-8, no floats, no tags, no indefinite lengths, and nothing behind the
end. Only `MessageError` comes out of the reading half, whatever the bytes.

The `read_*` functions take the bytes and a place in them, and return a value with the place behind
it. They exist because most of what we read has one known type and bound at each place.
"""

from __future__ import annotations

from typing import TypeAlias

from cardoon.exceptions import EncodeError, MessageError

Key: TypeAlias = int | bytes | str
"""Booleans and null are no keys: in Python `True == 1`, so two keys would become one."""
Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[Key, Value] | None"

MAX_DEPTH = 8
"""Arrays and maps within each other; nothing we sign needs more than three."""

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
"""Major types: the upper three bits of an item's first byte (RFC 8949, 3.1)."""

_SIMPLE_VALUES = {0xF4: False, 0xF5: True, 0xF6: None}
_NULL, _FALSE, _TRUE = b"\xf6", b"\xf4", b"\xf5"
_BYTE = [bytes((number,)) for number in range(256)]
_HEAD_SIZES = {24: 2, 25: 3, 26: 5, 27: 9}
_LEAST_ARGUMENTS = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""What a head of that size may hold; less has a shorter head."""


def encode(value: Value) -> bytes:
    """Encode a value; `EncodeError` for what the profile does not have."""
    parts: list[bytes] = []
    _write(value, parts, MAX_DEPTH)
    return b"".join(parts)


def head(major: int, argument: int) -> bytes:
    """The shortest head of an item; `EncodeError` for an argument beyond 64 bits."""
    initial = major << 5
    if argument < 24:
        return _BYTE[initial | argument]
    if argument < 1 << 8:
        return _BYTE[initial | 24] + _BYTE[argument]
    if argument < 1 << 16:
        return _BYTE[initial | 25] + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return _BYTE[initial | 26] + argument.to_bytes(4, "big")
    if argument < 1 << 64:
        return _BYTE[initial | 27] + argument.to_bytes(8, "big")
    raise EncodeError("CBOR: an integer of more than 64 bits; keep within 64")


def byte_string(content: bytes) -> bytes:
    """A byte string with its head."""
    return head(BYTES, len(content)) + content


def text_string(content: str) -> bytes:
    """A text string with its head; `EncodeError` for a lone surrogate, which UTF-8 has not."""
    try:
        encoded = content.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"CBOR: text that is not Unicode: {error.reason}") from error
    return head(TEXT, len(encoded)) + encoded


def decode(data: bytes) -> Value:
    """Decode bytes that are exactly one value."""
    value, end = decode_prefix(data, 0)
    if end != len(data):
        raise MessageError(f"CBOR: {len(data) - end} bytes behind the end of the value")
    return value


def decode_prefix(data: bytes, at: int) -> tuple[Value, int]:
    """Decode the value that starts at `at`; return it with the place behind it."""
    return _read(data, at, MAX_DEPTH)


def read_head(data: bytes, at: int, major: int) -> tuple[int, int]:
    """Read the head of an item that must have this major type; return its argument."""
    # Runs a dozen times for every message, so the two most frequent forms come first.
    size = len(data)
    if at >= size:
        raise MessageError(f"CBOR: ends at byte {at}, where an item should start")
    short = data[at] - (major << 5)
    if 0 <= short < 24:
        return short, at + 1
    if short == 24 and at + 1 < size and (argument := data[at + 1]) >= 24:
        return argument, at + 2
    if not 24 <= short < 28:
        raise MessageError(f"CBOR: no item of major type {major} and definite length at byte {at}")
    end = at + _HEAD_SIZES[short]
    if end > size:
        raise MessageError(f"CBOR: ends within the head at byte {at}")
    argument = int.from_bytes(data[at + 1 : end], "big")
    if argument < _LEAST_ARGUMENTS[short]:
        raise MessageError(f"CBOR: a head that is not the shortest at byte {at}")
    return argument, end


def read_uint(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Read an unsigned integer of at most `limit`."""
    number, end = read_head(data, at, UINT)
    if number > limit:
        raise MessageError(f"CBOR: integer at byte {at} is over {limit}")
    return number, end


def read_bytes(data: bytes, at: int, limit: int) -> tuple[bytes, int]:
    """Read a byte string of at most `limit` bytes."""
    length, start = read_head(data, at, BYTES)
    end = start + length
    if length > limit or end > len(data):
        raise MessageError(f"CBOR: {length} bytes at byte {at}: over {limit}, or over the end")
    return data[start:end], end


def read_text(data: bytes, at: int, limit: int) -> tuple[str, int]:
    """Read a text string of at most `limit` bytes of UTF-8."""
    length, start = read_head(data, at, TEXT)
    end = start + length
    if length > limit or end > len(data):
        raise MessageError(f"CBOR: text of {length} at byte {at}: over {limit}, or over the end")
    try:
        return data[start:end].decode(), end
    except UnicodeDecodeError as error:
        raise MessageError(f"CBOR: text at byte {at} is not UTF-8") from error


def _write(value: Value, parts: list[bytes], depth: int) -> None:
    match value:
        case list() | dict() if depth == 0:
            raise EncodeError(f"CBOR: nested more than {MAX_DEPTH} deep; flatten the value")
        case list():
            parts.append(head(ARRAY, len(value)))
            for item in value:
                _write(item, parts, depth - 1)
        case dict():
            parts.append(head(MAP, len(value)))
            entries = {_encode_key(key): item for key, item in value.items()}
            for key in sorted(entries):
                parts.append(key)
                _write(entries[key], parts, depth - 1)
        case _:
            parts.append(_encode_scalar(value))


def _encode_scalar(value: int | bytes | str | None) -> bytes:
    match value:
        case None:
            return _NULL
        case bool():  # Before `int`, of which it is a subclass.
            return _TRUE if value else _FALSE
        case int():
            return head(NEGATIVE, -1 - value) if value < 0 else head(UINT, value)
        case bytes():
            return byte_string(value)
        case str():
            return text_string(value)
        case _:
            raise EncodeError(f"CBOR: no encoding for {type(value).__name__}")


def _encode_key(key: Key) -> bytes:
    if isinstance(key, bool) or not isinstance(key, int | bytes | str):
        raise EncodeError(f"CBOR: {type(key).__name__} is no key; use int, bytes or str")
    return _encode_scalar(key)


def _read(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if at >= len(data):
        raise MessageError(f"CBOR: ends at byte {at}, where an item should start")
    major = data[at] >> 5
    if major == UINT:
        return read_head(data, at, UINT)
    if major == NEGATIVE:
        argument, end = read_head(data, at, NEGATIVE)
        return -1 - argument, end
    if major == BYTES:
        return read_bytes(data, at, len(data))
    if major == TEXT:
        return read_text(data, at, len(data))
    if major in {ARRAY, MAP} and depth == 0:
        raise MessageError(f"CBOR: nested more than {MAX_DEPTH} deep at byte {at}")
    if major == ARRAY:
        return _read_array(data, at, depth - 1)
    if major == MAP:
        return _read_map(data, at, depth - 1)
    return _read_simple(data, at)


def _read_array(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    count, end = read_head(data, at, ARRAY)
    items: list[Value] = []
    for _ in range(count):
        item, end = _read(data, end, depth)
        items.append(item)
    return items, end


def _read_map(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    count, end = read_head(data, at, MAP)
    entries: dict[Key, Value] = {}
    previous = b""
    for _ in range(count):
        start = end
        key, end = _read(data, start, 0)
        if key is None or isinstance(key, bool | list | dict):
            raise MessageError(f"CBOR: a key at byte {start} that is no integer, bytes or text")
        encoded = data[start:end]
        if encoded <= previous:
            raise MessageError(f"CBOR: keys not strictly ascending at byte {start}")
        previous = encoded
        entries[key], end = _read(data, end, depth)
    return entries, end


def _read_simple(data: bytes, at: int) -> tuple[Value, int]:
    initial = data[at]
    if initial not in _SIMPLE_VALUES:
        raise MessageError(f"CBOR: a tag, float or unknown simple value {initial:#04x} at {at}")
    return _SIMPLE_VALUES[initial], at + 1
