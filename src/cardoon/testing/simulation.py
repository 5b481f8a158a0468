"""`Simulation`: a client, a broker, a worker and the schedules of an app, by a clock of their own.

Nothing sleeps and no thread runs: tests of retries, ETAs and schedules say what time it is. Messages
are signed, opened, claimed and settled as in production, by the same code; only the pool of processes
is missing, and the store is memory.
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
import threading
import zoneinfo
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

from cardoon.app import Cardoon, current_application
from cardoon.backends.memory import MemoryBackend
from cardoon.beat.agenda import Agenda
from cardoon.beat.rounds import Rounds
from cardoon.beat.sending import make_entry_calls
from cardoon.beat.service import terms_of, window_of
from cardoon.beat.sources import TimetableSource
from cardoon.broker import Kept
from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError
from cardoon.loading import load_modules
from cardoon.producer import Producer
from cardoon.testing.capturing import not_eager
from cardoon.testing.clock import START, FakeClock
from cardoon.testing.simulated import SimulatedBroker, SimulatedLink, SimulatedWorker
from cardoon.worker.options import WorkerOptions
from cardoon.worker.pool import Ending, Job

_OWN_PLACE: dict[str, Any] = {
    "broker_url": "memory://",
    "result_backend": "memory://",
    "worker_pool": "solo",
    "security_key": "",
    "security_key_password": "",
    "security_certificate": "",
    "security_cert_store": (),
    "security_ca_certificates": (),
    "security_revoked": (),
    "security_audit_log": "",
}
"""Settings that would lead out of the simulation."""
_UPKEEP_SECONDS = 1.0
MANY_TASKS = 100_000
"""Runs without time passing, or within one `advance`, after which a simulation is taken for endless."""


class SimulationError(CardoonError):
    """A simulation cannot go on: it is endless, or someone waits for what will never come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a task."""

    task: str
    id: str
    at: datetime
    """In UTC."""
    outcome: str
    """`succeeded`, `failed`, `retried`, `rejected`, `ignored`, `replaced`, `timedout`, ..."""


class Simulation:
    """Runs the tasks of an app, by default of the current one, when and in the order they fall due.

        with Simulation(app) as simulation:
            result = charge.apply_async((7,), countdown=60)
            simulation.advance(60)
            assert result.get() == "charged"

    Within the block the app sends to the simulation, its clock is the simulation's, `task_always_eager`
    is off, and `random` is seeded with `seed`, so that backoff with jitter is the same in every run.
    Entries of `beat_schedule` are sent when they fall due. The identity that signs is made for the
    simulation and deleted with it; nothing is read from or written to the app's own broker, result
    backend or state directory. `queues` are those that the worker consumes: by default all.

    `concurrency` is how many messages the worker claims at a time. Tasks run one after another all the
    same; while one runs, no time passes unless it advances `simulation.clock` itself.
    """

    __test__ = False  # for pytest

    def __init__(
        self,
        app: Cardoon | None = None,
        *,
        start: datetime | float = START,
        queues: Sequence[str] | None = None,
        concurrency: int = 1,
        seed: int = 0,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"Simulation: concurrency={concurrency!r} is below 1")
        self.app = app or current_application()
        self.clock = FakeClock(start.timestamp() if isinstance(start, datetime) else float(start))
        self.runs: list[Run] = []
        """What has run so far."""
        self._queues = None if queues is None else frozenset(queues)
        self._concurrency = concurrency
        self._seed = seed
        self._lock = threading.RLock()  # one thread at a time lets time pass
        self._exits: ExitStack | None = None
        self._kept_up = 0.0

    def __enter__(self) -> Self:
        load_modules(self.app)
        with ExitStack() as exits:
            state = random.getstate()
            exits.callback(random.setstate, state)
            random.seed(self._seed)
            exits.enter_context(not_eager(self.app))
            self._build(exits)
            before, self.app.clock = self.app.clock, self.clock
            exits.callback(setattr, self.app, "clock", before)
            self._exits = exits.pop_all()
        self._rounds = self._make_rounds()
        self._rounds.follow()
        return self

    def __exit__(self, *exc_info: object) -> None:
        exits, self._exits = self._exits, None
        if exits is not None:
            exits.close()

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def run_due(self) -> int:
        """Run what is due at this moment, and what that makes due; return how many tasks ran."""
        with self._lock:
            return self._run_due(MANY_TASKS)

    def advance(self, seconds: float | timedelta) -> int:
        """Let time pass, and run everything that falls due, each at its time; return how many ran."""
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if seconds < 0:
            raise ValueError(f"time cannot pass backwards, by {seconds} seconds")
        return self._advance_to(self.clock.now() + seconds)

    def advance_to(self, moment: datetime) -> int:
        """`advance` until a moment; a naive one is read in the app's time zone."""
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zoneinfo.ZoneInfo(self.app.settings.timezone))
        if moment < self.now:
            raise ValueError(f"time cannot pass backwards, to {moment} from {self.now}")
        return self._advance_to(moment.timestamp())

    def run_until_idle(self, limit: float | timedelta = timedelta(days=31)) -> int:
        """Let as much time pass as it takes until no message is left, at most `limit`.

        Entries of `beat_schedule` are sent meanwhile, but not waited for.
        """
        seconds = limit.total_seconds() if isinstance(limit, timedelta) else limit
        end, ran = self.clock.now() + seconds, self.run_due()
        while (due := self._broker.next_due()) is not None and due <= end:
            ran += self._advance_to(due)
            if ran > MANY_TASKS:
                raise SimulationError(self._endless(ran))
        return ran

    def next_due(self) -> datetime | None:
        """When a message or an entry falls due next; None if nothing ever will."""
        with self._lock:
            found = self._next_due()
        return None if found is None else datetime.fromtimestamp(found, UTC)

    def left(self) -> int:
        """How many messages have not ended: due, scheduled, or waiting for others."""
        depths = self._broker.depths()
        return sum(one.ready + one.scheduled + one.dormant + one.leased for one in depths)

    def dead_letters(self) -> list[str]:
        """Why messages became dead letters, in order."""
        return [one.reason for one in self._broker.kept(Kept.DEAD_LETTER, limit=MANY_TASKS)]

    def refused(self) -> list[str]:
        """Why messages were refused, in order."""
        return [one.reason for one in self._broker.kept(Kept.QUARANTINE, limit=MANY_TASKS)]

    def _build(self, exits: ExitStack) -> None:
        folder = tempfile.mkdtemp(prefix="cardoon-")
        exits.callback(shutil.rmtree, folder, ignore_errors=True)
        own = {**_OWN_PLACE, "state_directory": folder}
        if self.app.settings.result_backend.startswith("disabled:"):
            del own["result_backend"]
        conf = Conf()
        conf.update({**self.app.conf.explicit, **own})
        deployments = [
            Deployment(conf.settings(), clock=self.clock, role=role)
            for role in ("client", "worker")
        ]
        for one in deployments if deployments[0].signs else ():
            one.identity()  # both are made before either is asked whom it trusts
        self._broker = SimulatedBroker(clock=self.clock)
        backend = MemoryBackend(self._broker.results) if "result_backend" in own else None
        self.worker = SimulatedWorker(
            WorkerOptions(settings=own, hostname="simulation@localhost"),
            app=self.app,
            clock=self.clock,
            stores=(self._broker, backend),
        )
        self.worker.subscriptions.begin(seconds=math.inf)
        exits.callback(lambda: self.worker.close())  # noqa: PLW0108  # as it will be by then
        client = Producer(deployments[0], stores=(self._broker, backend))
        exits.callback(client.close)
        link = SimulatedLink(self.worker, client, clock=self.clock, run=self._run_for)
        exits.enter_context(self.app.attached(link))

    def _make_rounds(self) -> Rounds:
        """What a beat does, by the same code; but it forgets with the simulation how far it came."""
        settings = self.app.settings
        return Rounds(
            [TimetableSource(lambda: self.app.settings.beat_schedule)],
            make_calls=partial(make_entry_calls, self.app),
            send_calls=lambda calls, *, timeout: self.app.sender.send(calls, timeout=timeout),
            notes=None,
            terms=terms_of(settings, sees_copies=False),
            agenda=Agenda(zone=settings.timezone, window=window_of(settings)),
            audit=self.worker.audit,
            clock=self.clock,
            is_strict=True,
        )

    def _run_due(self, most: int) -> int:
        self._check_open()
        ran = 0
        while True:
            self._rounds.step()
            self.worker.keeper.listen()
            if not self.worker.claim(self._broker, limit=self._concurrency, only=self._queues):
                return ran
            while (done := self.worker.step()) is not None:
                self._note(*done)
                ran += 1
                self.worker.keeper.listen()
            if ran > most:
                raise SimulationError(self._endless(ran))

    def _advance_to(self, target: float) -> int:
        with self._lock:
            ran = self._run_due(MANY_TASKS)
            while (due := self._next_due()) is not None and due <= target:
                self._pass_time_until(due)
                ran += self._run_due(MANY_TASKS - ran)
            self._pass_time_until(target)
            return ran + self._run_due(MANY_TASKS - ran)

    def _run_for(self, task_ids: Sequence[str], deadline: float | None, *, in_task: bool) -> bool:
        """Let time pass for someone who waits for results; see `Waiter`."""
        with self._lock:
            if in_task:
                if deadline is not None:
                    return False
                raise SimulationError(
                    f"a task waits for {task_ids[0]}, which cannot run before that task has ended: "
                    "a simulation runs one at a time"
                )
            now, monotonic = self.clock.now(), self.clock.monotonic()
            if self._run_due(MANY_TASKS):
                return True
            end = None if deadline is None else now + deadline - monotonic
            due = self._next_due()
            if end is None and self._broker.next_due() is None:
                raise SimulationError(
                    f"the result of task {task_ids[0]} is waited for, but nothing is left that could "
                    f"bring it; {self.left()} messages wait for others or in queues that nobody "
                    "consumes"
                )
            if due is None or (end is not None and due > end):
                assert end is not None
                self._pass_time_until(end)
                return False
            self._pass_time_until(due)
            return True

    def _next_due(self) -> float | None:
        self._rounds.follow()
        tick = self._rounds.agenda.next_due()
        found = [] if tick is None else [tick.timestamp()]
        message = self._broker.next_due()
        return min(found if message is None else [*found, message], default=None)

    def _pass_time_until(self, moment: float) -> None:
        self.clock.advance_to(moment)
        if self.clock.monotonic() - self._kept_up >= _UPKEEP_SECONDS:
            self._kept_up = self.clock.monotonic()
            self._broker.maintain()

    def _note(self, job: Job, ending: Ending) -> None:
        outcome = type(ending).__name__.lower()
        self.runs.append(Run(task=job.task, id=job.id, at=self.now, outcome=outcome))

    def _check_open(self) -> None:
        if self._exits is None:
            raise SimulationError("the simulation has ended; use it within its `with` block")

    def _endless(self, ran: int) -> str:
        last = ", ".join(dict.fromkeys(run.task for run in self.runs[-5:]))
        return f"{ran} tasks ran and there are more; is it endless? the last ones were {last}"
