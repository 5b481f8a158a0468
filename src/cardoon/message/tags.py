"""Values that JSON has no type for, as objects with two reserved keys.

    {"__type__": "datetime", "__value__": "2026-10-21T12:00:00+02:00"}

The list is closed: what arrives becomes one of these types or is refused. No class is ever found by
a name in a message.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from cardoon.exceptions import EncodeError

TYPE = "__type__"
VALUE = "__value__"

NOT_TAGGED = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
"""What the constructors raise between them for what they do not like."""
_MICROSECOND = dt.timedelta(microseconds=1)


def find_tag(value: object) -> dict[str, Any] | None:
    """Return the tagged object for a value of one of these types; None for any other value."""
    # Subclasses arrive as what they are based on, so the base says how they are written.
    match value:
        case dt.datetime():  # Before `date`, of which it is a subclass.
            _check_offset(value)
            return {TYPE: "datetime", VALUE: dt.datetime.isoformat(value)}
        case dt.date():
            return {TYPE: "date", VALUE: dt.date.isoformat(value)}
        case dt.time():
            _check_offset(value)
            return {TYPE: "time", VALUE: dt.time.isoformat(value)}
        case dt.timedelta():
            return {TYPE: "timedelta", VALUE: value // _MICROSECOND}
        case decimal.Decimal():
            return {TYPE: "decimal", VALUE: str(value)}
        case uuid.UUID():
            return {TYPE: "uuid", VALUE: str(value)}
        case bytes() | bytearray():
            return {TYPE: "bytes", VALUE: base64.b64encode(value).decode("ascii")}
        case set():
            return {TYPE: "set", VALUE: _members(value)}
        case frozenset():
            return {TYPE: "frozenset", VALUE: _members(value)}
        case _:
            return None


def untag_value(tagged: dict[str, Any]) -> Any:
    """Return the value of a tagged object; one of `NOT_TAGGED` unless `find_tag` could make it."""
    if len(tagged) != 2:
        raise ValueError("a tagged object has two keys")
    value = tagged[VALUE]
    restored = _RESTORERS[tagged[TYPE]](value)
    if not isinstance(restored, (set, frozenset)) and find_tag(restored) != tagged:
        raise ValueError("not as it is written here")
    return restored


def make_object(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict from its members; `ValueError` if a key is there twice."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("one key twice")
    return members


def make_tagged(pairs: list[tuple[Any, Any]]) -> Any:
    """A dict from its members, or the value that they are tagged as."""
    members = make_object(pairs)
    return untag_value(members) if TYPE in members else members


def _members(value: AbstractSet[Any]) -> list[Any]:
    # They would arrive as lists, which no set can hold.
    if any(isinstance(one, tuple) for one in value):
        raise EncodeError("cannot carry tuples within a set; pass a list of them")
    return list(value)


def _check_offset(moment: dt.datetime | dt.time) -> None:
    # `fromisoformat` of Python 3.11 drops the fraction.
    offset = moment.utcoffset()
    if offset is not None and offset.microseconds:
        raise EncodeError(f"cannot carry a UTC offset of {offset}; use whole seconds")


def _restore_timedelta(microseconds: Any) -> dt.timedelta:
    return dt.timedelta(microseconds=microseconds)


def _restore_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _restore_set(members: Any) -> set[Any]:
    if not isinstance(members, list):
        raise TypeError("the members of a set are a list")
    restored = set(members)
    if len(restored) != len(members):
        raise ValueError("one member twice")
    return restored


def _restore_frozenset(members: Any) -> frozenset[Any]:
    return frozenset(_restore_set(members))


_RESTORERS: dict[str, Callable[[Any], Any]] = {
    "datetime": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timedelta": _restore_timedelta,
    "decimal": decimal.Decimal,
    "uuid": uuid.UUID,
    "bytes": _restore_bytes,
    "set": _restore_set,
    "frozenset": _restore_frozenset,
}
