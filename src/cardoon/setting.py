"""How a setting is declared: its default, how its value is checked, and who may see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cardoon.option import Parser


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: how its value is checked, and whether it may be shown."""

    parse: Parser
    secret: bool = False
    tell: Callable[[Any], Any] | None = _as_it_is
    """Writes the value as JSON for a worker; None for what only a process with the app's code uses."""


def setting(
    default: Any,
    parse: Parser,
    *,
    secret: bool = False,
    tell: Callable[[Any], Any] | None = _as_it_is,
) -> Any:
    """A field of a dataclass of settings."""
    metadata = {"option": Option(parse, secret, tell)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
