"""How many tasks a pool runs at a time: shown, and changed while it runs.

What runs goes on: a pool that shrinks, or whose processes are renewed, lets each process end that has work, and
gives it no more.
"""

from __future__ import annotations

import dataclasses
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from cardoon.exceptions import InvalidTaskError
from cardoon.worker.brood import Brood
from cardoon.worker.child import Phase, TaskProcess
from cardoon.worker.plan import Plan
from cardoon.worker.scheduler import Scheduler

MOST_AT_A_TIME = 10_000
"""Tasks that one worker runs at a time; as `worker_concurrency`."""


class Placement(NamedTuple):
    """Where a job is."""

    pid: int | None
    """Of its process; None while it has none."""
    begun: float | None
    """When, by the monotonic clock; None while it waits."""


@runtime_checkable
class Observable(Protocol):
    """A pool that can be asked how it is."""

    @property
    def size(self) -> int:
        """Tasks that it runs at a time."""
        ...

    def placements(self) -> Mapping[int, Placement]:
        """Where each job is, by its key."""
        ...

    def describe(self) -> dict[str, Any]:
        """Its kind, processes and bounds, for people."""
        ...


@runtime_checkable
class Resizable(Observable, Protocol):
    """A pool whose size can be changed."""

    @property
    def waiting(self) -> int:
        """Jobs that it holds and that have not begun."""
        ...

    def resize(self, size: int) -> None:
        """Run so many tasks at a time from now on; what runs goes on."""
        ...

    def renew(self) -> int:
        """Have new processes in place of those there are, each once it has no job; how many those are."""
        ...


class Sizing(ABC):
    """What a pool of processes does about its size."""

    _lock: threading.RLock
    _plan: Plan
    _scheduler: Brood | Scheduler

    @property
    def size(self) -> int:
        """Tasks that it runs at a time."""
        return self._plan.processes * self._plan.slots

    @property
    def waiting(self) -> int:
        """Jobs that it holds and that have not begun."""
        with self._lock:
            return self._scheduler.waiting()

    def placements(self) -> Mapping[int, Placement]:
        """Where each job is, by its key."""
        with self._lock:
            return {
                key: Placement(process.pid, placed.started if placed.begun else None)
                for process in self._scheduler.processes.values()
                for key, placed in process.jobs.items()
            }

    def describe(self) -> dict[str, Any]:
        """Its kind, processes and bounds."""
        with self._lock:
            plan, processes = self._plan, list(self._scheduler.processes.values())
            running = sum(1 for one in processes for placed in one.jobs.values() if placed.begun)
            return {
                "implementation": plan.kind,
                "max-concurrency": self.size,
                "processes": [one.pid for one in processes if one.pid is not None],
                "phases": dict(Counter(one.phase.value for one in processes)),
                "running": running,
                "waiting": self._scheduler.waiting(),
                "max-tasks-per-child": plan.max_tasks or "N/A",
                "depth": self._scheduler.pace.depth,
            }

    def resize(self, size: int) -> None:
        """Run so many tasks at a time from now on; `InvalidTaskError` for a number that cannot be."""
        if not 1 <= size <= MOST_AT_A_TIME:
            raise InvalidTaskError(
                f"{size} tasks at a time; from 1 to {MOST_AT_A_TIME} are possible"
            )
        with self._lock:
            plan = self._plan
            if plan.slots > 1 or plan.kind in SHARED:
                self._plan = dataclasses.replace(plan, slots=size)
                self._replace_all()
            else:
                self._plan = dataclasses.replace(plan, processes=size)
                if isinstance(self._scheduler, Brood):
                    self._scheduler.resize(size)
                else:
                    self._retire_surplus(self._live(), size)
        self.wake()

    def renew(self) -> int:
        """Have new processes, each once the old one has no job; those of `isolated` are new anyway."""
        with self._lock:
            if isinstance(self._scheduler, Brood):
                return 0
            renewed = self._replace_all()
        self.wake()
        return renewed

    def _missing(self) -> int:
        """How many processes are to be made, where each serves many jobs."""
        there = sum(1 for one in self._scheduler.processes.values() if not one.is_replaced)
        return self._plan.processes - there

    def _live(self) -> list[TaskProcess]:
        return [
            one
            for one in self._scheduler.processes.values()
            if one.phase in {Phase.STARTING, Phase.SERVING} and not one.is_replaced
        ]

    def _replace_all(self) -> int:
        live = self._live()
        for process in live:
            process.is_replaced = True
            self._retire(process)
        return len(live)

    def _retire_surplus(self, live: list[TaskProcess], size: int) -> None:
        """Those with the least to do go first."""
        surplus = len(live) - size
        for process in sorted(live, key=lambda one: len(one.jobs))[: max(0, surplus)]:
            self._retire(process)

    @abstractmethod
    def _retire(self, process: TaskProcess) -> None:
        """Have a process end as soon as it has no job."""

    @abstractmethod
    def wake(self) -> None:
        """Have the loop look again."""


SHARED = frozenset({"threads", "asyncio"})
"""Pools of one process that runs several tasks."""
