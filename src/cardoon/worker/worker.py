"""The worker: builds its parts, starts them in order, and stops them in reverse."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cardoon.app import Cardoon
from cardoon.backend import ResultBackend
from cardoon.broker import Broker
from cardoon.clock import Clock, SystemClock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError
from cardoon.producer import Producer
from cardoon.security.replay import ReplayGuard
from cardoon.signals import worker_process_init, worker_process_shutdown
from cardoon.syslog.service import Syslog
from cardoon.worker.alarms import ClockAlarm, RefusalAlarm
from cardoon.worker.assembling import make_consumer, make_ledger
from cardoon.worker.banner import describe, record_start
from cardoon.worker.beating import EmbeddedBeat, Told
from cardoon.worker.beginning import Beginning
from cardoon.worker.catalogue import AppCatalogue, Catalogue
from cardoon.worker.checkup import make_checkup
from cardoon.worker.clerking import make_autoscaler, make_clerk
from cardoon.worker.curating import Curator, bounds_of
from cardoon.worker.desk import Desk
from cardoon.worker.drift import make_drift_watch
from cardoon.worker.epochs import EpochWatch, guard_of
from cardoon.worker.eventing import make_worker_events
from cardoon.worker.expiring import ExpiryWatch
from cardoon.worker.firewalling import watch_firewall
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.herald import Herald
from cardoon.worker.host import protect_memory
from cardoon.worker.importing import import_app, read_settings
from cardoon.worker.isolating import isolate
from cardoon.worker.leasebook import LeaseBook
from cardoon.worker.leases import Chore, Keeper, Revoked
from cardoon.worker.ledger import Ledger
from cardoon.worker.local import LocalLink
from cardoon.worker.notices import NOTICES, OF_ENDINGS, Notices, Watcher
from cardoon.worker.nursery import Nursery
from cardoon.worker.observatory import Observatory, Parts
from cardoon.worker.options import WorkerOptions
from cardoon.worker.orders import Orders
from cardoon.worker.own_commands import OwnCommands, registered_commands, run_locally
from cardoon.worker.pool import HandedBack, Pool
from cardoon.worker.pooling import make_process_pool
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
from cardoon.worker.recollection import Recollection, recollection_file
from cardoon.worker.recording import records_of
from cardoon.worker.resuming import end_leases
from cardoon.worker.sealing import AuditKeeper
from cardoon.worker.selecting import select_queues, split_queues
from cardoon.worker.settler import Settler
from cardoon.worker.stopping import StopSignals
from cardoon.worker.subscribing import Subscriptions
from cardoon.worker.violation_log import ViolationLog
from cardoon.worker.weakened import note_unsafe
from cardoon.worker.witnessing import make_witnesses

logger = logging.getLogger(__name__)

LEASE = 30.0
"""Seconds, renewed every ten; `broker_transport_options["visibility_timeout"]` changes it."""
SWITCH_INTERVAL = 0.0005
_EXIT_GRACE = 2.0
_FLUSH_SECONDS = 10.0


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
        self.check_files: Callable[[], object] | None = None  # with a baseline
        self.exit_code = 0
        self._stopping = threading.Event()
        self._stop_signals = StopSignals(self.stop)
        self._beat: EmbeddedBeat | None = None
        self._told_entries: Mapping[str, Told] = {}
        self._has_told = False
        self._owns_process = False
        self.book: LeaseBook | None = None
        self.nursery: Nursery | None = None
        self._violations: ViolationLog | None = None
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
            found = import_app(options, born)
            self.nursery, self.settings, self.catalogue = found[:3]
            self._told_entries, self.own_commands = found[3:]
        try:
            self.queues = select_queues(
                self.settings,
                wanted=options.queues,
                excluded=options.exclude_queues,
                hostname=self.hostname,
            )
            self.deployment = Deployment(self.settings, clock=self.clock, role="worker")
            self.observatory = Observatory(
                self.settings,
                worker=self.hostname,
                held=self.held,
                tasks=self.catalogue,
                queues=self.queues,
                clock=self.clock,
            )
            self.isolation = isolate(self.deployment, self.catalogue, queues=self.queues)
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
        self._owns_process = True
        return self.serve()

    def serve(self) -> int:
        """`run` for a process that is not the worker's own: changes nothing about the process."""
        self._syslog.start(self.audit)
        record_start(self.deployment, worker=self.hostname, queues=self.queues)
        note_unsafe(self.settings, audit=self.audit, worker=self.hostname)
        try:
            self.checkup.require()
            self._open_observatory()
            if not self._beginning.run():
                return self.exit_code
            self.settler.start()
            self._start_telling()
            self.consumer.start()
            self.ready.set()
            self.observatory.begin()
            if self._beat is not None:
                self._beat.start()
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
        self.observatory.end()
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
            isolation=self.isolation,
        )

    @property
    def concurrency(self) -> int:
        """Tasks that run at a time."""
        if self.settings.worker_pool == "solo":
            return 1
        return self.settings.worker_concurrency or os.cpu_count() or 1

    def _use(self, app: Cardoon, born: Mapping[str, Any]) -> tuple[Settings, Catalogue]:
        self._receivers = Receivers(app, WorkerInfo(app=app, **born))
        self._receivers.announce_birth()
        settings = read_settings({**app.conf.explicit, **self.options.settings})
        self.own_commands = OwnCommands(frozenset(registered_commands()))
        _ = app.settings  # which changes the tasks as task_annotations says
        return settings, AppCatalogue(app.tasks, settings)

    def _begin(self, born: Mapping[str, Any]) -> Herald | LocalHerald | None:
        """Send the signals before all else; returns who tells of the rest, if anybody wants to hear."""
        settings = self.settings
        known: dict[str, Any] = {"pool": settings.worker_pool, "concurrency": self.concurrency}
        if self.nursery is not None:
            told = {**known, "queues": list(self.queues), "sandbox": self.isolation.tell_holder()}
            self._heard = self.nursery.begin(told)
            wanted = self._heard & NOTICES
            own = self.own_commands
            return Herald(self.nursery, wanted, own) if wanted or own.names else None
        assert self._app is not None
        info = WorkerInfo(app=self._app, **born, **known, queues=self.queues)
        self._receivers = Receivers(self._app, info)
        self._receivers.announce_beginning(self.options.logging_setup)
        self._heard = frozenset(heard_signals())
        if not (self._heard & NOTICES or self.own_commands.names):
            return None
        local = LocalHerald(self._receivers)
        run_locally(self.own_commands, local)
        return local

    def _start_telling(self) -> None:
        match self.herald:
            case Herald():
                self.herald.start(self.desk)
            case LocalHerald():
                self.herald.start()
        if self._receivers is not None:
            worker_process_init.send(sender=self.hostname)
        self._has_told = True

    def telling_of(self, names: frozenset[str]) -> Notices | None:
        """The herald, for those who would tell of these; None where nobody wants to hear."""
        return self.herald if self._heard & names else None

    def _build(self) -> None:
        settings, deployment = self.settings, self.deployment
        deployment.check_identity()
        self.audit = deployment.audit()
        self._syslog = Syslog(settings, clock=self.clock, worker=self.hostname)
        self.broker, self.backend = self._stores or self._open_stores()
        _, broadcasts = split_queues(settings, self.queues, hostname=self.hostname)
        self.subscriptions = Subscriptions(
            broadcasts, broker=self.broker, audit=self.audit, clock=self.clock
        )
        guard = guard_of(self.broker)
        ledger, notices = self._make_ledger(), self.telling_of(OF_ENDINGS)
        vitals = self.observatory.vitals
        self.settler = Settler(
            ledger,
            held=self.held,
            clock=self.clock,
            notices=notices,
            watchers=self.watchers,
            vitals=vitals,
        )
        self._reader: Producer | None = None
        self.pool = self._make_pool()
        revoked = Revoked()
        self.lease = lease = float(
            settings.broker_transport_options.get("visibility_timeout", LEASE)
        )
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
            vitals=vitals,
            on_command=lambda message: self.clerk.take(message),  # noqa: PLW0108  # made later
        )
        self.consumer = make_consumer(self, gate, revoked)
        self.clerk = make_clerk(self, revoked)
        self._beginning = Beginning(self._first_steps(), clock=self.clock)
        if self.options.beat:
            stores = self.broker, self.backend
            self._beat = EmbeddedBeat(
                settings, app=self._app, told=self._told_entries, stores=stores, clock=self.clock
            )

    def _chores(self, guard: ReplayGuard) -> tuple[Chore, ...]:
        expiry = ExpiryWatch(self.settings, audit=self.audit, clock=self.clock)
        seen = recollection_file(self.deployment.state_directory, self.deployment.store_url)
        recollection = None if seen is None else Recollection(seen, clock=self.clock)
        epochs = EpochWatch(guard, audit=self.audit, recollection=recollection)
        self.alarm = RefusalAlarm(audit=self.audit, clock=self.clock)
        skew = self.settings.security_clock_skew
        clocks = ClockAlarm(audit=self.audit, clock=self.clock, skew=skew)
        self.autoscaler = make_autoscaler(self)
        own = (epochs, self.curator, expiry, self.alarm, clocks, self.events, self.autoscaler)
        keeper = AuditKeeper(self.deployment, audit=self.audit, clock=self.clock)
        self.checkup = make_checkup(self.deployment, worker=self.hostname)
        self._looks: tuple[Chore, ...] = (
            *own,
            *make_witnesses(self),
            keeper,
            *watch_firewall(self),
            *make_drift_watch(self),
            self.checkup,
        )
        return self._looks

    def _first_steps(self) -> list[Callable[[], None]]:
        steps: list[Callable[[], None]] = [partial(self.broker.declare, self.queues)]
        if self.book is not None:
            steps.append(partial(end_leases, self.book, self.broker, self.consumer, self.settler))
        if self.options.purge:
            steps.append(partial(purge, self.broker, self.consumer.sources, self.audit))
        return [*steps, self.keeper.start, self.clerk.start]

    def _open_stores(self) -> tuple[Broker, ResultBackend | None]:
        deployment = self.deployment
        # An embedded store is told by the kernel who is dead, but not how his tasks ended.
        if not deployment.embedded or self.nursery is not None:
            self.book = LeaseBook.open(deployment.state_directory / "nodes", self.hostname)
        broker = deployment.open_broker()
        return broker, deployment.open_backend(broker)

    def _make_ledger(self) -> Ledger:
        settings, deployment = self.settings, self.deployment
        self.curator = Curator(self.broker, bounds_of(settings), audit=self.audit, clock=self.clock)
        told: dict[str, Any] = {"worker": self.hostname, "concurrency": self.concurrency}
        heartbeat = self.options.heartbeat
        self.events = make_worker_events(deployment, self.broker, self.held, heartbeat, **told)
        self.records = records_of(settings, self.audit)
        watchers = (self.records, self.events, self.observatory.tally)
        self.watchers: tuple[Watcher, ...] = tuple(one for one in watchers if one is not None)
        return make_ledger(self)

    def _make_pool(self) -> Pool:
        if self.nursery is None:
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
        self._violations = violations = ViolationLog(
            held=self.held, audit=self.audit, worker=self.hostname
        )
        violations.on_found = self.events.violated
        self.desk = Desk(
            settler=self.settler,
            held=self.held,
            reader=self._make_reader,
            clock=self.clock,
            violations=violations,
            imports=self.options.imports,
        )
        return make_process_pool(
            self.settings,
            self.nursery,
            concurrency=self.concurrency,
            farewell=CLOSING_SECONDS if "worker_process_shutdown" in self._heard else 0.0,
            clock=self.clock,
            on_ended=violations.before(self.settler.ended),
            on_request=self.desk.take,
            on_refused=violations.take,
            journal=self.book.journal if self.book is not None else None,
            isolation=self.isolation,
            deployment=self.deployment,
            syslog=self._syslog,
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
        self._syslog.close()
        os._exit(code)

    def _open_observatory(self) -> None:
        parts = Parts(
            self.broker,
            self.backend,
            self.deployment,
            self.pool,
            self.nursery,
            self.settler,
            self._looks,
            self.lease,
            self.concurrency,
            self._violations,
        )
        self.observatory.open(parts, on_stuck=self._exit_stuck if self._owns_process else None)

    def _shut_down(self) -> None:
        self.observatory.close()
        if self._beat is not None:
            self._beat.stop(5.0)
        self.consumer.stop(5.0)
        self._say_goodbye()
        if not self.settler.stop(_FLUSH_SECONDS):
            logger.error("some outcomes could not be written; their tasks will run again")
            self.exit_code = self.exit_code or 1
        self.clerk.stop(5.0)
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
        if self.book is not None:
            self.book.close()
        self.audit.close()
        self._syslog.close()

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
        if self.nursery is not None:
            self.nursery.stop()

    def install_signals(self) -> None:
        """Have SIGTERM and SIGINT stop it, from the main thread; `run` does so, too."""
        self._stop_signals.install()
