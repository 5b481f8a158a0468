"""Placing: what schedulers of either kind have in common. No I/O, threads or clock.

They know the processes and what those hold, keep what no process has yet, and say when something is due.
Which process gets which job, and how much is taken in, is each one's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cardoon.worker.child import Placed, TaskProcess
from cardoon.worker.pacing import Pace
from cardoon.worker.pool import Job

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


class Placing(ABC):
    """Places jobs. The caller guards it with a lock and passes the monotonic time."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.processes: dict[int, TaskProcess] = {}
        self._backlog: deque[tuple[Job, float]] = deque()

    @abstractmethod
    def place_backlog(self, now: float) -> list[TaskProcess]:
        """Place what waits; returns the processes that were given some."""

    def add(self, jobs: Iterable[Job], now: float) -> list[TaskProcess]:
        """Take in jobs, and place what can be placed; returns the processes that were given some."""
        self._backlog.extend((job, now) for job in jobs)
        return self.place_backlog(now)

    def take_backlog(self) -> list[Job]:
        """Everything that waits, which is then gone from here."""
        jobs = [job for job, _ in self._backlog]
        self._backlog.clear()
        return jobs

    def withdraw(self, key: int) -> bool:
        """Take away a job that no process has yet; whether it was there."""
        before = len(self._backlog)
        self._backlog = deque(one for one in self._backlog if one[0].key != key)
        return len(self._backlog) < before

    def waiting(self) -> int:
        """Jobs that have not begun: without a process, or behind another one in theirs."""
        placed = (placed for p in self.processes.values() for placed in p.jobs.values())
        return len(self._backlog) + sum(1 for one in placed if not one.begun)

    def is_empty(self) -> bool:
        """Whether there is no job anywhere."""
        return not self._backlog and not any(p.jobs for p in self.processes.values())

    def find(self, key: int) -> tuple[TaskProcess, Placed] | None:
        """Where a job is."""
        for process in self.processes.values():
            placed = process.jobs.get(key)
            if placed is not None:
                return process, placed
        return None

    def due(self, now: float) -> Due:
        """What is to be done now."""
        hard, soft = [], []
        for process in self.processes.values():
            for placed in process.running:
                if placed.hard_at is not None and now >= placed.hard_at:
                    hard.append((process, placed))
                elif placed.soft_at is not None and now >= placed.soft_at:
                    soft.append((process, placed))
        stuck = self._stuck(now)
        overdue = []
        while self._backlog and now - self._backlog[0][1] >= RELEASE_AFTER:
            overdue.append(self._backlog.popleft()[0])
        return Due(hard, soft, stuck, overdue)

    def next_due(self) -> float:
        """When `due` may have something to say, by the monotonic clock."""
        return min(self._moments(), default=float("inf"))

    def _stuck(self, _now: float) -> list[TaskProcess]:
        """Processes with jobs behind a slow one."""
        return []

    def _moments(self) -> Iterator[float]:
        for process in self.processes.values():
            for placed in process.running:
                if placed.hard_at is not None:
                    yield placed.hard_at
                if placed.soft_at is not None:
                    yield placed.soft_at
        if self._backlog:
            yield self._backlog[0][1] + RELEASE_AFTER
