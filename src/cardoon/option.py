"""Parsers of setting values: each takes what a user wrote, and returns the checked value.

They raise `ValueError` with the end of a sentence that begins with the name and the value.
"""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cardoon.exceptions import ImproperlyConfigured
from cardoon.sandbox.profile import Sandbox
from cardoon.status_address import parse_address

Parser = Callable[[object], Any]

_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/([smh]))?")
_RATE_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_MOST = 1e9
"""Of a number in a mapping, be it seconds or a count: no use for more is known."""
TRANSPORT_NAMES = ("durability", "global_keyprefix", "master_name", "prepare", "schema", "store")
"""Options of drivers that are text; docs/configuration.md says whose."""
UNNEEDED_TRANSPORT = frozenset(
    {
        "client_name", "confirm_publish", "connect_timeout", "fanout_patterns", "fanout_prefix",
        "health_check_interval", "heartbeat", "interval_max", "interval_start", "interval_step",
        "max_connections", "max_retries", "polling_interval", "priority_steps",
        "queue_order_strategy", "retry_on_timeout", "sep", "socket_connect_timeout",
        "socket_keepalive", "socket_keepalive_options", "socket_timeout", "unacked_mutex_expire",
    }
)  # fmt: skip
"""Options of Celery's transports that have nothing to set here: every wait has a deadline anyway."""


def text(value: object) -> str:
    """A string or a path."""
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(plain, str):
        raise ValueError("is not text")  # noqa: TRY004  # one kind of error for all parsers
    return plain


def url(value: object) -> str:
    """A URL, an empty string, or a reference to one."""
    checked = text(value if value is not None else "")
    if checked and ":" not in checked:
        raise ValueError("is not a URL such as sqlite:///tasks.db, file:PATH or env:NAME")
    return checked


def urls(value: object) -> str:
    """A URL or several that stand in for one another, as a list or with `;` between them."""
    if isinstance(value, (list, tuple)):
        return ";".join(url(one) for one in value)
    return url(value)


def boolean(value: object) -> bool:
    """A bool, or the words for one that environments use."""
    if isinstance(value, bool):
        return value
    match str(value).lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
        case _:
            raise ValueError("is neither true nor false")


def integer(low: int, high: int) -> Parser:
    """A whole number from `low` to `high`."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError("is not a whole number")  # noqa: TRY004
        try:
            number = int(value)
        except ValueError:
            raise ValueError("is not a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"is not between {low} and {high}")
        return number

    return parse


priority = integer(0, 9)


def seconds(low: float, high: float) -> Callable[[object], float]:
    """A duration in seconds, given as a number or a `timedelta`."""

    def parse(value: object) -> float:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError("is not a number of seconds")  # noqa: TRY004
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise ValueError("is not a number of seconds") from None
        if not low <= number <= high:
            raise ValueError(f"is not between {low:g} and {high:g} seconds")
        return number

    return parse


def choice(*allowed: str) -> Parser:
    """One of a few words."""

    def parse(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"is unknown; use {', '.join(word for word in allowed if word)}")
        return str(value)

    return parse


def names(value: object) -> tuple[str, ...]:
    """Several strings: a list, or one string with commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError("is not a list of strings")  # noqa: TRY004
    return tuple(text(item) for item in value)


def paths(value: object) -> tuple[str, ...] | dict[str, str]:
    """Files, folders or globs; or a mapping from a trust domain to a file."""
    if isinstance(value, Mapping):
        return {text(domain): text(path) for domain, path in value.items()}
    if isinstance(value, os.PathLike):
        return (text(value),)
    return names(value)


def dictionary(value: object) -> dict[Any, Any]:
    """A dict, copied."""
    if not isinstance(value, Mapping):
        raise ValueError("is not a dict")  # noqa: TRY004
    return dict(value)


def mapping(*keys: str) -> Parser:
    """A dict of numbers with known keys."""

    def parse(value: object) -> dict[str, float]:
        found = dictionary(value)
        for key, item in found.items():
            if key not in keys:
                raise ValueError(f"has an unknown key {key!r}; use {', '.join(keys)}")
            if isinstance(item, bool) or not isinstance(item, (int, float)):
                raise ValueError(f"has {key}={item!r}, which is not a number")  # noqa: TRY004
            if not 0 <= item <= _MOST:
                raise ValueError(f"has {key}={item!r}, which is not between 0 and {_MOST:g}")
        return found

    return parse


