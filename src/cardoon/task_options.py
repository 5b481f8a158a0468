"""The options of `@app.task`, and the check of a call's arguments against the function."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cardoon import bounds
from cardoon.exceptions import InvalidTaskError
from cardoon.option import (
    Parser,
    boolean,
    dictionary,
    expiry,
    integer,
    optional,
    priority,
    rate,
    sandbox,
    seconds,
    text,
)
from cardoon.option import parse_rate as parse_rate  # noqa: PLC0414  # known from here, too
from cardoon.queues import parse_queue
from cardoon.retrying import NO_LIMIT
from cardoon.routes import exchange_name


def _exceptions(value: object) -> tuple[type[BaseException], ...]:
    kinds = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ValueError("is not a tuple of exception classes")  # noqa: TRY004
    return kinds


def _backoff(value: object) -> bool | float:
    if isinstance(value, bool):
        return value
    return float(seconds(0, 366 * 86400)(value))


_FLAG = optional(boolean)
_LIMIT = optional(seconds(0.01, 30 * 86400))

TASK_OPTIONS: Mapping[str, Parser] = {
    "acks_late": _FLAG,
    "acks_on_failure_or_timeout": _FLAG,
    "autoretry_for": _exceptions,
    "bind": boolean,
    "cluster_rate_limit": optional(bounds.cluster_rate),
    "compression": optional(text),
    "concurrency_limit": optional(bounds.places),
    "default_retry_delay": seconds(0, 366 * 86400),
    "dont_autoretry_for": _exceptions,
    "exchange": optional(exchange_name),
    "expires": optional(expiry),
    "ignore_result": _FLAG,
    "limit_key": optional(bounds.key_source),
    "max_crashes": optional(integer(1, 100)),
    "max_retries": optional(integer(0, NO_LIMIT - 1)),
    "priority": optional(priority),
    "pydantic": boolean,
    "pydantic_context": optional(dictionary),
    "pydantic_dump_kwargs": optional(dictionary),
    "pydantic_strict": boolean,
    "queue": optional(parse_queue),
    "rate_limit": rate,
    "reject_on_worker_lost": _FLAG,
    "retry_backoff": _backoff,
    "retry_backoff_max": seconds(0, 366 * 86400),
    "retry_jitter": boolean,
    "retry_kwargs": dictionary,
    "routing_key": optional(text),
    "sandbox": optional(sandbox),
    "serializer": optional(text),
    "soft_time_limit": _LIMIT,
    "store_errors_even_if_ignored": _FLAG,
    "throws": _exceptions,
    "time_limit": _LIMIT,
    "track_started": _FLAG,
    "trail": boolean,
    "typing": boolean,
    "unique": optional(bounds.uniqueness),
    "unique_key": optional(bounds.key_source),
}


CALL_OPTIONS = frozenset(
    {
        "compression",
        "exchange",
        "expires",
        "ignore_result",
        "priority",
        "queue",
        "routing_key",
        "serializer",
        "soft_time_limit",
        "time_limit",
    }
)
"""Those that are said to the worker in each message, and that a route may give instead."""


def check_task_options(task: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as their parsers read them; `InvalidTaskError` names option, value and remedy."""
    checked = {}
    for name, value in options.items():
        if name not in TASK_OPTIONS:
            close = difflib.get_close_matches(name, TASK_OPTIONS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidTaskError(f"task {task!r}: unknown option {name!r}{hint}")
        try:
            checked[name] = TASK_OPTIONS[name](value)
        except (TypeError, ValueError) as error:
            raise InvalidTaskError(f"task {task!r}: {name}={value!r} {error}") from None
    for name in ("pydantic_context", "pydantic_dump_kwargs", "pydantic_strict"):
        if checked.get(name) and not checked.get("pydantic"):
            raise InvalidTaskError(f"task {task!r}: {name} needs pydantic=True")
    soft, hard = checked.get("soft_time_limit"), checked.get("time_limit")
    if soft and hard and soft >= hard:
        raise InvalidTaskError(
            f"task {task!r}: soft_time_limit={soft} is not below time_limit={hard}"
        )
    return checked


class ArgumentCheck:
    """Whether arguments fit a function; quick for the usual call, exact in its words."""

    __slots__ = ("_least", "_most", "_name", "_signature")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        try:
            self._signature = inspect.signature(function)
        except ValueError:  # functions written in C may tell nothing of what they take
            self._signature = inspect.signature(_take_anything)
        self._least, self._most = _positional_range(self._signature)

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """`InvalidTaskError`, which is a `TypeError`, if the call would fail to bind."""
        if not kwargs and self._least <= len(args) <= self._most:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            hint = ""
            if "unexpected keyword" in str(error):
                hint = self._suggestion(kwargs)
            raise InvalidTaskError(f"{self._name}(): {error}{hint}") from None

    def names(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments by name, defaults included."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidTaskError(f"{self._name}(): {error}") from None
        bound.apply_defaults()
        named = dict(bound.arguments)
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                named.update(named.pop(parameter.name))
        return named

    def check_names(self, wanted: bounds.Bounds) -> None:
        """`InvalidTaskError` for keys that are made of what the function does not take."""
        parameters = self._signature.parameters
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            bounds.check_names(self._name, wanted, parameters)

    def _suggestion(self, kwargs: Mapping[str, Any]) -> str:
        for name in kwargs:
            if name not in self._signature.parameters:
                close = difflib.get_close_matches(name, self._signature.parameters, n=1)
                if close:
                    return f"; did you mean {close[0]!r}?"
        return ""


def _take_anything(*_args: Any, **_kwargs: Any) -> None:
    """Stands in for a function without a signature."""


def _positional_range(signature: inspect.Signature) -> tuple[int, int]:
    """How many positional arguments alone are enough, and how many are allowed."""
    least = most = 0
    for parameter in signature.parameters.values():
        match parameter.kind:
            case parameter.POSITIONAL_ONLY | parameter.POSITIONAL_OR_KEYWORD:
                most += 1
                least += parameter.default is parameter.empty
            case parameter.VAR_POSITIONAL:
                most = 1 << 30
            case parameter.KEYWORD_ONLY if parameter.default is parameter.empty:
                return 1, 0  # never enough without keywords
            case _:
                pass
    return least, most
