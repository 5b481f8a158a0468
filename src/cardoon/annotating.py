"""Changes tasks as `task_annotations` says: their options, their hooks, their bodies."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

from cardoon.annotations import Annotations, find_attributes
from cardoon.exceptions import InvalidTaskError
from cardoon.task import Task
from cardoon.task_options import TASK_OPTIONS, check_task_options

HOOKS = ("before_start", "on_success", "on_retry", "on_failure", "after_return")
"""Methods that an annotation may give a task, with the task as their first parameter."""
_METHODS = frozenset({*HOOKS, "run"})
_OPTIONS = frozenset(TASK_OPTIONS) - {"bind"}
_NOT_HERE = {
    "bind": "it is part of how the function is written; say it in the decorator",
    "name": "messages call a task by its name; say it in the decorator",
    "__call__": "use '@run'",
    "@__call__": "use '@run'",
}


def annotate(task: Task[..., Any], annotations: Annotations) -> None:
    """Lay over a task what the settings say of it, in place of what they said before.

    `InvalidTaskError` for an attribute that it does not have, with a suggestion. `@name` is a function
    that is given the present method and returns the one to use.
    """
    task.overlay({})
    found = find_attributes(annotations, task) if annotations else {}
    if found:
        task.overlay(_checked(task, found))


def _checked(task: Task[..., Any], found: Mapping[str, Any]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    options = {name: value for name, value in found.items() if name in _OPTIONS}
    try:
        checked = check_task_options(task.name, {**task.given_options(), **options})
    except InvalidTaskError as error:
        raise InvalidTaskError(f"task_annotations: {error}") from None
    attributes.update((name, checked[name]) for name in options)
    for name in found.keys() - options.keys():
        if name in _METHODS:
            attributes[name] = _method(task, name, found[name])
        elif not _is_its_own(task, name) and name.removeprefix("@") not in _METHODS:
            raise InvalidTaskError(f"task_annotations: {task.name!r}: {_why_not(name)}")
    for name in found.keys() - options.keys() - _METHODS:
        if name.startswith("@"):
            method = name.removeprefix("@")
            attributes[method] = _around(task, method, attributes, found[name])
        else:
            attributes[name] = found[name]
    return attributes


def _method(task: Task[..., Any], name: str, value: Any) -> Any:
    """A function as a method of the task; of `run`, as it is, with the task only if it was bound."""
    if not callable(value):
        raise InvalidTaskError(f"task_annotations: {task.name!r}: {name}={value!r} is no function")
    if isinstance(value, FunctionType) and (name != "run" or isinstance(task.run, MethodType)):
        return MethodType(value, task)
    return value


def _around(
    task: Task[..., Any], name: str, attributes: Mapping[str, Any], around: Callable[..., Any]
) -> Any:
    present = attributes.get(name, getattr(task, name))
    return _method(task, name, around(getattr(present, "__func__", present)))


def _is_its_own(task: Task[..., Any], name: str) -> bool:
    """Whether its class, or one of the user's that it is based on, has such an attribute."""
    return not name.startswith("_") and hasattr(task, name) and not hasattr(Task, name)


def _why_not(name: str) -> str:
    if name in _NOT_HERE:
        return f"no {name!r} here: {_NOT_HERE[name]}"
    known = [*_OPTIONS, *_METHODS, *(f"@{method}" for method in _METHODS)]
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown option {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
