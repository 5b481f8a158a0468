"""stepping: runs jobs when it is told to, in the thread that tells it; for simulations.

Time limits count the clock that it is given: a task is never interrupted, but one during which that
clock has passed the hard limit has timed out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from cardoon.app import Cardoon
from cardoon.clock import Clock
from cardoon.coroutines import LoopRunner
from cardoon.executor import execute
from cardoon.worker.ipc import Frame, FrameType
from cardoon.worker.jobs import Answer, answer_of, prepare
from cardoon.worker.pool import Ending, HandedBack, Job, Killed, OnEnded, TimedOut, parse_ending


class SteppingPool:
    """Keeps jobs until `step` runs one."""

    def __init__(self, app: Cardoon, *, clock: Clock, on_ended: OnEnded) -> None:
        self._app = app
        self._clock = clock
        self._on_ended = on_ended
        self._jobs: deque[Job] = deque()
        self._loop = LoopRunner()

    def step(self) -> tuple[Job, Ending] | None:
        """Run the next job to its end; None if there is none."""
        if not self._jobs:
            return None
        job = self._jobs.popleft()
        job.begin()
        ending = self._carry_out(job)
        self._on_ended(job.key, ending)
        return job, ending

    def close(self) -> None:
        """End the event loop of its coroutines; safe twice."""
        self._loop.close()

    def run(self, until: Callable[[], bool]) -> None:
        """Run jobs until `until()` holds, or none is left."""
        while not until() and self.step():
            pass

    def wait_for_room(self, timeout: float) -> int:  # noqa: ARG002  # there is nothing to wait for
        """One job, when none is here."""
        return 0 if self._jobs else 1

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs."""
        self._jobs.extend(jobs)

    def cancel(self, key: int, *, signal: str) -> bool:
        """Take a job that has not begun away; the one that runs is the caller."""
        for job in self._jobs:
            if job.key == key:
                self._jobs.remove(job)
                self._on_ended(key, Killed(signal))
                return True
        return False

    def drain(self, *, soft: float, hard: float) -> None:  # noqa: ARG002  # nothing runs
        """Hand back what waits."""
        while self._jobs:
            self._on_ended(self._jobs.popleft().key, HandedBack())

    def wake(self) -> None:
        """Nobody sleeps here."""

    def _carry_out(self, job: Job) -> Ending:
        prepared = prepare(self._app, Frame(FrameType.JOB, job.head, job.body))
        if isinstance(prepared, Answer):
            return _ending(prepared)
        began = self._clock.monotonic()
        outcome = execute(prepared.task, prepared.request, self._loop)
        if job.hard_limit is not None and self._clock.monotonic() - began >= job.hard_limit:
            return TimedOut(job.hard_limit)
        return _ending(answer_of(prepared, outcome, self._app, codec=job.head["codec"]))


def _ending(answer: Answer) -> Ending:
    return parse_ending(Frame(FrameType.OUTCOME, answer.head, answer.body))
