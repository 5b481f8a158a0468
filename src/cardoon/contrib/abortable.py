"""Tasks that can be asked to stop, and look now and then whether they were.

    @app.task(bind=True, base=AbortableTask)
    def convert(self, pages):
        for page in pages:
            if self.is_aborted():
                return None
            ...

    result = convert.delay(pages)
    result.abort()

`abort` keeps a signed note beside the results, under an id of its own; a task's state is signed by the
worker that runs it and by nobody else. Notes expire as results do (`result_expires`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from cardoon import states
from cardoon.calling import MAX_ID_BYTES, check_text
from cardoon.exceptions import InvalidTaskError
from cardoon.message.serializers import decode_body, encode_body
from cardoon.producer import group_handle
from cardoon.result import AsyncResult, ResultSource
from cardoon.sender import GroupKeeper
from cardoon.task import Task

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["ABORTED", "AbortableAsyncResult", "AbortableTask"]

ABORTED = "ABORTED"
_NOTE = "aborted:"
_MAX_NOTE = 4096
"""Bytes of a note; it says an id and nothing else."""


class AbortableAsyncResult(AsyncResult[R]):
    """A handle that can ask its task to stop."""

    __slots__ = ()

    def abort(self) -> None:
        """Ask the task to stop, whether it runs already or not; durable when it returns.

        It stops when it next asks `is_aborted`, or never. Clients can ask, and other tasks.
        """
        sender = self.source.sender
        if not isinstance(sender, GroupKeeper):
            raise InvalidTaskError(f"abort {self.id}: {sender!r} keeps no notes")
        check_text("task_id", _NOTE + self.id, MAX_ID_BYTES)
        codec = self.source.result_codec
        sender.save_group(_NOTE + self.id, codec, encode_body({"aborted": self.id}, codec))

    def is_aborted(self) -> bool:
        """Whether the task was asked to stop and has not ended."""
        return self.state == ABORTED

    @property
    def state(self) -> str:
        """As of any task, or ABORTED for one that was asked to stop and has not ended."""
        found = super().state
        if found in states.READY_STATES or not is_noted(self.source, self.id):
            return found
        return ABORTED

    status = state

    def forget(self) -> None:
        """Delete the stored result, and that it was asked to stop."""
        super().forget()
        self.source.sender.forget([_NOTE + self.id])


class AbortableTask(Task[P, R]):
    """The base of tasks that can be aborted: `@app.task(bind=True, base=AbortableTask)`."""

    abstract = True

    def AsyncResult(self, task_id: str) -> AbortableAsyncResult[R]:  # noqa: N802  # Celery's name
        """The handle on a result of this task."""
        return AbortableAsyncResult(task_id, source=self.app, convert=_convert_of(self))

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AbortableAsyncResult[R]:
        """`Task.delay`, with a handle that can abort."""
        found: AbortableAsyncResult[R] = _abortable(super().delay(*args, **kwargs), self)
        return found

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """`Task.apply_async`, with a handle that can abort."""
        return _abortable(super().apply_async(args, kwargs, **options), self)

    def is_aborted(self, *, task_id: str | None = None) -> bool:
        """Whether this call, or another one, was asked to stop.

        Each question is one look at the result store: ask now and then, not at every step. Of a call that
        has no message (direct, or eager) it is False.
        """
        request = self.request
        if task_id is None and (request.is_eager or request.called_directly):
            return False
        asked = task_id or request.id
        return asked is not None and is_noted(self.app, asked)


def is_noted(source: ResultSource, task_id: str) -> bool:
    """Whether there is a note, signed by somebody who is trusted, that this task is to stop."""
    note = _NOTE + task_id
    report = source.sender.load([group_handle(note)]).get(note)
    if report is None or report.state != states.SUCCESS:
        return False
    return bool(decode_body(report.codec, report.body, max_bytes=_MAX_NOTE) == {"aborted": task_id})


def _convert_of(task: Task[..., Any]) -> Callable[[Any], Any] | None:
    return None if task.conversion is None else task.conversion.result


def _abortable(result: Any, task: Task[..., Any]) -> Any:
    if type(result) is not AsyncResult:  # eager, or one already
        return result
    return AbortableAsyncResult(
        result.id,
        source=result.source,
        parent=result.parent,
        request=result.request,
        convert=_convert_of(task),
    )
