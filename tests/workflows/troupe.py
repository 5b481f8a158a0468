"""A client and a worker whose jobs run in this process, when and as a test says.

What runs is real: the producer, a broker with its results, the consumer, the jobs as they cross to a
task process and back, the settler. Only the pool is missing; `Troupe.play` stands in for it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from cardoon import Cardoon
from cardoon.audit import AuditLog
from cardoon.backends.memory import MemoryBackend
from cardoon.backends.sqlite import SqliteBackend
from cardoon.broker import Completion, Kept, Requeue
from cardoon.brokers.memory import MemoryBroker
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.calling import result_codec
from cardoon.coroutines import LoopRunner
from cardoon.deployment import Deployment
from cardoon.executor import execute
from cardoon.producer import Producer
from cardoon.sqlite.database import Database
from cardoon.testing import FakeClock
from cardoon.worker.catalogue import rules_of
from cardoon.worker.claiming import Options
from cardoon.worker.consumer import Consumer
from cardoon.worker.held import HeldTable
from cardoon.worker.ipc import FROM_CHILD, FROM_WORKER, Frame, FrameReader, FrameType, pack_frame
from cardoon.worker.jobs import Answer, answer_codec, answer_of, prepare
from cardoon.worker.leases import Revoked
from cardoon.worker.ledger import Ledger
from cardoon.worker.pool import Ending, Job, parse_ending
from cardoon.worker.settler import Send, Settler

LEASE = 30.0
PATIENCE = 20.0
"""Seconds to wait for the settler's thread; far more than it takes."""
MANY_ROUNDS = 2000
QUEUES = ("celery", "fast")


class StuckError(AssertionError):
    """Messages are left that nothing will ever end."""


class RecordingBroker(MemoryBroker):
    """Remembers which messages ended, in order."""

    ended: list[str]

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        took = super().complete(completions)
        self.ended += ends_in(completions, took)
        return took


class RecordingSqliteBroker(SqliteBroker):
    """The same, in a file."""

    ended: list[str]

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        took = super().complete(completions)
        self.ended += ends_in(completions, took)
        return took


def ends_in(completions: Sequence[Completion], took: Sequence[bool]) -> list[str]:
    """The ids of the messages whose loan ended for good."""
    return [
        one.settlement.delivery.id
        for one, effective in zip(completions, took, strict=True)
        if effective and not isinstance(one.settlement, Requeue)
    ]


