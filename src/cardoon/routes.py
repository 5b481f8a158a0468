"""`task_routes` as a value: which options a task's name, or code of yours, gives its messages.

Reading the setting imports and calls nothing: only who sends a task asks.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cardoon.option import (
    Parser,
    boolean,
    dictionary,
    expiry,
    integer,
    priority,
    seconds,
    text,
)
from cardoon.queues import Exchange, Queue, parse_queue

Route: TypeAlias = Mapping[str, Any]
"""Options of `apply_async`, checked."""
Name: TypeAlias = "str | re.Pattern[str]"

_LIMIT = seconds(0.01, 30 * 86400)
_YEAR = 366 * 86400


def exchange_name(value: object) -> str:
    """The name of an exchange, given as itself or as an `Exchange`; "" is the one of all queues."""
    return text(value.name if isinstance(value, Exchange) else value)


ROUTE_OPTIONS: Mapping[str, Parser] = {
    "queue": parse_queue,
    "exchange": exchange_name,
    "routing_key": text,
    "priority": priority,
    "serializer": text,
    "compression": text,
    "countdown": seconds(0, _YEAR),
    "expires": expiry,
    "headers": dictionary,
    "shadow": text,
    "ignore_result": boolean,
    "max_retries": integer(0, (1 << 31) - 1),
    "time_limit": _LIMIT,
    "soft_time_limit": _LIMIT,
}
"""The options of `apply_async` that a route may give: those that can be the same for many calls."""

_ONE_CALL = "belongs to one call, and a route is for many"
_PUBLISH = "belongs to the send; set task_publish_timeout, task_publish_retry"
_NOT_IN_ROUTES = {
    **dict.fromkeys(("task_id", "eta", "link", "link_error", "retries"), _ONE_CALL),
    **dict.fromkeys(("root_id", "parent_id", "add_to_parent"), _ONE_CALL),
    **dict.fromkeys(("timeout", "retry", "retry_policy"), _PUBLISH),
    "delivery_mode": "changes nothing: every message is durable",
    "exchange_type": "belongs to the Exchange in task_queues",
}


def parse_route(value: object) -> Route:
    """The options that a route is: a queue, its name, or a dict of options."""
    if isinstance(value, (str, Queue)):
        return {"queue": parse_queue(value)}
    if not isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004  # as all parsers
            f"has {value!r} for a route; use a queue's name or a dict of options"
        )
    checked = {}
    for name, one in value.items():
        if name not in ROUTE_OPTIONS:
            if name in _NOT_IN_ROUTES:
                raise ValueError(f"has {name!r} in a route, which {_NOT_IN_ROUTES[name]}")
            close = difflib.get_close_matches(str(name), ROUTE_OPTIONS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"has an unknown option {name!r} in a route{hint}")
        try:
            if one is not None:
                checked[name] = ROUTE_OPTIONS[name](one)
        except (TypeError, ValueError) as error:
            raise ValueError(f"has {name}={one!r} in a route, which {error}") from None
    soft, hard = checked.get("soft_time_limit"), checked.get("time_limit")
    if soft and hard and soft >= hard:
        raise ValueError(f"has soft_time_limit={soft} in a route, which is not below {hard}")
    return checked


def is_glob(name: str) -> bool:
    """Whether a name stands for several."""
    return any(mark in name for mark in "*?[")


def matches(pattern: Name, name: str) -> bool:
    """Whether a pattern, glob or compiled, fits a task's name; one that is neither must be equal."""
    if isinstance(pattern, str):
        return fnmatch.fnmatchcase(name, pattern) if is_glob(pattern) else pattern == name
    return pattern.match(name) is not None


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Routes by name and by pattern: the exact name first, then the patterns in their order."""

    names: Mapping[str, Route] = field(default_factory=dict)
    patterns: tuple[tuple[Name, Route], ...] = ()

    def find(self, name: str) -> tuple[Name, Route] | None:
        """The first that fits a task's name, with what fitted."""
        if name in self.names:
            return name, self.names[name]
        return next((one for one in self.patterns if matches(one[0], name)), None)


@dataclass(frozen=True, slots=True)
class Named:
    """A router that is imported when it is first asked."""

    path: str


Entry: TypeAlias = "RouteTable | Named | Callable[..., Any]"


def parse_routes(value: object) -> tuple[Entry, ...]:
    """`task_routes`: a dict, a list of pairs, a router, or a list of any of these.

    A router is a callable, an object with `route_for_task`, or the dotted name of either. `ValueError`
    names the route that is wrong.
    """
    if value is None or value == "":
        return ()
    if not isinstance(value, (list, tuple)):
        return (_entry(value),)
    if value and all(_is_pair(one) for one in value):
        return (_table(value),)
    return tuple(_entry(one) for one in value)


def _entry(value: object) -> Entry:
    match value:
        case RouteTable() | Named():
            return value
        case str():
            return Named(value)
        case Mapping():
            return _table(list(value.items()))
        case list() | tuple():
            return _table([value] if _is_pair(value) else value)
        case _ if callable(value) or hasattr(value, "route_for_task"):
            return value  # type: ignore[return-value]  # an object with route_for_task is asked by that
        case _:
            raise ValueError(
                f"has {value!r}, which is neither a dict nor a list of pairs nor a router"
            )


def _is_pair(value: object) -> bool:
    match value:
        case [str() | re.Pattern(), str() | Queue() | Mapping()]:
            return True
        case _:
            return False


def _table(pairs: Sequence[Any]) -> RouteTable:
    names: dict[str, Route] = {}
    patterns: list[tuple[Name, Route]] = []
    for pattern, route in _split(pairs):
        if isinstance(pattern, str) and not is_glob(pattern):
            names[pattern] = route
        else:
            patterns.append((pattern, route))
    return RouteTable(names, tuple(patterns))


def _split(pairs: Sequence[Any]) -> Iterator[tuple[Name, Route]]:
    for pair in pairs:
        match pair:
            case [(str() | re.Pattern()) as pattern, route]:
                try:
                    yield pattern, parse_route(route)
                except ValueError as error:
                    shown = pattern if isinstance(pattern, str) else pattern.pattern
                    raise ValueError(f"for {shown!r} {error}") from None
            case _:
                raise ValueError(f"has {pair!r}, which is no pair of a task's name and a route")
