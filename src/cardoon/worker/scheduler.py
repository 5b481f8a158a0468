"""The scheduler: which process runs which job, and when something is due. No I/O, threads or clock.

Jobs go to the process with the fewest. A process is given more than it can run at a time only while
tasks are short (`pacing`), so that it need not wait for the next claim; what waits behind a task that
turns out to be slow is taken elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cardoon.worker.child import Phase, Placed, TaskProcess
from cardoon.worker.pacing import Pace
from cardoon.worker.pool import Job

RECALL_AFTER = 0.05
"""Seconds that a job may keep others behind it waiting, before they are taken elsewhere."""
RELEASE_AFTER = 2.0
"""Seconds that a job may wait for a process, before it is handed back to the broker."""


class Due(NamedTuple):
    """What is to be done at this moment."""

    hard: Sequence[tuple[TaskProcess, Placed]]
    """Past their hard limit."""
    soft: Sequence[tuple[TaskProcess, Placed]]
    """Past their soft limit."""
    stuck: Sequence[TaskProcess]
    """Processes with jobs behind a slow one."""
    overdue: Sequence[Job]
    """Jobs that no process took in time."""


class Scheduler:
    """Places jobs. The caller guards it with a lock and passes the monotonic time."""

    def __init__(self, pace: Pace, *, max_tasks: int | None) -> None:
        self.pace = pace
        self.processes: dict[int, TaskProcess] = {}
        self._max_tasks = max_tasks
        self._backlog: deque[tuple[Job, float]] = deque()

    def add(self, jobs: Iterable[Job], now: float) -> list[TaskProcess]:
        """Take in jobs, and place what can be placed; returns the processes that were given some."""
        self._backlog.extend((job, now) for job in jobs)
        return self.place_backlog(now)

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

    def take_backlog(self) -> list[Job]:
        """Everything that waits, which is then gone from here."""
        jobs = [job for job, _ in self._backlog]
        self._backlog.clear()
        return jobs

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

    def is_empty(self) -> bool:
        """Whether there is no job anywhere."""
        return not self._backlog and not any(p.jobs for p in self.processes.values())

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

    def find(self, key: int) -> tuple[TaskProcess, Placed] | None:
        """Where a job is."""
        for process in self.processes.values():
            placed = process.jobs.get(key)
            if placed is not None:
                return process, placed
        return None

    def due(self, now: float) -> Due:
        """What is to be done now."""
        hard, soft, stuck = [], [], []
        for process in self.processes.values():
            for placed in process.running:
                if placed.hard_at is not None and now >= placed.hard_at:
                    hard.append((process, placed))
                elif placed.soft_at is not None and now >= placed.soft_at:
                    soft.append((process, placed))
            if self._recall_at(process) <= now:
                stuck.append(process)
        overdue = []
        while self._backlog and now - self._backlog[0][1] >= RELEASE_AFTER:
            overdue.append(self._backlog.popleft()[0])
        return Due(hard, soft, stuck, overdue)

    def next_due(self) -> float:
        """When `due` may have something to say, by the monotonic clock."""
        return min(self._moments(), default=float("inf"))

    def _moments(self) -> Iterator[float]:
        for process in self.processes.values():
            for placed in process.running:
                if placed.hard_at is not None:
                    yield placed.hard_at
                if placed.soft_at is not None:
                    yield placed.soft_at
            yield self._recall_at(process)
        if self._backlog:
            yield self._backlog[0][1] + RELEASE_AFTER

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
