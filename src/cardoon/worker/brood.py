"""The brood: the scheduler of `isolated`, where a process serves one job. No I/O, threads or clock.

Processes are made ahead, as many as tasks run at a time, and each knows its sandbox profile. A job takes
one of its profile, and one of that profile is made in its place, so what is ready follows what is asked
for. Where none is ready, one is made, and an idle one of another profile gives way.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cardoon.worker.child import Phase, TaskProcess
from cardoon.worker.pacing import MAX_DEPTH, Pace
from cardoon.worker.placing import Placing
from cardoon.worker.plan import Plan
from cardoon.worker.pool import Job
from cardoon.worker.scheduler import Scheduler

HORIZON = 0.1
"""Seconds of work that may wait here for a place. More than where jobs wait in a process (`pacing`): what waits
here is behind no task in particular, and a process for each is itself some work."""
MOST_PROCESSES = 4
"""For each place: one that runs, one that is ready, and two that may be on their way out."""


class Wish(NamedTuple):
    """What is to be made and ended so that jobs find what they need."""

    make: Sequence[int]
    """A profile for each process."""
    end: Sequence[TaskProcess]


class Brood(Placing):
    """Places jobs in processes that run one. The caller guards it with a lock and passes the monotonic time."""

    def __init__(self, pace: Pace, *, concurrency: int) -> None:
        super().__init__(pace)
        self._concurrency = concurrency
        self._used: dict[int, None] = {0: None}
        """The profiles, the one that was used last in the end."""
        self._taken: deque[int] = deque(maxlen=concurrency)
        """The profiles of processes that were given a job and have no successor yet."""

    def place_backlog(self, now: float) -> list[TaskProcess]:
        """Place what waits, the oldest first."""
        free = self._concurrency - self._running()
        if free <= 0 or not self._backlog:
            return []
        ready: dict[int, deque[TaskProcess]] = {}
        for process in self.processes.values():
            if process.phase is Phase.SERVING and not process.jobs:
                ready.setdefault(process.profile, deque()).append(process)
        touched: list[TaskProcess] = []
        waiting: deque[tuple[Job, float]] = deque()
        for job, since in self._backlog:
            found = ready.get(job.profile)
            if found and len(touched) < free:
                process = found.popleft()  # the oldest, so that a nest that was replaced can end
                process.place(job, now)
                touched.append(process)
                self._used.pop(job.profile, None)
                self._used[job.profile] = None
                self._taken.append(job.profile)
            else:
                waiting.append((job, since))
        self._backlog = waiting
        return touched

    def resize(self, concurrency: int) -> None:
        """Run so many at a time from now on."""
        self._concurrency = concurrency
        self._taken = deque(self._taken, maxlen=concurrency)

    def wish(self) -> Wish:
        """What is to be made and ended now; made processes are to be in `processes` before the next."""
        idle = Counter(p.profile for p in self._idle())
        # Only so many waiting jobs can begin before there is something new to decide.
        waiting: Counter[int] = Counter()
        for job, _ in self._backlog:
            if waiting.total() < self._concurrency:
                waiting[job.profile] += 1
        make = list((waiting - idle).elements())
        spare = self._concurrency - idle.total() - len(make)
        if spare >= 0:
            make += [self._next_profile() for _ in range(spare)]
            end: list[TaskProcess] = []
        else:
            end = self._dispensable(idle - waiting, -spare)
        most = self._concurrency * MOST_PROCESSES
        return Wish(make[: max(0, most - len(self.processes))], end)

    def room(self) -> int:
        """How many jobs would begin soon: what waits here waits in no process, and goes to any."""
        wanted = self._concurrency * self.pace.depth
        return max(0, wanted - self._running() - len(self._backlog))

    def is_worth_a_claim(self) -> bool:
        """A free place, or half of what may wait: a claim of one costs as much as one of fifty."""
        if not any(p.phase is Phase.SERVING for p in self.processes.values()):
            return False
        if len(self._backlog) + self._running() < self._concurrency:
            return True
        room = self.room()
        return room > 0 and room * 2 >= self._concurrency * self.pace.depth

    def _running(self) -> int:
        return sum(1 for process in self.processes.values() if process.jobs)

    def _idle(self) -> Iterator[TaskProcess]:
        for process in self.processes.values():
            if process.phase in {Phase.STARTING, Phase.SERVING} and not process.jobs:
                yield process

    def _next_profile(self) -> int:
        """What was taken is made anew; else the one that was used last."""
        return self._taken.popleft() if self._taken else next(reversed(self._used))

    def _dispensable(self, surplus: Counter[int], count: int) -> list[TaskProcess]:
        """Idle processes that nothing waits for, those of the profile first that was not used longest."""
        found: list[TaskProcess] = []
        for profile in list(self._used):
            mine = [p for p in self._idle() if p.profile == profile]
            found += mine[: surplus[profile]]
        return found[:count]


def make_scheduler(plan: Plan) -> Brood | Scheduler:
    """Who places the jobs of such a pool."""
    most = plan.max_depth or MAX_DEPTH
    if plan.is_single:
        return Brood(Pace(most, horizon=HORIZON), concurrency=plan.processes)
    return Scheduler(Pace(most), max_tasks=plan.max_tasks)
