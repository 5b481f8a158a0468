"""The types of what `task(...)` returns: how a type checker knows a task by its function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from cardoon.task import Task

P = ParamSpec("P")
R = TypeVar("R")


if TYPE_CHECKING:

    class CoroutineTask(Task[P, R]):
        """A task of an `async def`: its result is R, and called directly it is to be awaited."""

        def __call__(  # type: ignore[override]  # noqa: D102
            self, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]: ...

else:
    CoroutineTask = Task  # the difference is one of types only


class TaskDecorator(Protocol):
    """What `task(...)` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BoundTaskDecorator(Protocol):
    """What `task(bind=True, ...)` returns: callers do not give the task, the first parameter."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> CoroutineTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...
