"""Unique tasks and limits: from the arguments of a call to the keys that a broker counts.

A key tells the task's name and a digest, never an argument: what is limited, and not for whom.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from cardoon.broker import Limit, Unique
from cardoon.exceptions import InvalidTaskError
from cardoon.message import tags
from cardoon.message.serializers import JSON, encode_body
from cardoon.option import integer, parse_rate, seconds

KeySource: TypeAlias = "tuple[str, ...] | Callable[..., str]"
"""The names of arguments, or what makes text of all of them."""
NameArguments: TypeAlias = Callable[[Sequence[Any], Mapping[str, Any]], Mapping[str, Any]]
"""Says which argument is which, defaults included."""

MAX_KEY_BYTES = 320
"""A task's name, which has at most 256, and a digest."""
MAX_AT_A_TIME = 1_000_000
MAX_PERIOD = 366 * 86400.0
_DIGEST_DIGITS = 32
"""Hexadecimal; 128 bits, since nobody gains from two tasks that take turns by accident."""

_period = seconds(0.001, MAX_PERIOD)


class Bounds(NamedTuple):
    """What a task or a call says; None where it says nothing."""

    unique: bool | float | None = None
    """True until it has ended; seconds, for that long after its sending and until it has ended."""
    unique_key: KeySource | None = None
    """Which calls are the same; by default those with the same arguments."""
    concurrency_limit: int | None = None
    limit_key: KeySource | None = None
    """Which calls take turns; by default all of the task."""
    cluster_rate_limit: str | float | None = None

    def over(self, general: Bounds | None) -> Bounds:
        """These, and where they say nothing, the general ones."""
        if general is None:
            return self
        return Bounds(
            general.unique if self.unique is None else self.unique,
            self.unique_key or general.unique_key,
            general.concurrency_limit if self.concurrency_limit is None else self.concurrency_limit,
            self.limit_key or general.limit_key,
            (
                general.cluster_rate_limit
                if self.cluster_rate_limit is None
                else self.cluster_rate_limit
            ),
        )


_NOTHING = Bounds()


def said_by(source: Any) -> Bounds | None:
    """What a task, or the options of a call, say; None if that is nothing."""
    found = Bounds(
        source.unique,
        source.unique_key,
        source.concurrency_limit,
        source.limit_key,
        source.cluster_rate_limit,
    )
    return None if found == _NOTHING else found


def cluster_rate(value: object) -> Any:
    """A rate over all workers, as it was given; `ValueError` for one that cannot be kept."""
    rate = parse_rate(value)  # type: ignore[arg-type]  # raises for what it does not take
    if rate is not None and not 1 / MAX_PERIOD <= rate <= 1e6:
        raise ValueError("is not between one a year and a million a second")
    return value


def uniqueness(value: object) -> bool | float:
    """True, False, or a period: seconds or a `timedelta`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float, timedelta)):
        return _period(value)
    raise ValueError("is neither True nor False nor a number of seconds")


def key_source(value: object) -> KeySource:
    """The name of an argument, several of them, or a callable."""
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value):
        return tuple(value)
    if callable(value):
        return value
    raise ValueError("is neither the name of an argument, nor several, nor a callable")


places = integer(0, MAX_AT_A_TIME)


def check_names(task: str, bounds: Bounds, parameters: Collection[str]) -> None:
    """`InvalidTaskError` for a key that is made of what the task does not take."""
    for option in ("unique_key", "limit_key"):
        source = getattr(bounds, option)
        for name in source if isinstance(source, tuple) else ():
            if name not in parameters:
                raise InvalidTaskError(_no_such(task, option, name, parameters))


def bind(
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    bounds: Bounds,
    *,
    name_arguments: NameArguments | None,
    is_composed: bool,
) -> tuple[Unique | None, Limit | None]:
    """What a broker is told of a call.

    `InvalidTaskError` for a key that cannot be made: an argument is not given or has no name here, or
    is, in a composed call, the result of another one; `EncodeError` if it cannot travel.
    """
    call = _Call(task, args, kwargs, name_arguments, is_composed=is_composed)
    unique = None
    if bounds.unique:
        period = 0.0 if bounds.unique is True else float(bounds.unique)
        unique = Unique(call.key("unique_key", bounds.unique_key), period)
    rate = parse_rate(bounds.cluster_rate_limit)
    if not rate and not bounds.concurrency_limit:
        return unique, None
    key = task if bounds.limit_key is None else call.key("limit_key", bounds.limit_key)
    return unique, Limit(key, bounds.concurrency_limit or 0, 1 / rate if rate else 0.0)


class _Call(NamedTuple):
    """The arguments that keys are made of."""

    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    name_arguments: NameArguments | None
    is_composed: bool

    def key(self, option: str, source: KeySource | None) -> str:
        """The key that its source says."""
        plain = json.loads(encode_body(self._value(option, source), JSON), object_hook=_ordered)
        text = _text_of(plain)
        content = f"cardoon/1/{option}\0{self.task}\0{text}".encode()
        return f"{self.task}/{hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]}"

    def _value(self, option: str, source: KeySource | None) -> Any:
        if source is None:
            return self._named(option)
        if isinstance(source, tuple):
            return [self._argument(option, name) for name in source]
        if self.is_composed:
            raise InvalidTaskError(
                f"{self.task}: {option} is a function of all arguments, and one of them is the "
                "result of another task; name arguments that are given here"
            )
        try:
            text = source(*self.args, **self.kwargs)
        except Exception as error:  # the application's own code may raise anything
            raise InvalidTaskError(f"{self.task}: {option} failed: {error!r}") from error
        if not isinstance(text, str):
            raise InvalidTaskError(f"{self.task}: {option} returned {text!r}, which is not text")
        return text

    def _argument(self, option: str, name: str) -> Any:
        if name in self.kwargs:
            return self.kwargs[name]
        found = self._named(option)
        if name not in found:
            raise InvalidTaskError(_no_such(self.task, option, name, found))
        return found[name]

    def _named(self, option: str) -> Mapping[str, Any]:
        """All arguments, by name."""
        if self.is_composed:
            raise InvalidTaskError(
                f"{self.task}: {option} is made of arguments by position, which the result of "
                "another task shifts; pass them by keyword"
            )
        if self.name_arguments is not None:
            return self.name_arguments(self.args, self.kwargs)
        if self.args:
            raise InvalidTaskError(
                f"{self.task}: {option} is made of arguments by name, and the task is not known "
                "here; pass them by keyword"
            )
        return self.kwargs


def _no_such(task: str, option: str, name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known) or 'none'}"
    return f"task {task!r}: {option}={name!r} is not one of its arguments; {hint}"


def _text_of(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _ordered(members: dict[str, Any]) -> dict[str, Any]:
    """A set's members in an order that no process's hash seed decides."""
    if members.get(tags.TYPE) in {"set", "frozenset"}:
        return {**members, tags.VALUE: sorted(members[tags.VALUE], key=_text_of)}
    return members
