"""The tasks of an app by name, and the tasks that any app may have."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cardoon.exceptions import AlreadyRegistered, NotRegistered
from cardoon.task import Task


class Registry(dict[str, Task[..., Any]]):
    """Tasks by name. The only way from a name in a message to code."""

    def __missing__(self, name: str) -> Task[..., Any]:
        close = difflib.get_close_matches(str(name), self, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise NotRegistered(f"no task {name!r} is registered here{hint}")

    def add(self, task: Task[..., Any]) -> None:
        """Register a task. The same function again, as after a reload, takes the old one's place."""
        present = self.get(task.name)
        if present is not None and _origin(present) != _origin(task):
            raise AlreadyRegistered(
                f"two tasks are named {task.name!r}: {_origin(present)} and {_origin(task)}; "
                "give one of them another name="
            )
        self[task.name] = task


class SharedFunction(NamedTuple):
    """What `shared_task` decorated, for every app there is and will be."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]


SHARED: list[SharedFunction] = []
"""Filled by decorators, as the name says: libraries declare tasks before any app exists."""


def _origin(task: Task[..., Any]) -> str:
    function = getattr(task, "__wrapped__", type(task))
    return f"{function.__module__}.{function.__qualname__}"
