"""The signals of a task that runs: their payloads. Only for where somebody listens; see `executor`."""

from __future__ import annotations

from typing import Any

from cardoon.context import Request
from cardoon.coroutines import INTERRUPTS
from cardoon.exception_info import ExceptionInfo
from cardoon.exceptions import Retry, TimeLimitExceeded
from cardoon.signals import (
    task_failure,
    task_internal_error,
    task_postrun,
    task_prerun,
    task_retry,
    task_success,
)
from cardoon.task import Task

_STOPS = (*INTERRUPTS, TimeLimitExceeded)
"""What a worker raises inside of a task, and means for the task, wherever it arrives."""


def announce_start(task: Task[..., Any], request: Request) -> None:
    """`task_prerun`. Raises what interrupted a receiver: it was for the task."""
    answers = task_prerun.send(
        sender=task, task_id=request.id, task=task, args=request.args, kwargs=request.kwargs
    )
    for _, answer in answers:
        if isinstance(answer, _STOPS):
            raise answer


def announce_success(task: Task[..., Any], value: Any, runtime: float) -> None:
    """`task_success`; `runtime` in seconds."""
    task_success.send(sender=task, result=value, runtime=runtime)


def announce_retry(
    task: Task[..., Any], request: Request, retry: Retry, info: ExceptionInfo
) -> None:
    """`task_retry`."""
    task_retry.send(sender=task, request=request, reason=retry, einfo=info)


def announce_failure(
    task: Task[..., Any], request: Request, error: BaseException, info: ExceptionInfo
) -> None:
    """`task_failure`."""
    task_failure.send(
        sender=task,
        task_id=request.id,
        exception=error,
        args=request.args,
        kwargs=request.kwargs,
        traceback=error.__traceback__,
        einfo=info,
    )


def announce_internal_error(
    task: Task[..., Any], request: Request, error: BaseException, traceback: str
) -> None:
    """`task_internal_error`: the task fails by what was raised outside of its body."""
    task_internal_error.send(
        sender=task,
        task_id=request.id,
        args=request.args,
        kwargs=request.kwargs,
        request=request,
        exception=error,
        traceback=error.__traceback__,
        einfo=ExceptionInfo.of(error, traceback),
    )


def announce_end(task: Task[..., Any], request: Request, state: str, retval: Any) -> None:
    """`task_postrun`."""
    task_postrun.send(
        sender=task,
        task_id=request.id,
        task=task,
        args=request.args,
        kwargs=request.kwargs,
        retval=retval,
        state=state,
    )
