"""Calls a task and says how it ended: the only place that runs user code.

The outcome holds live objects; whoever asked decides how they travel. Called by the pools of a worker
and, for `task.apply()`, by the app; by nothing else.
"""

from __future__ import annotations

import inspect
import logging
import random
import sys
import time
import traceback as tracebacks
from collections.abc import Callable
from typing import Any, NamedTuple

from cardoon import exceptions
from cardoon.announcing import (
    announce_end,
    announce_failure,
    announce_retry,
    announce_start,
    announce_success,
)
from cardoon.context import Request, carrying_out
from cardoon.conversion import ArgumentMisfitError
from cardoon.exception_info import ExceptionInfo
from cardoon.exceptions import Ignore, InvalidTaskError, Reject, Retry, SoftShutdown
from cardoon.retrying import backoff_delay
from cardoon.signals import (
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_success,
)
from cardoon.states import FAILURE, IGNORED, PENDING, REJECTED, SUCCESS
from cardoon.states import RETRY as RETRY_STATE
from cardoon.task import Task

logger = logging.getLogger(__name__)

MAX_TRACEBACK_CHARACTERS = 32_768
"""A recursion error's traceback is longer; its middle says nothing more."""


class Succeeded(NamedTuple):
    """The task returned."""

    value: Any


class Failed(NamedTuple):
    """The task raised."""

    error: BaseException
    traceback: str
    exhausted: bool = False
    """Whether it had retries and used them up."""


class Retried(NamedTuple):
    """The task wants to run again; `retry` says when, and what has changed."""

    retry: Retry
    traceback: str


class Rejected(NamedTuple):
    """The task refused its message."""

    reason: str
    requeue: bool


class Ignored(NamedTuple):
    """The task wants no result stored."""


class HandedBack(NamedTuple):
    """The task was interrupted because its worker stops; it has not ended."""


class Replaced(NamedTuple):
    """The task put a canvas in its place."""

    signature: Any


Outcome = Succeeded | Failed | Retried | Rejected | Ignored | HandedBack | Replaced


def execute(task: Task[..., Any], request: Request, run: Callable[[Any], Any]) -> Outcome:
    """Carry out one call in this thread. `run` drives the coroutine of an `async def` task.

    Nothing that user code raises escapes, short of the end of the process.
    """
    with carrying_out(request):
        try:
            started = _begin(task, request)
            value = _call(task, request)
            if inspect.isawaitable(value):
                value = run(value)
            return _finish(task, request, value, started)
        except BaseException as error:  # noqa: BLE001  # user code may raise anything
            return _conclude(task, request, error)


async def execute_async(task: Task[..., Any], request: Request) -> Outcome:
    """Carry out one call of an `async def` task in the running event loop."""
    with carrying_out(request):
        try:
            started = _begin(task, request)
            value = _call(task, request)
            if inspect.isawaitable(value):
                value = await value
            return _finish(task, request, value, started)
        except BaseException as error:  # noqa: BLE001  # user code may raise anything
            return _conclude(task, request, error)


def _begin(task: Task[..., Any], request: Request) -> float:
    """What comes before the body; returns when it began, where somebody wants to know."""
    started = time.perf_counter() if task_success.receivers else 0.0
    if task_prerun.receivers:
        announce_start(task, request)
    task.before_start(request.id or "", request.args, request.kwargs)
    return started


def _call(task: Task[..., Any], request: Request) -> Any:
    """Run the body, with the arguments as its annotations want them."""
    if task.conversion is None:
        return _entry(task, request)(*request.args, **request.kwargs)
    args, kwargs = task.conversion.convert(request.args, request.kwargs)
    return _entry(task, request)(*args, **kwargs)


def _entry(task: Task[..., Any], request: Request) -> Callable[..., Any]:
    """`run`, or the task itself where its class overrides `__call__`, as Flask's recipe does."""
    request.entered = type(task).__call__ is Task.__call__
    return task.run if request.entered else task


def _finish(task: Task[..., Any], request: Request, value: Any, started: float) -> Outcome:
    if request.pending_retry is not None:  # self.retry(throw=False)
        return _conclude(task, request, request.pending_retry)
    if task.pydantic and task.conversion is not None:
        value = task.conversion.dump_result(value)
    _run_hook(task.on_success, value, request.id, request.args, request.kwargs)
    if task_success.receivers:
        _run_hook(announce_success, task, value, time.perf_counter() - started)
    _after_return(task, request, SUCCESS, value, None)
    return Succeeded(value)


