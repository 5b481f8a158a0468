"""Tasks that run on the spot: `task.apply()` and `task_always_eager`."""

from __future__ import annotations

import dataclasses
from typing import Any

from cardoon import states
from cardoon.context import Request
from cardoon.coroutines import LoopRunner
from cardoon.exceptions import CardoonError, Ignore, Reject
from cardoon.executor import (
    Failed,
    HandedBack,
    Ignored,
    Rejected,
    Replaced,
    Retried,
    Succeeded,
    execute,
)
from cardoon.result import EagerResult, ResultSource
from cardoon.task import Task


def run_eagerly(
    task: Task[..., Any], request: Request, *, source: ResultSource
) -> EagerResult[Any]:
    """Run one call to its end. A retry follows at once, with the arguments it asks for."""
    runner = LoopRunner()
    try:
        while True:
            outcome = execute(task, dataclasses.replace(request), runner)
            if not isinstance(outcome, Retried):
                break
            request = dataclasses.replace(request, retries=request.retries + 1)
            if outcome.retry.sig is not None:
                request.args, request.kwargs = outcome.retry.sig.args, outcome.retry.sig.kwargs
    finally:
        runner.close()
    task_id = request.id or ""
    match outcome:
        case Succeeded(value):
            return EagerResult(task_id, value, states.SUCCESS, source=source)
        case Failed(error, traceback):
            return EagerResult(task_id, error, states.FAILURE, source=source, traceback=traceback)
        case Rejected(reason):
            return EagerResult(task_id, Reject(reason), states.REJECTED, source=source)
        case Ignored():
            return EagerResult(task_id, Ignore(), states.IGNORED, source=source)
        case Replaced():
            raise CardoonError(f"{task.name}: Replaced was raised by hand; use self.replace")
        case HandedBack():
            raise CardoonError(f"{task.name}: SoftShutdown was raised outside of a worker")
