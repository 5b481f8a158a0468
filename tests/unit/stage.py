"""A stage for these tests: the parts of a client and of a worker, on stores in memory.

Nothing here runs by itself but the settler: a test claims, ends and looks when it wants to.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cardoon import Cardoon
from cardoon.audit import AuditLog
from cardoon.backends.memory import MemoryBackend
from cardoon.broker import Delivery, Kept
from cardoon.brokers.memory import MemoryBroker
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.memory import MemoryResults
from cardoon.message.serializers import JSON, encode_body
from cardoon.producer import Producer
from cardoon.result import describe_exception
from cardoon.sender import Call
from cardoon.testing import FakeClock
from cardoon.worker.catalogue import TaskRules
from cardoon.worker.claiming import Options
from cardoon.worker.consumer import Consumer
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.isolation import NO_ISOLATION, Isolation
from cardoon.worker.leasebook import LeaseBook
from cardoon.worker.leases import Keeper, Revoked
from cardoon.worker.ledger import Ledger
from cardoon.worker.orders import Orders
from cardoon.worker.pool import Ending, Failed, Job, Succeeded
from cardoon.worker.recording import records_of
from cardoon.worker.settler import Send, Settler

PATIENCE = 20.0
"""Seconds to wait for what another thread does; far more than it takes."""
MAX_BYTES = 1 << 20
PLAIN = {"task_serializer": "json", "result_serializer": "json", "accept_content": ["json"]}
"""Settings of an app that signs nothing."""

RULES = TaskRules(
    acks_late=True,
    acks_on_failure_or_timeout=True,
    reject_on_worker_lost=True,
    max_crashes=3,
    max_retries=3,
    ignore_result=False,
    store_errors_even_if_ignored=False,
    track_started=False,
    time_limit=None,
    soft_time_limit=None,
    rate_limit=None,
)


def rules(**changes: Any) -> TaskRules:
    """A task's rules, the usual ones but for `changes`."""
    return replace(RULES, **changes)


def make_app(folder: Path, *, clock: FakeClock | None = None, **settings: Any) -> Cardoon:
    """An app with a memory broker and its own identity."""
    given = {"broker_url": "memory://", "state_directory": str(folder), **settings}
    return Cardoon("shop", set_as_current=False, clock=clock, **given)


