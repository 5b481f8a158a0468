"""The observatory: what makes a worker's state visible from outside, put together and started in one place.

Metrics and health over HTTP where `worker_metrics_address` is set, the watchdog always, and systemd where it listens.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cardoon.backend import ResultBackend
from cardoon.broker import Broker
from cardoon.clock import Clock
from cardoon.config import Settings, reveal
from cardoon.deployment import Deployment
from cardoon.endpoints import addresses_of
from cardoon.metrics import CONTENT_TYPE, Registry
from cardoon.sdnotify import Notifier
from cardoon.status_address import parse_address
from cardoon.status_server import (
    Answer,
    Page,
    Question,
    StatusServer,
    as_json,
    trusted_only,
)
from cardoon.worker.alarms import ClockAlarm, RefusalAlarm
from cardoon.worker.catalogue import Catalogue
from cardoon.worker.checkup import Checkup
from cardoon.worker.curating import Curator
from cardoon.worker.drift import DriftWatch
from cardoon.worker.expiring import ExpiryWatch
from cardoon.worker.firewalling import FirewallWatch
from cardoon.worker.health import Health, Judged
from cardoon.worker.held import HeldTable
from cardoon.worker.leases import Chore
from cardoon.worker.measuring import Measured, measure
from cardoon.worker.nursery import Nursery
from cardoon.worker.pool import Pool
from cardoon.worker.pools.solo import SoloPool
from cardoon.worker.probing import Probe
from cardoon.worker.settler import Settler
from cardoon.worker.supervisor import ProcessPool
from cardoon.worker.tally import Tally
from cardoon.worker.violation_log import ViolationLog
from cardoon.worker.vitals import Loop, Verdict, Vitals
from cardoon.worker.watchdog import Watchdog

logger = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What of a worker is looked at."""

    broker: Broker
    backend: ResultBackend | None
    deployment: Deployment
    pool: Pool
    nursery: Nursery | None
    settler: Settler
    chores: Sequence[Chore]
    lease: float
    concurrency: int
    violations: ViolationLog | None


