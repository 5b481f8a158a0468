"""The scheduler: which process runs which job, and when something is due. No I/O, threads or clock.

Jobs go to the process with the fewest. A process is given more than it can run at a time only while
tasks are short (`pacing`), so that it need not wait for the next claim; what waits behind a task that
turns out to be slow is taken elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from cardoon.worker.child import Phase, TaskProcess
from cardoon.worker.pacing import Pace
from cardoon.worker.placing import Placing
from cardoon.worker.pool import Job

RECALL_AFTER = 0.05
"""Seconds that a job may keep others behind it waiting, before they are taken elsewhere."""


class Scheduler(Placing):
    """Places jobs in processes that run many. The caller guards it with a lock and passes the monotonic time."""

    def __init__(self, pace: Pace, *, max_tasks: int | None) -> None:
        super().__init__(pace)
        self._max_tasks = max_tasks

    def place_backlog(self, now: float) -> list[TaskProcess]:
        """Place what waits."""
        touched: dict[int, TaskProcess] = {}
        for _ in range(len(self._backlog)):
            job, since = self._backlog.popleft()
            process = self._choose(job)
            if process is None:
                self._backlog.append((job, since))
            elif job.alone and process.jobs:
                process.reserved = job
            else:
                process.alone = job.alone
                process.place(job, now)
                touched[process.index] = process
        return list(touched.values())

    def begin_reserved(self, process: TaskProcess, now: float) -> bool:
        """A process has run empty: give it the job that waited to be alone there."""
        process.alone = False
        if process.reserved is None:
            return False
        job, process.reserved = process.reserved, None
        process.alone = True
        process.place(job, now)
        return True

    def is_spent(self, process: TaskProcess) -> bool:
        """Whether a process has run as many tasks as it may."""
        return self._max_tasks is not None and process.taken >= self._max_tasks

    def room(self) -> int:
        """How many jobs would be placed at once."""
        return sum(self._room_of(process) for process in self.processes.values())

    def is_worth_a_claim(self) -> bool:
        """An idle slot, or half of the pipeline: a claim of one costs as much as one of fifty."""
        if self._backlog:
            return False
        room = full = 0
        for process in self.processes.values():
            free = self._room_of(process)
            if free and len(process.jobs) < process.slots:
                return True
            room += free
            full += process.slots * self.pace.depth
        return room > 0 and room * 2 >= full

    def _stuck(self, now: float) -> list[TaskProcess]:
        """Processes with jobs behind a slow one."""
        return [p for p in self.processes.values() if self._recall_at(p) <= now]

    def _moments(self) -> Iterator[float]:
        yield from super()._moments()
        yield from map(self._recall_at, self.processes.values())

    def _recall_at(self, process: TaskProcess) -> float:
        """When the jobs behind the running ones are to be taken elsewhere."""
        if len(process.jobs) <= process.slots or process.recalling:
            return float("inf")
        return min(placed.started for placed in process.running) + RECALL_AFTER

    def _room_of(self, process: TaskProcess) -> int:
        if process.phase is not Phase.SERVING or process.alone or process.reserved is not None:
            return 0
        room = process.slots * self.pace.depth - len(process.jobs)
        if self._max_tasks is not None:
            room = min(room, self._max_tasks - process.taken)
        return max(0, room)

    def _choose(self, job: Job) -> TaskProcess | None:
        """The least loaded process with room; for a job that must be alone, one to be kept free."""
        best = None
        for process in self.processes.values():
            fits = self._can_reserve(process) if job.alone else self._room_of(process) > 0
            if fits and (best is None or len(process.jobs) < len(best.jobs)):
                best = process
        return best

    def _can_reserve(self, process: TaskProcess) -> bool:
        is_free = not process.alone and process.reserved is None
        return process.phase is Phase.SERVING and is_free and not self.is_spent(process)