class RecordingPool:
    """A pool that runs nothing, and remembers what it was given."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.jobs: list[Job] = []
        self.cancelled: list[tuple[int, str]] = []

    def run(self, until: Callable[[], bool]) -> None:
        raise AssertionError("not asked for here")

    def wait_for_room(self, timeout: float) -> int:
        return self.room

    def submit(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs

    def cancel(self, key: int, *, signal: str) -> bool:
        self.cancelled.append((key, signal))
        return True

    def drain(self, *, soft: float, hard: float) -> None:
        raise AssertionError("not asked for here")

    def wake(self) -> None:
        raise AssertionError("not asked for here")


class Stage:
    """One client and one worker."""

    def __init__(
        self,
        folder: Path,
        *,
        catalogue: dict[str, TaskRules] | None = None,
        same_store: bool = True,
        results: bool = True,
        broker: Any = None,
        settings: dict[str, Any] | None = None,
        room: int = 100,
        result_expires: float | None = 3600.0,
        notices: Any = None,
        watch: Callable[[Stage], Any] | None = None,
        book: LeaseBook | None = None,
        isolation: Isolation = NO_ISOLATION,
    ) -> None:
        self.clock = FakeClock()
        self.folder = folder
        self.broker = broker or MemoryBroker(clock=self.clock)
        store = self.broker.results if same_store else MemoryResults(self.clock)
        self.backend = MemoryBackend(store) if results else None
        given = {"broker_url": "memory://", "state_directory": str(folder), **(settings or {})}
        self.app = Cardoon("shop", set_as_current=False, clock=self.clock, **given)
        self.settings: Settings = self.app.settings
        self.client = Producer(
            Deployment(self.settings, clock=self.clock), stores=(self.broker, self.backend)
        )
        self.app.attach(self.client)
        self.deployment = Deployment(self.settings, clock=self.clock, role="worker")
        self.audit: AuditLog = self.deployment.audit()
        self.catalogue = {"shop.pay": RULES} if catalogue is None else catalogue
        self.held = HeldTable()
        self.revoked = Revoked()
        self.pool = RecordingPool(room)
        self.gate = self.deployment.make_gate(self.settings.accept_content)
        self.ledger = Ledger(
            broker=self.broker,
            backend=self.backend,
            shared_store=same_store,
            task_signer=self.deployment.make_signer(self.settings.task_serializer),
            result_signer=self.deployment.make_signer(self.settings.result_serializer),
            audit=self.audit,
            clock=self.clock,
            worker="cardoon@here",
            result_expires=result_expires,
            book=book,
        )
        self.records = records_of(self.settings, self.audit)
        watchers = (*filter(None, [self.records]), *([watch(self)] if watch else []))
        self.settler = Settler(
            self.ledger, held=self.held, clock=self.clock, notices=notices, watchers=watchers
        )
        self.consumer = Consumer(
            Options(queues=("celery",), lease=30.0, hostname="cardoon@here", max_bytes=MAX_BYTES),
            broker=self.broker,
            guard=self.broker,
            gate=self.gate,
            pool=self.pool,
            settler=self.settler,
            held=self.held,
            revoked_ids=self.revoked,
            catalogue=self.catalogue,
            audit=self.audit,
            clock=self.clock,
            notices=notices,
            watchers=watchers,
            book=book,
            isolation=isolation,
            records=self.records,
        )
        self.dropped: list[Held] = []
        self.terminated: list[tuple[Held, str]] = []
        self.keeper = Keeper(
            broker=self.broker,
            orders=Orders(self.gate, clock=self.clock, worker="cardoon@here"),
            held=self.held,
            revoked=self.revoked,
            audit=self.audit,
            clock=self.clock,
            lease=30.0,
            max_bytes=MAX_BYTES,
            on_lost=self.dropped.append,
            on_terminate=lambda held, name: self.terminated.append((held, name)),
        )
        self.settler.start()

    def close(self) -> None:
        """End the settler's thread."""
        self.consumer.stop(PATIENCE)
        self.keeper.stop(PATIENCE)
        assert self.settler.stop(PATIENCE)
        self.client.close()
        self.audit.close()

    # The client

    def send(self, *args: Any, task: str = "shop.pay", **options: Any) -> Any:
        """Call a task."""
        return self.app.send_task(task, args, **options)

    def send_raw(self, **fields: Any) -> bytes:
        """Sign and publish a `Call` as it stands, without the checks of the API."""
        call = Call(
            **{
                "task": "shop.pay",
                "id": "raw-1",
                "queue": "celery",
                "codec": JSON,
                "body": body(),
                **fields,
            }
        )
        return self.client.send([call], timeout=5)[0]

    # The worker

    def consume(self) -> list[Job]:
        """One round of the consumer, written down; the jobs that it made."""
        before = len(self.pool.jobs)
        deliveries = self.broker.receive(["celery"], limit=100, lease=30.0, timeout=0)
        if deliveries:
            self.consumer.admit(deliveries)
        self.flush()
        return self.pool.jobs[before:]

    def end(self, job: Job, ending: Ending) -> None:
        """The pool says how a job ended; written down."""
        self.settler.ended(job.key, ending)
        self.flush()

    def flush(self) -> None:
        """Wait until the settler has written all that it was given."""
        for _ in range(2):  # a send is answered before the endings of its own batch are written
            written = threading.Event()
            answer = functools.partial(_set, written)
            self.settler.put(Send([], self.clock.monotonic() + 5, answer))
            assert written.wait(PATIENCE)

    # What is left

    def depth(self, queue: str = "celery") -> tuple[int, int, int]:
        """Ready, scheduled and leased messages."""
        for depth in self.broker.depths():
            if depth.queue == queue:
                return depth.ready, depth.scheduled, depth.leased
        return 0, 0, 0

    def kept(self, where: Kept) -> list[Any]:
        """Dead letters, or what was refused."""
        return list(self.broker.kept(where, limit=100))

    def events(self) -> list[dict[str, Any]]:
        """The audit trail."""
        path = self.folder / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def event_names(self) -> list[str]:
        """The names of the records of the audit trail."""
        return [event["event"] for event in self.events()]


def _set(event: threading.Event, _answer: object) -> None:
    event.set()


def body(*args: Any, embed: dict[str, Any] | None = None) -> bytes:
    """The body of a task message."""
    return encode_body([list(args), {}, embed or {}], JSON)


def succeeded(value: Any = None) -> Succeeded:
    """The ending of a task that returned a value."""
    return Succeeded(encode_body({"result": value}, JSON))


def failed(error: BaseException | None = None, *, exhausted: bool = False) -> Failed:
    """The ending of a task that raised."""
    told = {"error": describe_exception(error or ValueError("no")), "traceback": "..."}
    return Failed(encode_body(told, JSON), exhausted)


def held_of(stage: Stage, job: Job) -> Held:
    """The message of a job."""
    found = stage.held.get(job.key)
    assert found is not None
    return found


def stale(delivery: Delivery) -> Delivery:
    """The same delivery, as an earlier worker remembers it."""
    return delivery._replace(attempt=delivery.attempt - 1)