class Observatory:
    """Of one worker. `vitals` and `tally` are there from the beginning, the rest once there is something to see."""

    def __init__(
        self,
        settings: Settings,
        *,
        worker: str,
        held: HeldTable,
        tasks: Catalogue,
        queues: Sequence[str],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._held = held
        self._queues = tuple(queues)
        self._clock = clock
        self._registry = Registry()
        self._server: StatusServer | None = None
        self._probe: Probe | None = None
        self._watchdog: Watchdog | None = None
        self._health: Health | None = None
        self._notifier = Notifier()
        self.vitals = Vitals(clock)
        self.tally: Tally | None = None
        if settings.worker_metrics_address:
            self.tally = Tally(self._registry, worker=worker, tasks=tasks, queues=queues)

    def open(self, parts: Parts, *, on_stuck: Callable[[int], None] | None) -> None:
        """Begin to be asked: before the broker is there, so that whoever waits for it can be told so.

        `on_stuck` ends the process when a loop is beyond help; None where the process is somebody else's.
        """
        pool, held = parts.pool, self._held
        if isinstance(pool, ProcessPool):
            pool.on_turn = lambda: self.vitals.turn(Loop.POOL)
        if isinstance(pool, ProcessPool | SoloPool):
            pool.on_runtime = held.note_runtime
        deployment = parts.deployment
        judged = Judged(
            pool,
            parts.nursery,
            parts.settler,
            held,
            parts.lease,
            makes_on_demand=self._settings.worker_pool == "isolated",
            audit=deployment.audit(),
        )
        if self._settings.worker_metrics_address:
            is_shared = deployment.backend_url == deployment.store_url
            self._probe = Probe(parts.broker, parts.backend, is_shared=is_shared, clock=self._clock)
        self._health = Health(self.vitals, judged, probe=self._probe, clock=self._clock)
        urls = [deployment.broker_url, deployment.store_url, deployment.backend_url]
        self._watchdog = Watchdog(
            self.vitals,
            health=self._health,
            notifier=self._notifier,
            audit=deployment.audit(),
            clock=self._clock,
            on_stuck=on_stuck or (lambda _code: None),
            rebuild=lambda: hang_up(addresses_of(*filter(None, urls))),
        )
        if self._probe is not None:
            self._serve(parts, self._health, self._probe)
        self._watchdog.start()

    def begin(self) -> None:
        """The worker takes tasks from now on."""
        if self._health is not None:
            self._health.has_begun = True
        if self._probe is not None:
            self._probe.start()
        self._notifier.ready(f"{self._worker} runs tasks of {', '.join(self._queues)}")

    def end(self) -> None:
        """The worker takes no more tasks, and readiness is gone; what runs may still take its time."""
        if self._health is not None and not self._health.is_stopping:
            self._health.is_stopping = True
            self._notifier.stopping(f"{self._worker} waits for running tasks")

    def close(self) -> None:
        """Tell nothing any more; safe twice, and before `open`."""
        self.end()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._probe is not None:
            self._probe.stop()
        if self._server is not None:
            self._server.stop()
        self._notifier.close()

    def _serve(self, parts: Parts, health: Health, probe: Probe) -> None:
        settings = self._settings
        address = parse_address(settings.worker_metrics_address)
        measure(self._registry, self._measured(parts, health, probe))
        pages: dict[str, Page] = {
            "/metrics": trusted_only(self._show_metrics),
            "/livez": lambda question: _show(question, health.live()),
            "/readyz": lambda question: _show(question, health.ready()),
            "/healthz": lambda question: _show(question, health.ready()),
        }
        self._server = StatusServer(
            address,
            pages,
            token=reveal(settings, "worker_metrics_token"),
            open=settings.unsafe_allow_open_metrics,
        )
        self._server.start()
        logger.info("metrics and health are served at %s", self._server.address)

    def _measured(self, parts: Parts, health: Health, probe: Probe) -> Measured:
        pool = parts.pool
        found = {type(chore): chore for chore in parts.chores}
        refusals, clocks = found[RefusalAlarm], found[ClockAlarm]
        expiry, curator = found[ExpiryWatch], found[Curator]
        assert isinstance(refusals, RefusalAlarm)
        assert isinstance(clocks, ClockAlarm)
        assert isinstance(expiry, ExpiryWatch)
        assert isinstance(curator, Curator)
        firewall = found.get(FirewallWatch)
        assert firewall is None or isinstance(firewall, FirewallWatch)
        drift = found.get(DriftWatch)
        assert drift is None or isinstance(drift, DriftWatch)
        checkup = found[Checkup]
        assert isinstance(checkup, Checkup)
        return Measured(
            worker=self._worker,
            queues=self._queues,
            concurrency=parts.concurrency,
            vitals=self.vitals,
            health=health,
            held=self._held,
            settler=parts.settler,
            audit=parts.deployment.audit(),
            refusals=refusals,
            clocks=clocks,
            expiry=expiry,
            firewall=firewall,
            curator=curator,
            drift=drift,
            checkup=checkup,
            probe=probe,
            violations=parts.violations,
            processes=lambda: len(pool.processes) if isinstance(pool, ProcessPool) else 1,
        )

    def _show_metrics(self, _question: Question) -> Answer:
        return Answer(200, self._registry.render().encode(), CONTENT_TYPE)


def _show(question: Question, verdict: Verdict) -> Answer:
    """What is judged. Strangers, such as the probes of a cluster, are told the judgement alone."""
    status = 200 if verdict.is_good else 503
    told = {"status": "ok" if verdict.is_good else "failing"}
    if not question.is_trusted:
        return as_json(status, told)
    return as_json(status, {**told, "reasons": list(verdict.reasons), **verdict.details})


def hang_up(addresses: Sequence[tuple[str, int]]) -> int:
    """Shut down this process's connections to the ports of these servers; return how many there were.

    Whoever waits for an answer on one of them gets an error at once, and connects anew.
    """
    ports = {port for _, port in addresses}
    count = 0
    for name in _descriptors():
        with contextlib.suppress(OSError, ValueError):
            mode = os.fstat(int(name))
            if mode.st_mode & 0o170000 != 0o140000:
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.family in {socket.AF_INET, socket.AF_INET6}:
                    peer = one.getpeername()
                    if peer[1] in ports:
                        one.shutdown(socket.SHUT_RDWR)
                        count += 1
    return count


def _descriptors() -> list[str]:
    with contextlib.suppress(OSError):
        return [one.name for one in Path("/dev/fd").iterdir()]
    return []