def transport(value: object) -> dict[str, Any]:
    """Options of a driver: numbers and names that are known, and Celery's that change nothing."""
    found = dictionary(value)
    for name in [name for name in found if name in UNNEEDED_TRANSPORT]:
        del found[name]
    numbers = {name: item for name, item in found.items() if name not in TRANSPORT_NAMES}
    mapping("visibility_timeout", *TRANSPORT_NAMES)(numbers)
    for name in found.keys() & TRANSPORT_NAMES:
        if not isinstance(found[name], str) or not found[name]:
            raise ValueError(f"has {name}={found[name]!r}, which is not a name")
    return found


def tls_options(value: object) -> Any:
    """`broker_use_ssl`: a bool, or a mapping as Celery's; of an `ssl.CERT_...` its number is kept."""
    if isinstance(value, Mapping):
        return {
            text(name): item if isinstance(item, (bool, str)) else int(item)
            for name, item in value.items()
        }
    return boolean(value)


def optional(parse: Parser) -> Parser:
    """What `parse` takes, or None."""

    def parse_optional(value: object) -> Any:
        return None if value is None or value == "" else parse(value)

    return parse_optional


def instant(value: object) -> datetime:
    """A point in time."""
    if not isinstance(value, datetime):
        raise ValueError("is not a datetime")  # noqa: TRY004
    return value


def expiry(value: object) -> float | datetime:
    """Seconds from the call, as a number or a `timedelta`; or a point in time."""
    return value if isinstance(value, datetime) else seconds(0, 366 * 86400)(value)


def parse_rate(value: str | float | None) -> float | None:
    """Starts per second from a number, "10/s", "10/m" or "10/h"; None or 0 for no limit."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    else:
        match = _RATE.fullmatch(str(value))
        if match is None:
            raise ValueError('is not a rate such as 10, "10/s", "100/m" or "1000/h"')
        number = float(match[1]) / _RATE_UNITS[match[2]]
    if not number >= 0:
        raise ValueError("is a negative rate, or none")
    return number or None


def rate(value: object) -> Any:
    """What `parse_rate` takes, as it was given."""
    parse_rate(value)  # type: ignore[arg-type]  # raises for what it does not take
    return value


def celery_bridge(value: object) -> dict[str, Any]:
    """What a bridge takes from Celery: `queues` and `tasks`, and perhaps whose signatures."""
    found = dictionary(value)
    parsers: dict[str, Parser] = {
        "queues": _queue_names,
        "tasks": names,
        "certificates": names,
        "digest": choice("sha256", "sha384", "sha512"),
    }
    for key in found:
        if key not in parsers:
            raise ValueError(f"has an unknown key {key!r}; use {', '.join(parsers)}")
    checked = {}
    for key, item in found.items():
        try:
            checked[key] = parsers[key](item)
        except ValueError as error:
            raise ValueError(f"has {key}, which {error}") from None
    return checked


def _queue_names(value: object) -> dict[str, str]:
    """Celery's queues, each with the queue here; a list where they have the same names."""
    if isinstance(value, Mapping):
        return {text(theirs): text(ours) for theirs, ours in value.items()}
    return {name: name for name in names(value)}


def sandbox(value: object) -> Sandbox:
    """A profile, or a dict with its fields."""
    if isinstance(value, Sandbox):
        return value
    try:
        return Sandbox.from_mapping(dictionary(value))
    except ImproperlyConfigured as error:
        raise ValueError(f"is no profile: {error}") from None


publish_policy = mapping("max_retries", "interval_start", "interval_step", "interval_max")


def timezone(value: object) -> str:
    """The name of a time zone in the tz database."""
    name = text(value)
    if name != "UTC":
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # some are folders
            raise ValueError("is not a time zone of the tz database") from None
    return name


def status_address(value: object) -> str:
    """Where metrics are served: `HOST:PORT`, `PORT` or `unix:PATH`; nowhere for an empty string."""
    told = text(
        str(value) if isinstance(value, int) and not isinstance(value, bool) else value or ""
    )
    return str(parse_address(told)) if told else ""
