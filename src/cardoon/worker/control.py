"""Commands of your own for remote control, under Celery's names.

    @inspect_command()
    def cache_size(state):
        return len(cache)

They run where the app is: in the process that imports it (with `-P solo` the worker itself), one at a time and
for ten seconds at most. Task processes are its children, so that what a command changes there is seen by those
that are forked later, and by none that runs.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar

from cardoon.commands import COMMANDS, CONTROL, INSPECT, NOT_HERE, check_custom
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["ControlState", "Panel", "control_command", "inspect_command"]


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


@dataclass(frozen=True, slots=True)
class ControlState:
    """The first argument of a command: what it is told of its worker."""

    hostname: str
    app: Any

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"state.{name}: commands of yours run beside the worker and have no hold on it; there are "
            "state.app and state.hostname, and app.control for the rest"
        )


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
        type: str = CONTROL,
        visible: bool = True,
        default_timeout: float = 1.0,
        help: str | None = None,
        signature: str | None = None,
        args: Sequence[Any] | None = None,
        variadic: str | None = None,
    ) -> Any:
        """Keep a command: a decorator, with or without arguments. `default_timeout` is in seconds.

        Raises `ImproperlyConfigured` for the name of a command of Cardoon's own: policies allow those.
        """

        def keep(command: F) -> F:
            known = name or command.__name__
            said = help or (command.__doc__ or "").strip().partition("\n")[0]
            info = CommandInfo(
                alias, type, visible, default_timeout, said, signature, args, variadic
            )
            for one in filter(None, (known, alias)):
                if one in COMMANDS or one in NOT_HERE:
                    raise ImproperlyConfigured(
                        f"remote control: command {one!r} is Cardoon's own or Celery's; choose another "
                        "name"
                    )
                cls.data[one] = command
            cls.meta[known] = info
            return command

        return keep if function is None else keep(function)


def control_command(function: Callable[..., Any] | None = None, **said: Any) -> Any:
    """Register a command that changes something; a policy must let its caller give it."""
    return Panel.register(function, type=CONTROL, **said)


def inspect_command(function: Callable[..., Any] | None = None, **said: Any) -> Any:
    """Register a command that looks at something."""
    return Panel.register(function, type=INSPECT, **said)


def run_command(name: str, arguments: Mapping[str, Any], state: ControlState) -> Any:
    """Call a command that was registered; what it returns, or the error that it raised, as an answer."""
    function = Panel.data.get(name)
    if function is None:
        return {"error": f"the app has registered no command {name!r}"}
    try:
        given = check_custom(name, arguments)
        inspect.signature(function).bind(state, **given)
    except (InvalidTaskError, TypeError, ValueError) as error:
        return {"error": f"{name}: {error}"}
    try:
        return function(state, **given)
    except Exception as error:  # what user code raises is its answer
        logger.exception("command %s", name)
        return {"error": f"{type(error).__name__}: {error}"}
