"""Processes for the scheduler's tests: records of them, with nothing behind their channels."""

from __future__ import annotations

from cardoon.worker.child import Phase, TaskProcess
from cardoon.worker.pool import Job
from cardoon.worker.scheduler import Scheduler


def job(key, **limits):
    """A job with a number."""
    return Job(key, "shop.pay", f"t{key}", {"key": key}, b"", **limits)


def jobs(*keys):
    """Jobs with these numbers."""
    return [job(key) for key in keys]


def serve(scheduler: Scheduler, index: int, *, slots: int = 1) -> TaskProcess:
    """A process that has said that it is ready."""
    process = TaskProcess(index, slots)
    process.phase = Phase.SERVING
    scheduler.processes[index] = process
    return process


def finish(scheduler: Scheduler, process: TaskProcess, key: int, now: float) -> list[TaskProcess]:
    """A job ends in a process, and what comes next is begun, as the supervisor does it."""
    assert process.remove(key, now) is not None
    if not process.jobs:
        scheduler.begin_reserved(process, now)
    return scheduler.place_backlog(now)
