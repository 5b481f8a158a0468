"""`shared_task`: tasks of libraries, which belong to whichever app there is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

from cardoon.app import current_application, known_applications
from cardoon.decorators import BoundTaskDecorator, CoroutineTask, TaskDecorator
from cardoon.registry import SHARED, SharedFunction
from cardoon.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class SharedTask(Generic[P, R]):
    """Stands for the current app's task of one name."""

    def __init__(self, shared: SharedFunction) -> None:
        self._shared = shared
        self.name = shared.name
        self.__doc__ = shared.function.__doc__
        self.__wrapped__ = shared.function

    @property
    def task(self) -> Task[P, R]:
        """The task in the current app."""
        return cast("Task[P, R]", current_application().tasks[self.name])  # made of our function

    @property
    def signal_sender(self) -> str:
        """What a signal knows its sender by: it stands for the tasks of this name of every app."""
        return self.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here; see `Task.__call__`."""
        return self.task(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def __repr__(self) -> str:
        return f"<@shared_task: {self.name}>"


@overload
def shared_task(function: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...
@overload
def shared_task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: Any) -> BoundTaskDecorator: ...
@overload
def shared_task(**options: Any) -> TaskDecorator: ...
def shared_task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a task of a function without an app: it becomes a task of every app."""
    if function is not None:
        return _share(function, options)
    return lambda decorated: _share(decorated, options)


def _share(function: Callable[..., Any], options: dict[str, Any]) -> SharedTask[..., Any]:
    rest = dict(options)
    name = rest.pop("name", None) or f"{function.__module__}.{function.__name__}"
    shared = SharedFunction(name, function, rest)
    SHARED.append(shared)
    for app in known_applications():
        app.register_shared(shared)
    return SharedTask(shared)
