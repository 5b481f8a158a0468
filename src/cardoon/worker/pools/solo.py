"""solo: one task at a time, in the worker's own process and main thread.

For tests, debuggers and very small machines. The task code runs beside the worker's keys; every other
pool keeps them apart.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType as StackFrame
from typing import Any

from cardoon.app import Cardoon
from cardoon.clock import Clock
from cardoon.coroutines import LoopRunner
from cardoon.exceptions import (
    SoftShutdown,
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
)
from cardoon.executor import Failed, execute
from cardoon.worker.interrupt import raise_in_thread
from cardoon.worker.ipc import Frame, FrameType
from cardoon.worker.jobs import Answer, answer_codec, answer_of, failure, prepare
from cardoon.worker.pool import HandedBack, Job, OnEnded, TimedOut, parse_ending
from cardoon.worker.sizing import Placement

logger = logging.getLogger(__name__)

STUCK_GRACE = 5.0
"""Seconds that a task has to end after its hard limit, before the whole worker does."""
EXIT_STUCK = 70


class SoloPool:
    """Runs jobs in the thread that calls `run`."""

    def __init__(self, app: Cardoon, *, clock: Clock, on_ended: OnEnded) -> None:
        self._app = app
        self._clock = clock
        self._on_ended = on_ended
        self._changed = threading.Condition()  # protects what follows
        self._jobs: deque[Job] = deque()
        self._running: Job | None = None
        self._began = 0.0
        self._in_body: Job | None = None
        """The running one, for as long as an interrupt would reach its body and nothing else."""
        self._wanted: tuple[Job, type[BaseException]] | None = None
        """What the main thread is to raise in which job."""
        self._thread: int | None = None
        self._draining: tuple[float, float] | None = None
        self._loop = LoopRunner()
        self.on_stuck: Callable[[int], None] = lambda _: None
        self.on_runtime: Callable[[int, float], None] = lambda _key, _seconds: None

    def run(self, until: Callable[[], bool]) -> None:
        """Run jobs until `until()` holds and none is left."""
        self._thread = threading.get_ident()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self._look)
        try:
            while True:
                with self._changed:
                    while not self._jobs and not until():
                        self._changed.wait(0.25)
                    if not self._jobs:
                        return
                    self._running = self._jobs.popleft()
                    self._began = self._clock.monotonic()
                job = self._running
                began = self._clock.monotonic()
                job.begin()
                ending = self._carry_out(job)
                self.on_runtime(job.key, self._clock.monotonic() - began)
                with self._changed:
                    self._running = None
                    self._changed.notify_all()
                self._on_ended(job.key, ending)
        finally:
            self._loop.close()

    def wait_for_room(self, timeout: float) -> int:
        """One job, when none runs."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_free() or self._draining is not None, timeout)
            return 1 if self._is_free() else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs."""
        with self._changed:
            self._jobs.extend(jobs)
            self._changed.notify_all()

    def cancel(self, key: int, *, signal: str) -> bool:
        """Interrupt the job if it runs; a task that does not end cannot be killed here."""
        with self._changed:
            if self._running is not None and self._running.key == key and self._thread:
                logger.warning("task %s is interrupted (%s)", self._running.id, signal)
                self._raise(self._running, Terminated)
                return True
            return False

    def drain(self, *, soft: float, hard: float) -> None:
        """Hand back what waits, and interrupt what runs after `soft` seconds."""
        with self._changed:
            while self._jobs:
                self._on_ended(self._jobs.popleft().key, HandedBack())
            self._draining = (soft, hard)
            running = self._running
            self._changed.notify_all()
        if running is not None:
            timer = threading.Timer(soft, self._interrupt_for_shutdown, (running,))
            timer.daemon = True
            timer.start()

    def wake(self) -> None:
        """Have `run` look at its condition."""
        with self._changed:
            self._changed.notify_all()

    @property
    def size(self) -> int:
        """One."""
        return 1

    def placements(self) -> Mapping[int, Placement]:
        """Where each job is, by its key."""
        with self._changed:
            found = {job.key: Placement(None, None) for job in self._jobs}
            if self._running is not None:
                found[self._running.key] = Placement(os.getpid(), self._began)
            return found

    def describe(self) -> dict[str, Any]:
        """Its kind, process and bounds."""
        return {
            "implementation": "solo",
            "max-concurrency": 1,
            "processes": [os.getpid()],
            "running": 0 if self._running is None else 1,
        }

    def _is_free(self) -> bool:
        return self._running is None and not self._jobs and self._draining is None

    def _carry_out(self, job: Job) -> Any:
        frame = Frame(FrameType.JOB, job.head, job.body)
        prepared = prepare(self._app, frame)
        if isinstance(prepared, Answer):
            return _ending(prepared)
        codec = answer_codec(job.head)
        try:
            self._in_body = job
            with self._limited(job):
                outcome = execute(prepared.task, prepared.request, self._loop)
            self._leave_body()
        except BaseException as error:  # noqa: BLE001  # interrupted between the body and here
            self._leave_body()
            return _ending(failure(error, prepared, codec=codec))
        if isinstance(outcome, Failed) and isinstance(outcome.error, TimeLimitExceeded):
            return TimedOut(job.hard_limit or 0.0)
        return _ending(answer_of(prepared, outcome, self._app, codec=codec))

    def _leave_body(self) -> None:
        """From here on no interrupt is raised; behind the lock, so that none is on its way either."""
        with self._changed:
            self._in_body = None

    @contextmanager
    def _limited(self, job: Job) -> Iterator[None]:
        """Enforce the job's limits: by a signal in the main thread, by a timer elsewhere.

        A task that outlives its hard limit cannot be killed alone. Its message is settled as failed, and
        the worker ends with code 70, for its supervisor to start it anew.
        """
        timers = []
        if job.soft_limit:
            timers.append((job.soft_limit, lambda: self._raise(job, SoftTimeLimitExceeded)))
        if job.hard_limit:
            timers.append((job.hard_limit, lambda: self._raise(job, TimeLimitExceeded)))
            timers.append((job.hard_limit + STUCK_GRACE, lambda: self._end_stuck(job)))
        running = [threading.Timer(delay, action) for delay, action in timers]
        for timer in running:
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            for timer in running:
                timer.cancel()

    def _raise(self, job: Job, kind: type[BaseException]) -> None:
        with self._changed:
            if self._in_body is not job or self._thread is None:
                return
            if self._thread == threading.main_thread().ident:
                self._wanted = (job, kind)
                signal.pthread_kill(self._thread, signal.SIGUSR1)
            else:
                raise_in_thread(self._thread, kind)

    def _look(self, _signal: int, _frame: StackFrame | None) -> None:
        """The signal came: raise what is wanted, also out of a system call that the task sits in."""
        wanted, self._wanted = self._wanted, None
        if wanted is not None and wanted[0] is self._in_body:
            raise wanted[1]

    def _end_stuck(self, job: Job) -> None:
        if self._running is not job:
            return
        logger.critical("task %s[%s] does not end; the worker exits", job.task, job.id)
        self._on_ended(job.key, TimedOut(job.hard_limit or 0.0))
        self.on_stuck(EXIT_STUCK)

    def _interrupt_for_shutdown(self, job: Job) -> None:
        self._raise(job, SoftShutdown)


def _ending(answer: Answer) -> Any:
    return parse_ending(Frame(FrameType.OUTCOME, answer.head, answer.body))
