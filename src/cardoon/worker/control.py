"""Commands of your own for remote control, under Celery's names.

They are kept, and this version's worker runs none of them: registering one says so in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Panel", "control_command", "inspect_command"]


class CommandInfo(NamedTuple):
    """What was said of a command when it was registered."""

    alias: str | None
    type: str
    visible: bool
    default_timeout: float
    help: str
    signature: str | None
    args: Sequence[Any] | None
    variadic: str | None


class Panel:
    """The commands that have been registered, by name."""

    data: ClassVar[dict[str, Callable[..., Any]]] = {}
    """Filled by decorators, as in Celery: a module of commands is imported for that."""
    meta: ClassVar[dict[str, CommandInfo]] = {}

    @classmethod
    def register(
        cls,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        alias: str | None = None,
        type: str = "control",
        visible: bool = True,
        default_timeout: float = 1.0,
        help: str | None = None,
        signature: str | None = None,
        args: Sequence[Any] | None = None,
        variadic: str | None = None,
    ) -> Any:
        """Keep a command: a decorator, with or without arguments. `default_timeout` is in seconds."""

        def keep(command: F) -> F:
            known = name or command.__name__
            said = help or (command.__doc__ or "").strip().partition("\n")[0]
            info = CommandInfo(
                alias, type, visible, default_timeout, said, signature, args, variadic
            )
            for one in filter(None, (known, alias)):
                cls.data[one] = command
            cls.meta[known] = info
            logger.warning(
                "remote control: command %r is kept, but this version's worker runs no commands of "
                "yours",
                known,
            )
            return command

        return keep if function is None else keep(function)


def control_command(function: Callable[..., Any] | None = None, **said: Any) -> Any:
    """Register a command that changes a worker."""
    return Panel.register(function, type="control", **said)


def inspect_command(function: Callable[..., Any] | None = None, **said: Any) -> Any:
    """Register a command that looks at a worker."""
    return Panel.register(function, type="inspect", **said)
