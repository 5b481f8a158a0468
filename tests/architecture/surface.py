"""The public API as text, one line a name: `python -m tests.architecture.surface` prints it.

What stands there is what programs rely on. A changed line is a change for every user, so it is made on
purpose, with a decision record, and shown in the diff of `surface.txt`.
"""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import cardoon
import cardoon.exceptions
import cardoon.signals
from cardoon.dispatch import Signal
from cardoon.standin import StandIn
from cardoon.utils.log import get_task_logger

RENEW = "python -m tests.architecture.surface > tests/architecture/surface.txt"
UNSAID = {
    "__init__",
    "__repr__",
    "__str__",
    "__hash__",
    "__eq__",
    "__annotate__",
    "__annotate_func__",
    "__new__",
    "__setattr__",
    "__delattr__",
    "__getstate__",
    "__setstate__",
    "__replace__",
}
"""Dunders that everything has, that the class's own line shows, or that Python adds."""


def describe() -> Iterator[str]:
    """Every public name, with its signature; of a class, its own public members as well."""
    yield from describe_names(
        (f"cardoon.{name}", getattr(cardoon, name)) for name in cardoon.__all__
    )
    yield from describe_class("cardoon.dispatch.Signal", Signal)
    yield from describe_names(
        (f"cardoon.signals.{name}", getattr(cardoon.signals, name))
        for name in cardoon.signals.__all__
    )
    yield f"cardoon.utils.log.get_task_logger{signature(get_task_logger)}"
    for name, error in sorted(vars(cardoon.exceptions).items()):
        if isinstance(error, type) and error.__module__ == "cardoon.exceptions":
            bases = ", ".join(base.__name__ for base in error.__bases__)
            yield f"cardoon.exceptions.{name}({bases})"


def describe_names(names: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """One line for each name that is no class, and several for a class."""
    for name, value in names:
        if isinstance(value, type) and name.rpartition(".")[2] != value.__name__:
            yield f"{name}: the same as {value.__name__}"
        elif isinstance(value, type):
            yield from describe_class(name, value)
        elif callable(value) and not isinstance(value, StandIn):
            yield f"{name}{signature(value)}"
        else:
            yield f"{name}: {type(value).__name__}"


def describe_class(name: str, kind: type) -> Iterator[str]:
    """A class and its members, those of its own bases in this package included."""
    yield name if issubclass(kind, enum.Enum) else f"{name}{signature(kind)}"
    members: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == "cardoon":
            members |= vars(base)
    for member, value in sorted(members.items()):
        dunder = member.startswith("__") and inspect.isfunction(value)
        if member in UNSAID or (member.startswith("_") and not dunder):
            continue
        yield f"    {describe_member(member, value)}"


def describe_member(name: str, value: Any) -> str:
    """A method, a property, or what else a class holds."""
    match value:
        case staticmethod() | classmethod():
            return f"@{type(value).__name__} {name}{signature(value.__func__)}"
        case property():
            return f"{name}: property"
        case _ if inspect.isfunction(value):
            return f"{name}{signature(value)}"
        case _ if inspect.ismemberdescriptor(value):
            return f"{name}: attribute"
        case None | bool() | int() | float() | str() | tuple():
            return f"{name} = {value!r}"
        case _:
            return f"{name}: {type(value).__name__}"


def signature(function: Any) -> str:
    """A signature as it stands in the source, the same for every version of Python."""
    found = inspect.signature(function)
    parts: list[str] = []
    parameters = list(found.parameters.values())
    for number, one in enumerate(parameters):
        before = parameters[number - 1] if number else None
        if one.kind is one.KEYWORD_ONLY and (before is None or before.kind < one.VAR_POSITIONAL):
            parts.append("*")
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        default = "" if one.default is one.empty else f" = {one.default!r}"
        parts.append(f"{stars}{one.name}{_noted(': ', one.annotation, one.empty)}{default}")
        after = parameters[number + 1] if number + 1 < len(parameters) else None
        if one.kind is one.POSITIONAL_ONLY and (after is None or after.kind > one.kind):
            parts.append("/")
    return f"({', '.join(parts)}){_noted(' -> ', found.return_annotation, found.empty)}"


def _noted(mark: str, annotation: Any, empty: Any) -> str:
    return "" if annotation is empty else f"{mark}{annotation}"


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in describe()))
