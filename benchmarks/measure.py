"""Measures one peer: sending, draining, latency, idling, and how depth changes the cost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import counter, machine, peers
from benchmarks.peers import Peer
from benchmarks.servers import Store, Urls

ROOT = Path(__file__).parent.parent
_CLIENT_SECONDS = 300.0
_FIRST_TASK_SECONDS = 30.0
_SECONDS_WITHOUT_PROGRESS = 10.0
_LOOK_SECONDS = 0.005
_TAIL_SECONDS = 0.25
"""After the last task its outcome is still to be stored; that is counted as processor time."""
_IDLE_SECONDS = 3.0
_STOP_SECONDS = 2.0

Figures = dict[str, Any]


class PeerError(Exception):
    """A peer did not do what was asked of it."""


@dataclass(frozen=True, slots=True)
class Site:
    """One peer's files, counters and processes for one measurement."""

    peer: Peer
    store: Store
    urls: Urls
    folder: Path
    results: bool

    @property
    def environment(self) -> dict[str, str]:
        """For every process of the peer."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
            counter.FOLDER_VARIABLE: str(self.counters),
            peers.BROKER_VARIABLE: self.store.name,
            peers.BROKER_URL_VARIABLE: self.urls.broker,
            peers.RESULTS_URL_VARIABLE: self.urls.results,
            peers.FOLDER_VARIABLE: str(self.folder),
            peers.RESULTS_VARIABLE: str(int(self.results)),
            peers.SIGNED_VARIABLE: str(int(self.peer.is_signed)),
            peers.SEALED_VARIABLE: str(int(self.peer.is_sealed)),
        }

    @property
    def counters(self) -> Path:
        """Where tasks are counted."""
        return self.folder / "counters"

    def client(self, action: str, count: int) -> Figures:
        """Run a client process and return what it measured."""
        arguments = ["-m", "benchmarks.client", self.peer.module, action, str(count)]
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_CLIENT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise PeerError(f"{self.peer.name} {action}: {done.stderr[-1000:]}")
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """The worker for as long as the context lasts, in one process or several."""
        code = f"import json; from benchmarks.peers.{self.peer.module} import worker as w"
        command = subprocess.run(
            [sys.executable, "-c", code + "; print(json.dumps(w()))"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        worker = Worker(self, json.loads(command))
        try:
            yield worker
        finally:
            worker.stop()


class Worker:
    """A peer's worker, and what its processes have done."""

    def __init__(self, site: Site, commands: list[list[str]]) -> None:
        self._site = site
        self._counters = counter.Counters(site.counters)
        self._log = site.folder / "worker.log"
        with self._log.open("wb") as log:
            self._started = [
                subprocess.Popen(
                    command,
                    env=site.environment,
                    cwd=site.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for command in commands
            ]

    def processes(self) -> machine.Processes:
        """The worker and its children."""
        return [one for top in self._started for one in machine.family(top.pid)]

    def servers(self) -> machine.Processes:
        """The processes of the broker."""
        return [one for pid in self._site.store.pids for one in machine.family(pid)]

    def seen(self) -> counter.Seen:
        """What has run so far."""
        return self._counters.read()

    def wait_for(self, count: int, *, seconds: float = _SECONDS_WITHOUT_PROGRESS) -> counter.Seen:
        """Wait until so many tasks have run, or none has for `seconds`."""
        seen, moved = self.seen(), time.monotonic()
        while seen.tasks < count and time.monotonic() - moved < seconds:
            time.sleep(_LOOK_SECONDS)
            now = self.seen()
            if now.tasks != seen.tasks:
                seen, moved = now, time.monotonic()
        return seen

    def wait_for_first(self) -> counter.Seen:
        """Wait until the worker runs tasks."""
        seen = self.wait_for(1, seconds=_FIRST_TASK_SECONDS)
        if not seen.tasks:
            raise PeerError(f"no task ran: {self._log.read_text(errors='replace')[-1000:]}")
        return seen

    def stop(self) -> None:
        """End the worker and all its processes: by asking, then by force."""
        processes = self.processes()
        deadline = time.monotonic() + _STOP_SECONDS
        for one in self._started:
            one.send_signal(signal.SIGTERM)
        for one in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(max(0.0, deadline - time.monotonic()))
        machine.kill(processes)
        for one in self._started:
            one.wait()


class Used(NamedTuple):
    """Processor time, in seconds."""

    worker: float
    servers: float
    others: float
    """Cores that everybody else kept busy."""


class Meter:
    """Processor time of a worker and its broker from now on, and what others used meanwhile."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._start = time.monotonic()
        self._busy = machine.busy_seconds()
        self._own = time.process_time()
        self._servers = machine.cpu_seconds(worker.servers())
        self._cpu = machine.cpu_seconds(worker.processes())

    def read(self) -> Used:
        """What was used since."""
        cpu = machine.cpu_seconds(self._worker.processes()) - self._cpu
        servers = machine.cpu_seconds(self._worker.servers()) - self._servers
        known = cpu + servers + time.process_time() - self._own
        others = machine.busy_seconds() - self._busy - known
        return Used(cpu, servers, max(0.0, others / (time.monotonic() - self._start)))


@contextlib.contextmanager
def site(peer: Peer, store: Store, folder: Path, *, results: bool) -> Iterator[Site]:
    """A fresh folder and an empty store for one measurement."""
    place = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=folder))
    try:
        made = Site(peer, store, store.fresh(place), place, results)
        made.counters.mkdir()
        made.client("prepare", 0)
        yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


def measure_sending(place: Site, action: str, count: int) -> Figures:
    """Rate and processor time of one client that sends."""
    told = place.client(action, count)
    return {
        "rate": told["count"] / told["wall"],
        "cpu_us": told["cpu"] / told["count"] * 1e6,
        "tasks": told["count"],
    }


def measure_drain(place: Site, count: int) -> Figures:
    """Start a worker on a full queue: rate from the first task to the last."""
    with place.worker() as worker:
        begun = worker.wait_for_first()
        meter = Meter(worker)
        seen = worker.wait_for(count)
        time.sleep(_TAIL_SECONDS)
        used = meter.read()
    metered = max(1, seen.tasks - begun.tasks)
    return {
        "rate": (seen.tasks - 1) / (seen.last - seen.first),
        "cpu_us": used.worker / metered * 1e6,
        "server_us": used.servers / metered * 1e6,
        "tasks": seen.tasks,
        "lost": count - seen.tasks,
        "others": used.others,
    }


def measure_latency(place: Site, count: int) -> Figures:
    """Send and wait, one message at a time; then what the worker uses with nothing to do.

    Times in milliseconds; `idle` in per cent of a core.
    """
    with place.worker() as worker:
        told = place.client("latency", count)
        processes = worker.processes()
        time.sleep(1.0)
        start = machine.precise_cpu_seconds(processes)
        time.sleep(_IDLE_SECONDS)
        idle = (machine.precise_cpu_seconds(processes) - start) / _IDLE_SECONDS
    return {
        "p50": told["p50"],
        "p99": told["p99"],
        "cpu_us": told["cpu"] / told["count"] * 1e6,
        "idle": idle * 100,
    }


def measure_depth(place: Site, *, depth: int, count: int) -> Figures:
    """What a task costs the worker while about `depth` messages wait.

    A queue of `depth` is filled, and the first `count` tasks are measured. Where `depth` is smaller,
    it is filled again each time it has run empty.
    """
    place.client("bulk", depth)
    filled = depth
    with place.worker() as worker:
        warm = worker.wait_for_first() if depth > count else worker.wait_for(depth)
        meter = Meter(worker)
        target = warm.tasks + count
        while filled < target:
            place.client("bulk", min(depth, target - filled))
            filled += min(depth, target - filled)
            worker.wait_for(min(filled, target))
        seen = worker.wait_for(target)
        used = meter.read()
    ran = seen.tasks - warm.tasks
    return {
        "cpu_us": used.worker / ran * 1e6,
        "server_us": used.servers / ran * 1e6,
        "tasks": ran,
        "lost": max(0, count - ran),
        "others": used.others,
    }
