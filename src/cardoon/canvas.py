"""Signature: a call of a task, to be made later, by someone else, or with more arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from cardoon.exceptions import InvalidTaskError
from cardoon.result import AsyncResult, EagerResult


class Caller(Protocol):
    """What makes the calls that signatures describe: the app."""

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Call a task by name."""
        ...

    def apply_task(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> EagerResult[Any]:
        """Run a task by name here and now."""
        ...


class Signature(dict[str, Any]):
    """A task's name with arguments and options: a dict, so that it travels as JSON.

    Arguments given later come before those it has, unless it is immutable; options given later win.
    """

    _caller: Caller | None = None

    def __init__(
        self,
        task: str | Mapping[str, Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        caller: Caller | None = None,
    ) -> None:
        if isinstance(task, Mapping):
            if not isinstance(task.get("task"), str):
                raise InvalidTaskError(f"signature: {dict(task)!r} names no task")
            super().__init__(task)
        else:
            super().__init__(
                task=task,
                args=list(args),
                kwargs=dict(kwargs or {}),
                options=dict(options or {}),
                subtask_type=None,
                immutable=immutable,
            )
        self._caller = caller

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self["task"])

    @property
    def args(self) -> list[Any]:
        """Positional arguments."""
        return list(self.get("args") or ())

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return dict(self.get("kwargs") or {})

    @property
    def options(self) -> dict[str, Any]:
        """Options of `apply_async`."""
        return dict(self.get("options") or {})

    @property
    def immutable(self) -> bool:
        """Whether later arguments are ignored."""
        return bool(self.get("immutable"))

    def clone(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Signature:
        """A copy with more arguments and options."""
        merged = {**self.options, **options}
        if self.immutable:
            args, kwargs = (), None
        return Signature(
            self.task,
            [*args, *self.args],
            {**self.kwargs, **(kwargs or {})},
            merged,
            immutable=self.immutable,
            caller=self._caller,
        )

    def set(self, **options: Any) -> Self:
        """Change options in place; returns itself."""
        self["options"] = {**self.options, **options}
        return self

    def link(self, callback: Signature) -> Signature:
        """Call `callback` with the result when the task succeeds; returns the callback."""
        return self._append("link", callback)

    def link_error(self, errback: Signature) -> Signature:
        """Call `errback` with the task's id when the task fails; returns the errback."""
        return self._append("link_error", errback)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Make the call with these further arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Make the call with these further arguments and options."""
        call = self.clone(args, kwargs, **options)
        return self._bound().send_task(call.task, call.args, call.kwargs, **call.options)

    def apply(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult[Any]:
        """Run the task here and now."""
        call = self.clone(args, kwargs, **options)
        return self._bound().apply_task(call.task, call.args, call.kwargs, **call.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and return its value."""
        return self.apply(args, kwargs).get()

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args]
        shown += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"

    def _append(self, option: str, signature: Signature) -> Signature:
        present = list(self.options.get(option) or ())
        if signature not in present:
            present.append(signature)
        self["options"] = {**self.options, option: present}
        return signature

    def _bound(self) -> Caller:
        if self._caller is None:
            raise InvalidTaskError(
                f"signature {self!r} belongs to no app; make it with app.signature"
            )
        return self._caller
