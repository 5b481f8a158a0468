"""The tasks that every app has: what `map`, `starmap` and some canvases run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from cardoon.canvas.mapped import MAP, STARMAP
from cardoon.canvas.steps import ACCUMULATE
from cardoon.exceptions import InvalidTaskError
from cardoon.task import Task, make_task

PREFIX = "cardoon."


class Registrar(Protocol):
    """What tasks are registered with: the app."""

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks that are known here."""
        ...

    def register_task(self, task: Task[..., Any]) -> Task[..., Any]:
        """Make a task the app's own."""
        ...


def register_builtins(app: Registrar) -> None:
    """Add them to an app."""

    def find(inner: object) -> Task[..., Any]:
        if not isinstance(inner, Mapping) or inner.get("task") not in app.tasks:
            raise InvalidTaskError(
                f"map: {inner!r} is not a signature of a task that is known here"
            )
        return app.tasks[inner["task"]]

    def run_map(task: Mapping[str, Any], it: Iterable[Any]) -> list[Any]:
        """The task's result for each item."""
        inner = find(task)
        return [_call(inner, (item,)) for item in it]

    def run_starmap(task: Mapping[str, Any], it: Iterable[Iterable[Any]]) -> list[Any]:
        """The task's result for each tuple of arguments."""
        inner = find(task)
        return [_call(inner, item) for item in it]

    def accumulate(results: list[Any]) -> list[Any]:
        """The results themselves, as one that several tasks can wait for."""
        return results

    for name, function in ((MAP, run_map), (STARMAP, run_starmap), (ACCUMULATE, accumulate)):
        app.register_task(make_task(function, name=name, base=Task, options={}))


def _call(task: Task[..., Any], args: Iterable[Any]) -> Any:
    """`task(...)` with plain arguments, which become what its annotations name."""
    given = tuple(args)
    if task.conversion is None:
        return task(*given)
    return task(*task.conversion.convert(given, {})[0])
