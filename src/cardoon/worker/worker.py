"""The worker: builds its parts, starts them in order, and stops them in reverse."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FrameType as StackFrame
from typing import Any

from cardoon.app import Cardoon
from cardoon.backend import ResultBackend
from cardoon.broker import Broker
from cardoon.calling import result_codec
from cardoon.clock import Clock, SystemClock
from cardoon.config import Conf, Settings
from cardoon.contents import add_content
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError
from cardoon.producer import Producer
from cardoon.queues import broadcast_names
from cardoon.security.replay import ReplayGuard
from cardoon.signals import worker_process_init, worker_process_shutdown
from cardoon.worker.banner import describe, signer_name
from cardoon.worker.beginning import Beginning
from cardoon.worker.catalogue import AppCatalogue, Catalogue
from cardoon.worker.consumer import Consumer
from cardoon.worker.consumer import Options as ConsumerOptions
from cardoon.worker.curating import Curator, bounds_of
from cardoon.worker.desk import Desk
from cardoon.worker.epochs import EpochWatch, guard_of
from cardoon.worker.expiring import ExpiryWatch
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.herald import Herald
from cardoon.worker.host import protect_memory
from cardoon.worker.leasebook import LeaseBook
from cardoon.worker.leases import Chore, Keeper, Revoked
from cardoon.worker.ledger import Ledger
from cardoon.worker.local import LocalLink
from cardoon.worker.notices import NOTICES, OF_ENDINGS, OF_MESSAGES, Notices
from cardoon.worker.nursery import Nursery
from cardoon.worker.orders import Orders
from cardoon.worker.pool import HandedBack, Pool
from cardoon.worker.pools.solo import SoloPool
from cardoon.worker.purging import purge
from cardoon.worker.receivers import (
    CLOSING_SECONDS,
    LocalHerald,
    Receivers,
    WorkerInfo,
    heard_signals,
    limited,
    told_options,
)
from cardoon.worker.resuming import end_leases
from cardoon.worker.selecting import select_queues, split_queues
from cardoon.worker.settler import Settler
from cardoon.worker.subscribing import Subscriptions
from cardoon.worker.supervisor import ProcessPool, plan_pool
from cardoon.worker.weakened import find_unsafe

logger = logging.getLogger(__name__)

LEASE = 30.0
"""Seconds, renewed every ten; `broker_transport_options["visibility_timeout"]` changes it."""
SWITCH_INTERVAL = 0.0005
_EXIT_GRACE = 2.0
_FLUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the command line says beyond the settings."""

    app: str = ""
    """What `-A` names; task processes import it."""
    hostname: str = ""
    queues: tuple[str, ...] = ()
    """What to consume; by default what the settings declare."""
    exclude_queues: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings given on the command line, which win."""
    logging_setup: Mapping[str, Any] = field(default_factory=dict)
    purge: bool = False


class Worker:
    """Runs tasks until told to stop.

    With a pool of processes it imports no code of the app: the zygote does, and reports settings and
    tasks. With `solo` it is given the app itself. `stores` are a broker and a result backend that are
    open already, and someone else's to close.
    """

    patience = 1.0
    """See `consumer.Options`."""

    def __init__(
        self,
        options: WorkerOptions,
        *,
        app: Cardoon | None = None,
        clock: Clock | None = None,
        stores: tuple[Broker, ResultBackend | None] | None = None,
    ) -> None:
        self.options = options
        self.clock: Clock = clock or SystemClock()
        self.hostname = options.hostname or f"cardoon@{socket.gethostname()}"
        self.held = HeldTable()
        self.ready = threading.Event()
        self.exit_code = 0
        self._stopping = threading.Event()
        self._signals = 0
        self._periodic = ""
        self._has_told = False
        self._book: LeaseBook | None = None
        self._nursery: Nursery | None = None
        self._receivers: Receivers | None = None
        born: dict[str, Any] = {
            "hostname": self.hostname,
            "pid": os.getpid(),
            "options": told_options(options),
        }
        self._app = app
        self._stores = stores
        if app is not None:
            self.settings, self.catalogue = self._use(app, born)
        else:
            self.settings, self.catalogue = self._import_app(born)
        try:
            self.queues = select_queues(
                self.settings,
                wanted=options.queues,
                excluded=options.exclude_queues,
                hostname=self.hostname,
            )
            self.deployment = Deployment(self.settings, clock=self.clock, role="worker")
            self.herald = self._begin(born)
            self._build()
        except BaseException:
            self._end_nursery()
            raise

    def run(self) -> int:
        """Serve until stopped; returns the exit code. Call it from the main thread for signals."""
        self.install_signals()
        protect_memory()
        # Our threads share one interpreter. At the usual 5 ms, whoever waits for the store or for a
        # process gets its turn so late that a busy worker does a tenth of its work.
        sys.setswitchinterval(SWITCH_INTERVAL)
        return self.serve()

    def serve(self) -> int:
        """`run` for a process that is not the worker's own: changes nothing about the process."""
        if self._periodic:
            logger.warning(
                "beat_schedule has %s, but this version sends no periodic tasks by itself; have cron "
                "send them, with `cardoon call`",
                self._periodic,
            )
        self.audit.record(
            "worker.start",
            worker=self.hostname,
            pool=self.settings.worker_pool,
            queues=",".join(self.queues),
            signer=signer_name(self.deployment),
            accept=",".join(self.settings.accept_content),
        )
        self._note_unsafe()
        try:
            if not self._beginning.run():
                return self.exit_code
            self.settler.start()
            self._start_telling()
            self.consumer.start()
            self.ready.set()
            if self.herald is not None:
                self.herald.tell("worker_ready", {})
            self.pool.run(self._stopping.is_set)
        finally:
            self._shut_down()
        return self.exit_code

    def stop(self, *, cold: bool = False, sig: str | None = None) -> None:
        """Stop warm: claim no more, let tasks end within `worker_soft_shutdown_timeout`. Or cold: now.

        `sig` is the signal that wants it, for receivers of `worker_shutting_down`.
        """
        if self.herald is not None:
            how = "Cold" if cold else "Warm"
            self.herald.tell("worker_shutting_down", {"sig": sig, "how": how})
        grace = 0.0 if cold else self.settings.worker_soft_shutdown_timeout
        soft = max(0.0, grace - _EXIT_GRACE)
        self.consumer.request_stop()
        self.pool.drain(soft=soft, hard=grace)
        logger.warning(  # said when it is so: nothing begins any more
            "%s shutdown: running tasks have %g seconds to end", "cold" if cold else "warm", grace
        )
        self._stopping.set()
        self._beginning.give_up()
        self.pool.wake()

    def describe(self) -> dict[str, Any]:
        """What the banner tells."""
        return describe(
            self.settings,
            self.deployment,
            worker=self.hostname,
            concurrency=self.concurrency,
            queues=self.queues,
            tasks=self.catalogue,
        )

    @property
    def concurrency(self) -> int:
        """Tasks that run at a time."""
        if self.settings.worker_pool == "solo":
            return 1
        return self.settings.worker_concurrency or os.cpu_count() or 1

    def _note_unsafe(self) -> None:
        """Say what weakens this worker, to people and to the audit trail."""
        for name, what in find_unsafe(self.settings).items():
            logger.warning("%s: %s", name, what)
            self.audit.record("config.unsafe", setting=name, worker=self.hostname)

    def _use(self, app: Cardoon, born: Mapping[str, Any]) -> tuple[Settings, Catalogue]:
        self._receivers = Receivers(app, WorkerInfo(app=app, **born))
        self._receivers.announce_birth()
        settings = self._given({**app.conf.explicit, **self.options.settings})
        if settings.beat_schedule:
            self._periodic = settings.beat_schedule.describe()
        _ = app.settings  # which changes the tasks as task_annotations says
        return settings, AppCatalogue(app.tasks, settings)

    def _import_app(self, born: Mapping[str, Any]) -> tuple[Settings, Catalogue]:
        asked = Conf()
        asked.update(self.options.settings)
        given = asked.draft()
        self._nursery = Nursery(
            self.options.app,
            logging_setup=self.options.logging_setup,
            include=given.include,
            worker=born,
        )
        report = self._nursery.start(passed=given.worker_pass_environment)
        self._periodic = report.periodic
        for name, media_type in report.serializers.items():
            add_content(name, media_type)
        return self._given({**report.settings, **self.options.settings}), report.catalogue

    def _given(self, settings: Mapping[str, Any]) -> Settings:
        conf = Conf()
        conf.update(settings)
        return conf.settings()

    def _begin(self, born: Mapping[str, Any]) -> Herald | LocalHerald | None:
        """Send the signals before all else; returns who tells of the rest, if anybody wants to hear."""
        settings = self.settings
        known: dict[str, Any] = {"pool": settings.worker_pool, "concurrency": self.concurrency}
        if self._nursery is not None:
            self._heard = self._nursery.begin({**known, "queues": list(self.queues)})
            wanted = self._heard & NOTICES
            return Herald(self._nursery, wanted) if wanted else None
        assert self._app is not None
        info = WorkerInfo(app=self._app, **born, **known, queues=self.queues)
        self._receivers = Receivers(self._app, info)
        self._receivers.announce_beginning(self.options.logging_setup)
        self._heard = frozenset(heard_signals())
        return LocalHerald(self._receivers) if self._heard & NOTICES else None

    def _start_telling(self) -> None:
        match self.herald:
            case Herald():
                self.herald.start(self.desk)
            case LocalHerald():
                self.herald.start()
        if self._receivers is not None:
            worker_process_init.send(sender=self.hostname)
        self._has_told = True

    def _telling_of(self, names: frozenset[str]) -> Notices | None:
        """The herald, for those who would tell of these; None where nobody wants to hear."""
        return self.herald if self._heard & names else None

    def _build(self) -> None:
        settings, deployment = self.settings, self.deployment
        deployment.check_identity()
        self.audit = deployment.audit()
        self.broker, self.backend = self._stores or self._open_stores()
        ordinary, broadcasts = split_queues(settings, self.queues, hostname=self.hostname)
        self.subscriptions = Subscriptions(
            broadcasts, broker=self.broker, audit=self.audit, clock=self.clock
        )
        guard = guard_of(self.broker)
        self.settler = Settler(
            self._make_ledger(),
            held=self.held,
            clock=self.clock,
            notices=self._telling_of(OF_ENDINGS),
        )
        self._reader: Producer | None = None
        self.pool = self._make_pool()
        revoked = Revoked()
        lease = float(settings.broker_transport_options.get("visibility_timeout", LEASE))
        gate = deployment.make_gate(settings.accept_content)
        self.keeper = Keeper(
            broker=self.broker,
            orders=Orders(gate, clock=self.clock, worker=self.hostname),
            held=self.held,
            revoked=revoked,
            audit=self.audit,
            clock=self.clock,
            lease=lease,
            max_bytes=settings.message_max_bytes,
            on_lost=self._drop,
            on_terminate=lambda held, name: self.pool.cancel(held.key, signal=name),
            subscriptions=self.subscriptions,
            chores=self._chores(guard),
        )
        self.consumer = Consumer(
            ConsumerOptions(
                queues=ordinary,
                broadcasts=broadcasts,
                lease=lease,
                hostname=self.hostname,
                max_bytes=settings.message_max_bytes,
                patience=self.patience,
                result_codec=result_codec(settings),
            ),
            broker=self.broker,
            guard=guard,
            gate=gate,
            pool=self.pool,
            settler=self.settler,
            held=self.held,
            revoked_ids=revoked,
            catalogue=self.catalogue,
            audit=self.audit,
            clock=self.clock,
            notices=self._telling_of(OF_MESSAGES),
            book=self._book,
        )
        self._beginning = Beginning(self._first_steps(), clock=self.clock)

    def _chores(self, guard: ReplayGuard) -> tuple[Chore, ...]:
        expiry = ExpiryWatch(self.settings, audit=self.audit, clock=self.clock)
        return (EpochWatch(guard, audit=self.audit), self._curator, expiry)

    def _first_steps(self) -> list[Callable[[], None]]:
        steps: list[Callable[[], None]] = [partial(self.broker.declare, self.queues)]
        if self._book is not None:
            steps.append(partial(end_leases, self._book, self.broker, self.consumer, self.settler))
        if self.options.purge:
            steps.append(partial(purge, self.broker, self.consumer.sources, self.audit))
        return [*steps, self.keeper.start]

    def _open_stores(self) -> tuple[Broker, ResultBackend | None]:
        deployment = self.deployment
        # An embedded store is told by the kernel who is dead, but not how his tasks ended.
        if not deployment.embedded or self._nursery is not None:
            self._book = LeaseBook.open(deployment.state_directory / "nodes", self.hostname)
        broker = deployment.open_broker()
        return broker, deployment.open_backend(broker)

    def _make_ledger(self) -> Ledger:
        settings, deployment = self.settings, self.deployment
        self._curator = Curator(
            self.broker, bounds_of(settings), audit=self.audit, clock=self.clock
        )
        return Ledger(
            broker=self.broker,
            backend=self.backend,
            shared_store=deployment.backend_url == deployment.store_url,
            task_signer=deployment.make_signer(settings.task_serializer),
            result_signer=deployment.make_signer(settings.result_serializer),
            audit=self.audit,
            clock=self.clock,
            worker=self.hostname,
            result_expires=settings.result_expires,
            broadcasts=broadcast_names(settings.task_queues),
            book=self._book,
            curator=self._curator,
        )

    def _make_pool(self) -> Pool:
        if self._nursery is None:
            assert self._app is not None
            solo = SoloPool(self._app, clock=self.clock, on_ended=self.settler.ended)
            solo.on_stuck = self._exit_stuck
            self._app.attach(
                LocalLink(
                    settler=self.settler,
                    held=self.held,
                    reader=self._make_reader(),
                    clock=self.clock,
                )
            )
            return solo
        self.desk = Desk(
            settler=self.settler, held=self.held, reader=self._make_reader, clock=self.clock
        )
        return ProcessPool(
            plan_pool(
                self.settings,
                concurrency=self.concurrency,
                farewell=CLOSING_SECONDS if "worker_process_shutdown" in self._heard else 0.0,
            ),
            self._nursery,
            clock=self.clock,
            on_ended=self.settler.ended,
            on_request=self.desk.take,
            journal=self._book.journal if self._book is not None else None,
        )

    def _make_reader(self) -> Producer:
        """Reads results for task code; shares the worker's connections."""
        if self._reader is None:
            self._reader = Producer(self.deployment, stores=(self.broker, self.backend))
        return self._reader

    def _drop(self, held: Held) -> None:
        """A message is no longer ours: its task is stopped, and its outcome would change nothing."""
        if not self.pool.cancel(held.key, signal="SIGKILL"):
            self.settler.ended(held.key, HandedBack())

    def _exit_stuck(self, code: int) -> None:
        self.exit_code = code
        self.settler.stop(_FLUSH_SECONDS)
        self.audit.record("worker.stop", worker=self.hostname, code=code)
        os._exit(code)

    def _shut_down(self) -> None:
        self.consumer.stop(5.0)
        self._say_goodbye()
        if not self.settler.stop(_FLUSH_SECONDS):
            logger.error("some outcomes could not be written; their tasks will run again")
            self.exit_code = self.exit_code or 1
        self.keeper.stop(5.0)
        self.audit.record(
            "worker.stop", worker=self.hostname, code=self.exit_code, refused=self.consumer.refused
        )
        self._end_nursery()
        if self._app is not None:
            self._app.detach()
        if self._stores is None:
            with contextlib.suppress(CardoonError):
                if self.backend is not None:
                    self.backend.close()
                self.broker.close()
        if self._book is not None:
            self._book.close()
        self.audit.close()

    def _say_goodbye(self) -> None:
        """The last signals, whose receivers may still call tasks. Bounded in time."""
        if not self._has_told:
            return
        if self._receivers is not None and worker_process_shutdown.receivers:
            with limited("worker_process_shutdown", CLOSING_SECONDS):
                worker_process_shutdown.send(
                    sender=self.hostname, pid=os.getpid(), exitcode=self.exit_code
                )
        if self.herald is not None:
            self.herald.close(CLOSING_SECONDS)

    def _end_nursery(self) -> None:
        if self._nursery is not None:
            self._nursery.stop()

    def install_signals(self) -> None:
        """Have SIGTERM and SIGINT stop it, from the main thread; `run` does so, too."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: StackFrame | None) -> None:
        """The first asks to stop warm, a second one, or SIGQUIT, to stop now."""
        self._signals += 1
        cold = self._signals > 1 or number == signal.SIGQUIT
        # Locks may be held by the code that this interrupts, so another thread does the work.
        told = {"cold": cold, "sig": signal.Signals(number).name}
        threading.Thread(target=self.stop, kwargs=told, daemon=True).start()
