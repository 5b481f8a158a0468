"""YAML bodies, in a safe subset that can hold what JSON bodies hold, and nothing else.

Needs the package `PyYAML`. A body is one document. No anchors and aliases, so a small body is a small
value; no tags but those of our own types (`!datetime '2026-10-21T12:00:00'`); null, true, numbers and
`.inf` are read as in the YAML 1.2 core schema, so `yes` and `1:30` are text. Keys are scalars.

The value is built from the parser's events and not by the library's constructors, so that there is no
object that a body could ask for.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from cardoon.exceptions import EncodeError, Refusal, RefusedError
from cardoon.message import tags
from cardoon.message.plain import plain_value

MAX_DEPTH = 200
"""Collections within one another: well below where Python's own recursion ends."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_NOT_YAML = (yaml.YAMLError, RecursionError, *tags.NOT_TAGGED)
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_STRING = "tag:yaml.org,2002:str"
_PAGE = 1 << 30
"""Characters of a line: longer than any, so that none is folded."""


def encode(value: Any) -> bytes:
    """Write a value; `EncodeError` for one that cannot be carried."""
    try:
        text: str = yaml.dump(
            value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=_PAGE
        )
        return text.encode()
    except EncodeError:
        raise
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"yaml cannot carry this value: {error}") from error


def decode(body: bytes) -> Any:
    """Read a value; `RefusedError` for anything that is not exactly one document of the subset."""
    try:
        return _build(yaml.parse(body.decode(), Loader=_LOADER))
    except _NOT_YAML as error:
        # The error's own words may quote the body, which must not get into logs.
        detail = f"not yaml: {type(error).__name__}"
        raise RefusedError(Refusal.UNDECODABLE, detail) from error


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("is_mapping", "items", "tag")

    def __init__(self, *, is_mapping: bool, tag: str | None) -> None:
        self.is_mapping = is_mapping
        self.tag = tag
        self.items: list[Any] = []

    def close(self) -> Any:
        """The value that it is."""
        if not self.is_mapping:
            return self.items if self.tag is None else _untag(self.tag, self.items)
        if self.tag is not None:
            raise ValueError("a mapping with a tag")
        keys, values = self.items[::2], self.items[1::2]
        return tags.make_object(list(zip(keys, values, strict=True)))


def _build(events: Iterator[Any]) -> Any:
    """The one value of a stream of events. `ValueError` for what is outside of the subset."""
    within: list[_Open] = []
    found: list[Any] = []
    for event in events:
        if getattr(event, "anchor", None) is not None:  # of an alias, too
            raise ValueError("an anchor or an alias")
        match event:
            case yaml.ScalarEvent():
                value = _read_scalar(event)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                if len(within) == MAX_DEPTH:
                    raise ValueError("too deep")
                is_mapping = isinstance(event, yaml.MappingStartEvent)
                within.append(_Open(is_mapping=is_mapping, tag=event.tag))
                continue
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                value = within.pop().close()
            case yaml.DocumentStartEvent() if event.tags or event.version:
                raise ValueError("a directive")
            case _:
                continue
        (within[-1].items if within else found).append(value)
    [value] = found
    return value


def _read_scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag is not None:
        return _untag(event.tag, text)
    if not event.implicit[0]:  # in quotes
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError("a number too large for a float")
        return number
    return text


def _untag(tag: str, content: Any) -> Any:
    name = tag[1:] if tag.startswith("!") else ""
    value = int(content) if name == "timedelta" else content
    return tags.untag_value({tags.TYPE: name, tags.VALUE: value})


class _Dumper(_DUMPER):  # type: ignore[misc]  # chosen at import
    """Writes the subset. Strings are always in quotes, so that none can be taken for a number."""

    def ignore_aliases(self, _value: Any) -> bool:
        """What is in two places is written twice."""
        return True


def _write_tagged(dumper: Any, value: Any) -> Any:
    tagged = tags.find_tag(value)
    if tagged is None:
        return dumper.represent_data(plain_value(value))
    tag, content = f"!{tagged[tags.TYPE]}", tagged[tags.VALUE]
    if isinstance(content, list):
        return dumper.represent_sequence(tag, content)
    return dumper.represent_scalar(tag, str(content), style='"')


def _write_mapping(dumper: Any, value: dict[Any, Any]) -> Any:
    for key in value:
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise EncodeError(f"yaml cannot carry a key of type {type(key).__qualname__}; use text")
    return dumper.represent_mapping("tag:yaml.org,2002:map", list(value.items()))


_WRITERS: dict[type, Callable[[Any, Any], Any]] = {
    type(None): _DUMPER.represent_none,
    bool: _DUMPER.represent_bool,
    int: lambda dumper, value: dumper.represent_int(int(value)),
    float: lambda dumper, value: dumper.represent_float(float(value)),
    str: lambda dumper, value: dumper.represent_scalar(_STRING, str.__str__(value), style='"'),
    list: _DUMPER.represent_list,
    tuple: _DUMPER.represent_list,
    dict: _write_mapping,
    enum.Enum: lambda dumper, value: dumper.represent_data(value.value),
    object: _write_tagged,
}
# Those for subclasses, in the order of a class's bases: what a subclass is based on says how it is written.
_Dumper.yaml_representers = {}
_Dumper.yaml_multi_representers = _WRITERS