def _conclude(task: Task[..., Any], request: Request, error: BaseException) -> Outcome:
    """The outcome that an exception means."""
    match error:
        case SoftShutdown():
            if task_postrun.receivers:
                _run_hook(announce_end, task, request, PENDING, error)
            return HandedBack()
        case exceptions.Replaced():
            _after_return(task, request, IGNORED, None, None, retval=error)
            return Replaced(error.signature)
        case Ignore():
            _after_return(task, request, IGNORED, None, None, retval=error)
            return Ignored()
        case Reject():
            return _rejected(task, request, error)
        case Retry():
            return _retried(task, request, error)
        case ArgumentMisfitError():  # it would not fit the next time either
            return _failed(task, request, InvalidTaskError(str(error)))
        case _ if task.autoretry_for and isinstance(error, task.autoretry_for):
            if not isinstance(error, task.dont_autoretry_for):
                return _retry_by_itself(task, request, error)
    return _failed(task, request, error)


def _retry_by_itself(task: Task[..., Any], request: Request, error: BaseException) -> Outcome:
    """`autoretry_for`: as if the task had called `self.retry` with its backoff."""
    options = dict(task.retry_kwargs)
    if task.retry_backoff:
        options["countdown"] = backoff_delay(
            float(task.retry_backoff),
            request.retries,
            maximum=float(task.retry_backoff_max),
            jitter=random.random if task.retry_jitter else None,
        )
    try:
        task.retry(exc=error, **options)
    except Retry as retry:
        return _retried(task, request, retry)
    except BaseException as last:  # noqa: BLE001  # no retry is left: what `retry` raises is the end
        return _failed(task, request, last)
    raise AssertionError("retry returned")


def _retried(task: Task[..., Any], request: Request, retry: Retry) -> Outcome:
    if request.max_retries is not None and request.retries >= request.max_retries:
        request.exhausted = True  # a Retry raised by hand, past what the sender signed
        return _failed(task, request, retry.exc or retry)
    info = ExceptionInfo.of(retry.exc or retry, format_traceback(retry))
    _run_hook(task.on_retry, retry.exc or retry, request.id, request.args, request.kwargs, info)
    if task_retry.receivers:
        _run_hook(announce_retry, task, request, retry, info)
    _after_return(task, request, RETRY_STATE, retry, info)
    return Retried(retry, info.traceback)


def _rejected(task: Task[..., Any], request: Request, error: Reject) -> Outcome:
    if task_failure.receivers and not error.requeue:
        info = ExceptionInfo.of(error, format_traceback(error))
        _run_hook(announce_failure, task, request, error, info)
    _after_return(task, request, REJECTED, None, None, retval=error)
    return Rejected(str(error.reason or ""), error.requeue)


def _failed(task: Task[..., Any], request: Request, error: BaseException) -> Outcome:
    text = format_traceback(error)
    info = ExceptionInfo.of(error, text)
    _run_hook(task.on_failure, error, request.id, request.args, request.kwargs, info)
    if task_failure.receivers:
        _run_hook(announce_failure, task, request, error, info)
    _after_return(task, request, FAILURE, error, info)
    if isinstance(error, task.throws) and task.throws:
        logger.info("task %s[%s] raised expected: %r", task.name, request.id, error)
    return Failed(error, text, request.exhausted)


def format_traceback(error: BaseException) -> str:
    """The traceback as text, without the frames of this module, and bounded."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    lines = tracebacks.format_exception(type(error), error, trace)
    text = "".join(lines)
    if len(text) > MAX_TRACEBACK_CHARACTERS:
        half = MAX_TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n  ... cut ...\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode()


def _after_return(
    task: Task[..., Any],
    request: Request,
    state: str,
    value: Any,
    info: ExceptionInfo | None,
    *,
    retval: Any = None,
) -> None:
    """What comes last. `retval` is what the signal tells where the hook is told nothing."""
    _run_hook(task.after_return, state, value, request.id, request.args, request.kwargs, info)
    if task_postrun.receivers:
        told = value if retval is None else retval
        _run_hook(announce_end, task, request, state, told)


def _run_hook(hook: Callable[..., Any], *args: Any) -> None:
    """A hook that raises must not change how the task ended; it is logged."""
    try:
        hook(*args)
    except Exception:  # user code
        logger.exception("hook %s raised", getattr(hook, "__qualname__", hook))
    except SystemExit:
        logger.exception("hook raised SystemExit")
        sys.stderr.flush()
