"""DjangoTask: the base of tasks in a Django project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from django.db import transaction

from cardoon.calling import check_options
from cardoon.shared import shared_task as _shared_task
from cardoon.task import Task

__all__ = ["DjangoTask", "shared_task"]

P = ParamSpec("P")
R = TypeVar("R")


class DjangoTask(Task[P, R]):
    """A task that can be sent when the database transaction has been committed.

    What is sent so is lost if the process dies between the commit and the send; `atomic_send` loses nothing.
    """

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """`delay`, as soon as the transaction is committed; at once outside of any, never if rolled back.

        Arguments that do not fit are an `InvalidTaskError` here and now; they are encoded at the commit.
        """
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        using: str | None = None,
        robust: bool = False,
        **options: Any,
    ) -> None:
        """`delay_on_commit` with the options of `apply_async`; a countdown begins at the commit.

        `using` is the database whose transaction is meant. What the send raises is raised where the
        transaction ends, after the commit; with `robust` it is logged instead.
        """
        given, named = tuple(args or ()), dict(kwargs or {})
        self.check_arguments(given, named)
        check_options(options, method="apply_async_on_commit")

        def send() -> None:  # no partial: Django looks for its __qualname__ when it raises
            self.apply_async(given, named, **options)

        transaction.on_commit(send, using=using, robust=robust)


class _Decorator(Protocol):
    """What `shared_task(...)` with options returns."""

    def __call__(self, function: Callable[P, R], /) -> DjangoTask[P, R]: ...


class _BoundDecorator(Protocol):
    """What `shared_task(bind=True, ...)` returns: callers do not give the task, the first parameter."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> DjangoTask[P, R]: ...


@overload
def shared_task(function: Callable[P, R], /) -> DjangoTask[P, R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: Any) -> _BoundDecorator: ...
@overload
def shared_task(**options: Any) -> _Decorator: ...
def shared_task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`cardoon.shared_task`, of which type checkers know that it makes a `DjangoTask`.

    It makes one in an app with a `task_cls` of its own, too, unless `base=` says another.
    """
    given = {"base": DjangoTask, **options}
    decorate = _shared_task(**given)
    return decorate if function is None else decorate(function)