class Shelf:
    """A pool that keeps its jobs until somebody takes them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs


class Troupe:
    """One client, one worker, and a clock that moves when nothing else can be done."""

    def __init__(self, folder: Path, *, store: str = "memory", **settings: Any) -> None:
        self.clock = FakeClock()
        given = {
            "broker_url": "memory://",
            "state_directory": str(folder / "state"),
            "task_max_crashes": 100,
            **settings,
        }
        self.app = Cardoon("shop", set_as_current=False, clock=self.clock, **given)
        if store == "memory":
            self.broker: Any = RecordingBroker(clock=self.clock)
            self.backend: Any = MemoryBackend(self.broker.results)
        else:
            # Whether it reaches the disk is tested elsewhere.
            database = Database(folder / "store.db", clock=self.clock, flush=lambda _: None)
            self.broker = RecordingSqliteBroker(database)
            self.backend = SqliteBackend(database)
        self.broker.ended = []
        deployment = Deployment(self.app.settings, clock=self.clock)
        self.client = Producer(deployment, stores=(self.broker, self.backend))
        self.app.attach(self.client)
        self._loop = LoopRunner()
        self._worker: tuple[Consumer, Settler, AuditLog] | None = None
        self.held = HeldTable()
        self.revoked = Revoked()
        self.shelf = Shelf()
        self.folder = folder

    def close(self) -> None:
        """Let go of everything."""
        self._loop.close()
        if self._worker is not None:
            consumer, settler, audit = self._worker
            consumer.stop(PATIENCE)
            assert settler.stop(PATIENCE)
            audit.close()
        self.client.close()

    # The worker

    def start(self) -> tuple[Consumer, Settler]:
        """The worker's parts; made with the tasks that the app has by then."""
        if self._worker is None:
            settings = self.app.settings
            deployment = Deployment(settings, clock=self.clock, role="worker")
            audit = deployment.audit()
            ledger = Ledger(
                broker=self.broker,
                backend=self.backend,
                shared_store=True,
                task_signer=deployment.make_signer(settings.task_serializer),
                result_signer=deployment.make_signer(settings.result_serializer),
                audit=audit,
                clock=self.clock,
                worker="cardoon@here",
                result_expires=settings.result_expires,
            )
            settler = Settler(ledger, held=self.held, clock=self.clock)
            consumer = Consumer(
                Options(
                    queues=QUEUES,
                    lease=LEASE,
                    hostname="cardoon@here",
                    max_bytes=settings.message_max_bytes,
                    result_codec=result_codec(settings),
                ),
                broker=self.broker,
                guard=self.broker,
                gate=deployment.make_gate(settings.accept_content),
                pool=self.shelf,
                settler=settler,
                held=self.held,
                revoked_ids=self.revoked,
                catalogue={name: rules_of(task, settings) for name, task in self.app.tasks.items()},
                audit=audit,
                clock=self.clock,
            )
            settler.start()
            self._worker = consumer, settler, audit
        return self._worker[:2]

    def consume(self, limit: int = 100) -> list[Job]:
        """One round of the consumer, written down; the jobs that it made."""
        consumer, _ = self.start()
        deliveries = self.broker.receive(QUEUES, limit=limit, lease=LEASE, timeout=0)
        if deliveries:
            consumer.admit(deliveries)
            self.flush()
        jobs, self.shelf.jobs = self.shelf.jobs, []
        return jobs

    def carry_out(self, job: Job) -> Ending:
        """Run a job as a task process does, frames included."""
        [frame] = FrameReader(FROM_WORKER).feed(pack_frame(FrameType.JOB, job.head, job.body))
        prepared = prepare(self.app, frame)
        if isinstance(prepared, Answer):
            answer = prepared
        else:
            outcome = execute(prepared.task, prepared.request, self._loop)
            answer = answer_of(prepared, outcome, self.app, codec=answer_codec(job.head))
        packed = pack_frame(FrameType.OUTCOME, answer.head, answer.body)
        [told] = FrameReader(FROM_CHILD).feed(packed)
        return parse_ending(Frame(told.type, told.head, told.body))

    def end(self, endings: Sequence[tuple[Job, Ending]]) -> None:
        """The pool says how jobs ended; written down, as one batch if the settler is quick."""
        _, settler = self.start()
        for job, ending in endings:
            settler.ended(job.key, ending)
        self.flush()

    def flush(self) -> None:
        """Wait until the settler has written all that it was given."""
        _, settler = self.start()
        for _ in range(2):  # a send is answered before the endings of its own batch are written
            written = threading.Event()
            settler.put(
                Send([], self.clock.monotonic() + 5, functools.partial(_set, written)),
            )
            assert written.wait(PATIENCE)

    # The play

    def play(self, random: Random | None = None, *, faults: float = 0.0) -> None:
        """Run all there is to its end; `StuckError` if there is something without an end.

        With `random` in batches of any size and in any order; `faults` is how often a worker dies
        after it ran a job and before it told, or tells when its lease is long over.
        """
        chance = random or Random(0)
        waiting: list[Job] = []
        late: list[tuple[Job, Ending]] = []
        for _ in range(MANY_ROUNDS):
            jobs = self.consume(chance.randint(1, 8) if random else 100)
            waiting += jobs
            if random:
                chance.shuffle(waiting)
            if not waiting:
                if late and chance.random() < 0.5:
                    self.end([late.pop()])
                elif not self.wait():
                    self.end(late)
                    return
                continue
            count = chance.randint(1, len(waiting)) if random else len(waiting)
            now, waiting = waiting[:count], waiting[count:]
            ended = []
            for job in now:
                ending = self.carry_out(job)
                if chance.random() >= faults:
                    ended.append((job, ending))
                elif chance.random() < 0.5:
                    late.append((job, ending))
            self.end(ended)
        raise StuckError(f"still running after {MANY_ROUNDS} rounds: {self.left()}")

    def wait(self) -> bool:
        """Let time pass until something is due; False when nothing is left at all."""
        if not any(self.left()):
            return False
        for seconds in (1.0, LEASE, 120.0):
            self.clock.advance(seconds)
            self.broker.maintain()
            if self.left()[0]:
                return True
        raise StuckError(f"ready, scheduled, dormant, leased: {self.left()}")

    def left(self) -> tuple[int, int, int, int]:
        """Ready, scheduled, dormant and leased messages."""
        depths = self.broker.depths()
        return (
            sum(one.ready for one in depths),
            sum(one.scheduled for one in depths),
            sum(one.dormant for one in depths),
            sum(one.leased for one in depths),
        )

    def quarantined(self) -> list[str]:
        """The reasons for which messages were refused."""
        return [one.reason for one in self.broker.kept(Kept.QUARANTINE, limit=1000)]


def _set(event: threading.Event, _answer: object) -> None:
    event.set()


def run(troupe: Troupe, canvas: Any, **play: Any) -> Any:
    """Send a canvas, play it to its end, and return the result or the exception."""
    result = canvas.apply_async()
    troupe.play(**play)
    return result.get(timeout=0, propagate=False)
