"""`task_annotations` as a value: which attributes of tasks the settings change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from cardoon.exceptions import ImproperlyConfigured
from cardoon.routes import is_glob, matches
from cardoon.symbols import load_symbol

PLUMBING = "cardoon."
"""Begins the names of the tasks that canvases are made of. Patterns leave them alone: a rate limit for
everything should not slow what merely joins two groups."""

Attributes: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """Attributes by a task's name, by a glob, or for all (`*`)."""

    attributes: Mapping[str, Attributes]


@dataclass(frozen=True, slots=True)
class NamedAnnotation:
    """A class or an object that is imported when it is first asked."""

    path: str


Annotations: TypeAlias = "tuple[Any, ...]"
"""Tables, names, and objects with `annotate` or `annotate_any`."""


def parse_annotations(value: object) -> Annotations:
    """`task_annotations`: a dict, an object with `annotate(task)`, its dotted name, or a list of these."""
    if value is None or value == "":
        return ()
    several = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(_parse(one) for one in several)


def find_attributes(annotations: Annotations, task: Any) -> dict[str, Any]:
    """What a task is given: the most specific wins, and of those that are alike the first.

    A task's own name and what `annotate(task)` says come before globs, and those before `*` and
    `annotate_any()`.
    """
    ranks: tuple[list[Attributes], ...] = ([], [], [])
    for one in annotations:
        for rank, found in _ranked(one, task):
            ranks[rank].append(found)
    attributes: dict[str, Any] = {}
    for found in reversed([one for rank in ranks for one in rank]):
        attributes.update(found)
    return attributes


def _parse(value: object) -> Any:
    match value:
        case AnnotationTable() | NamedAnnotation():
            return value
        case str():
            return NamedAnnotation(value)
        case Mapping():
            for name, attributes in value.items():
                if not isinstance(name, str) or not isinstance(attributes, Mapping):
                    raise ValueError(f"has {name!r}: {attributes!r}, which is no dict of options")  # noqa: TRY004  # as all parsers
            return AnnotationTable({name: dict(found) for name, found in value.items()})
        case _ if hasattr(value, "annotate") or hasattr(value, "annotate_any"):
            return value
        case _:
            raise ValueError(f"has {value!r}, which is neither a dict nor has annotate(task)")


def _ranked(one: Any, task: Any) -> list[tuple[int, Attributes]]:
    """What one annotation says of a task: 0 for its name, 1 for a glob, 2 for all."""
    is_plumbing = task.name.startswith(PLUMBING)
    if isinstance(one, AnnotationTable):
        return [
            (2 if pattern == "*" else int(is_glob(pattern)), attributes)
            for pattern, attributes in one.attributes.items()
            if matches(pattern, task.name) and not (is_plumbing and is_glob(pattern))
        ]
    if isinstance(one, NamedAnnotation):
        one = load_symbol(one.path, setting="task_annotations")
    if isinstance(one, type):
        one = one()
    found = [(0, one.annotate(task) if hasattr(one, "annotate") else None)]
    if hasattr(one, "annotate_any") and not is_plumbing:
        found.append((2, one.annotate_any()))
    for _, attributes in found:
        if attributes is not None and not isinstance(attributes, Mapping):
            raise ImproperlyConfigured(
                f"task_annotations: {one!r} said {attributes!r} of {task.name!r}; return a dict or None"
            )
    return [(rank, attributes) for rank, attributes in found if attributes]
