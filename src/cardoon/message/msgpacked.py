"""MessagePack bodies, strictly: what JSON bodies hold, and bytes and keys that are numbers as they are.

Needs the package `msgpack`. Integers have 64 bits at most; tuples arrive as lists; the types of `tags`
are maps with their reserved keys, as in JSON.
"""

from __future__ import annotations

from typing import Any, Never

import msgpack

from cardoon.exceptions import EncodeError, Refusal, RefusedError
from cardoon.message import tags
from cardoon.message.plain import plain_value

_KEY = msgpack.packb(tags.TYPE)
_NOT_MSGPACK = (RecursionError, msgpack.exceptions.UnpackException, *tags.NOT_TAGGED)


def encode(value: Any) -> bytes:
    """Pack a value; `EncodeError` for one that cannot be carried."""
    tagged = 0

    def write(unknown: object) -> Any:
        nonlocal tagged
        found = tags.find_tag(unknown)
        if found is None:
            if isinstance(unknown, int):
                raise EncodeError(
                    "msgpack carries integers of at most 64 bits, and timedeltas of 290,000 years; pass "
                    "larger ones as text"
                )
            return plain_value(unknown)
        tagged += 1
        return found

    try:
        body: bytes = msgpack.packb(value, default=write)
        # A key that the receiver could not take, such as a tuple, is better known here than there.
        msgpack.unpackb(body, strict_map_key=False)
    except EncodeError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodeError(f"msgpack cannot carry this value: {error}") from error
    if body.count(_KEY) != tagged and _count_keys(body) != tagged:
        raise EncodeError(f"msgpack: the key {tags.TYPE!r} is reserved; rename it in the value")
    return body


def decode(body: bytes) -> Any:
    """Unpack a value; `RefusedError` for anything that is not exactly one.

    The lengths that a body claims are compared with what is there before anything is built, so that
    none of them can ask for memory.
    """
    try:
        _check_lengths(body)
        return msgpack.unpackb(
            body,
            strict_map_key=False,
            object_pairs_hook=tags.make_tagged if _KEY in body else tags.make_object,
            ext_hook=_refuse_extension,
            timestamp=3,
        )
    except _NOT_MSGPACK as error:
        # The error's own words may quote the body, which must not get into logs.
        detail = f"not msgpack: {type(error).__name__}"
        raise RefusedError(Refusal.UNDECODABLE, detail) from error


def _check_lengths(body: bytes) -> None:
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(body)), strict_map_key=False)
    unpacker.feed(body)
    unpacker.skip()


def _refuse_extension(code: int, _content: bytes) -> Never:
    raise ValueError(f"extension type {code}")


def _count_keys(body: bytes) -> int:
    """How often the reserved key is one: its bytes may also stand within text and bytes."""
    found = 0

    def count(pairs: list[tuple[Any, Any]]) -> None:
        nonlocal found
        found += sum(key == tags.TYPE for key, _ in pairs)

    msgpack.unpackb(body, strict_map_key=False, object_pairs_hook=count)
    return found
