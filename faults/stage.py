"""One run of one fault: a folder, a broker, workers and clients, and what the ledger says of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cardoon import states
from cardoon.app import Cardoon
from cardoon.broker import Accompanied, Broker, Inspectable, Kept, KeptMessage, QueueDepth
from cardoon.exceptions import OperationalError
from cardoon.lookup import Findable
from cardoon.security.authority import create_authority, ensure_identity, issue
from cardoon.testing.clock import FakeClock
from faults import ledger
from faults.client import Job
from faults.ledger import Ledger
from faults.places import PLACES, SMALL_DISK, SMALL_DISKS, Place, Server, SmallDisk
from faults.programs import Program
from tests.servers.rabbitmq import RabbitCluster

ROOT = Path(__file__).parent.parent
CONCURRENCY = 4
ROLES = ("client", "worker")
READY_SECONDS = 60.0
STEP_SECONDS = 120.0
"""How long a scenario waits for what must come sooner or later."""
EXIT_SECONDS = 30.0
"""SIGTERM is to be obeyed within them."""
_LOOK_SECONDS = 0.03
_AGE_OF_IDENTITIES = 86_400.0
"""Seconds, so that they are valid for a worker whose clock is wrong, too."""
_BANNER = "   . faults.work"
"""Its last line; then the worker consumes."""
QUEUE = "celery"
"""Where all tasks go."""
_MOST_KEPT = 100_000
_MOST_LINES = 25

Figures = dict[str, float]


class FaultError(Exception):
    """A run went so wrong that it has no figures."""


class Stage:
    """What a scenario acts on. `count` is how many tasks it is to send, roughly."""

    def __init__(self, broker: str, folder: Path, *, count: int, on_small_disk: bool) -> None:
        store = folder / "store"
        store.mkdir(parents=True)
        self.count = count
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        size = SMALL_DISKS.get(broker, SMALL_DISK)
        self._disk = SmallDisk(store, size=size) if on_small_disk else None
        self.place: Place = PLACES[broker](store)
        self.workers: list[Program] = []
        self.clients: list[Program] = []
        self.exits: list[tuple[bool, float]] = []
        self.extra: Figures = {}
        """Figures that only this fault has."""
        self.expected: set[str] | None = None
        """Idents whose bodies must end, if not those of all sends that returned."""
        self.gone = 0
        """Workers that ended by themselves."""
        self.fault_at = 0.0
        self.heal_at = 0.0
        self.outage = 0.0
        """The longest damage, in seconds, until the server was back."""
        self._probes = 0

    # Set up

    def open(self) -> None:
        """Make identities, and start the broker."""
        state = self.folder / ".cardoon"
        clock = FakeClock(time.time() - _AGE_OF_IDENTITIES)
        create_authority(state, "faults.local", clock=clock)
        for role in ROLES:
            issue(state, role, clock=clock)
            ensure_identity(state, role, clock=clock)
        if self.place.server is not None:
            self.place.server.start()

    def environment(self) -> dict[str, str]:
        """For everyone who takes part."""
        paths = (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            ledger.PATH_VARIABLE: str(self.folder / "ledger"),
            "CARDOON_BROKER_URL": self.place.url,
            "CARDOON_RESULT_BACKEND": self.place.own_results or self.place.url,
            "CARDOON_STATE_DIRECTORY": str(self.folder / ".cardoon"),
            "CARDOON_WORKER_PASS_ENVIRONMENT": ledger.PATH_VARIABLE,
        }

    def close(self) -> None:
        """End everything that runs."""
        for program in (*self.workers, *self.clients):
            program.kill()
        self.place.close()
        if self._disk is not None:
            self._disk.close()

    # Act

    @property
    def disk(self) -> SmallDisk:
        """Below the broker, for a fault that needs one."""
        assert self._disk is not None
        return self._disk

    @property
    def server(self) -> Server:
        """The broker's, for a fault that needs one."""
        assert self.place.server is not None
        return self.place.server

    @property
    def cluster(self) -> RabbitCluster:
        """The broker's nodes, for a fault that needs several."""
        assert isinstance(self.place.server, RabbitCluster)
        return self.place.server

    def worker(
        self,
        name: str = "first",
        *,
        env: Mapping[str, str] | None = None,
        concurrency: int = CONCURRENCY,
    ) -> Program:
        """Start a worker; returns at once."""
        arguments = ["-m", "cardoon", "-A", "faults.tasks", "worker", "-l", "info"]
        arguments += ["-c", str(concurrency), "-n", f"{name}@faults"]
        number = len(self.workers) + 1
        program = Program(
            arguments,
            env={**self.environment(), **(env or {})},
            folder=self.folder,
            log=self.folder / f"worker{number}.log",
        )
        self.workers.append(program)
        return program

    def ready_worker(self, name: str = "first", *, env: Mapping[str, str] | None = None) -> Program:
        """Start a worker, and wait until it shows its banner and a task has run."""
        program = self.worker(name, env=env)
        self.until(lambda: self.shows_banner(program), READY_SECONDS)
        self.probe()
        return program

    def shows_banner(self, worker: Program) -> bool:
        """Whether a worker consumes, or is about to."""
        return _BANNER in worker.log.read_text(errors="replace")

    def has_worked(self, worker: Program, *, after: float) -> bool:
        """Whether a body ended in one of its processes after a moment."""
        pids = set(worker.task_processes())
        return any(one.pid in pids and one.at > after for one in self.ledger.entries["end"])

    def probe(self) -> None:
        """Send a task that is not counted, and wait for its end."""
        prefix = f"probe{self._probes}-"
        self._probes += 1
        self.send(count=1, prefix=prefix)
        self.until(lambda: f"{prefix}00000" in self.ledger.probes, READY_SECONDS)

    def client(self, **job: object) -> Program:
        """Start a client; see `client.Job`."""
        told = dataclasses.asdict(Job(**{"count": self.count, **job}))  # type: ignore[arg-type]
        program = Program(
            ["-m", "faults.client", json.dumps(told)],
            env=self.environment(),
            folder=self.folder,
            log=self.folder / f"client{len(self.clients) + 1}.log",
        )
        self.clients.append(program)
        return program

    def send(self, **job: object) -> None:
        """Have a client send, and wait until it has."""
        self.end_client(self.client(**job))

    def end_client(self, client: Program, seconds: float = STEP_SECONDS) -> None:
        """Wait for the end of a client, which is made to end if it hangs; then the run has failed."""
        if not client.wait(seconds):
            client.kill()
            raise FaultError(f"a client hung for {seconds:g} s: {client.log.read_text()[-500:]}")

    def fault(self) -> None:
        """The damage begins now."""
        self.fault_at = self.heal_at = time.monotonic()

    def heal(self) -> None:
        """The damage is over."""
        self.heal_at = time.monotonic()
        self.outage = max(self.outage, self.heal_at - self.fault_at)

    def terminate(self, worker: Program, *, patience: float = EXIT_SECONDS) -> None:
        """Stop a worker in order."""
        self.exits.append(worker.terminate(patience=patience))

    # Wait

    def until(self, condition: Callable[[], object], seconds: float = STEP_SECONDS) -> None:
        """Wait for a condition that others bring about."""
        if not self.comes_true(condition, seconds):
            raise FaultError(f"waited {seconds:g} s in vain")

    def comes_true(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for a condition; whether it came."""
        deadline = time.monotonic() + seconds
        while True:
            self.ledger.read()
            self._look_for_ends()
            if condition():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)

    def until_ended(self, count: float) -> None:
        """Wait until so many bodies have ended."""
        self.until(lambda: self.ledger.ended >= count)

    def until_sent(self, count: float) -> None:
        """Wait until so many sends have returned."""
        self.until(lambda: self.ledger.sent >= count)

    def pass_time(self, seconds: float) -> None:
        """Let a damage last."""
        self.comes_true(lambda: False, seconds)

    def settle(self, seconds: float) -> None:
        """Wait until every body has ended and nothing is left in the queues, at most so long."""
        for client in self.clients:
            self.end_client(client)
        self.comes_true(lambda: not self.missing() and not self._left(), seconds)

    def missing(self) -> set[str]:
        """Idents whose bodies must end and have not."""
        return self._wanted() - self.ledger.idents("end")

    def _wanted(self) -> set[str]:
        return self.ledger.idents("sent") if self.expected is None else self.expected

    def _look_for_ends(self) -> None:
        """Count the workers that ended by themselves."""
        for program in self.workers:
            if not program.ended and not program.is_alive:
                program.kill()
                self.gone += 1

    # Count

    def finish(self) -> Figures:
        """Stop the workers, and count."""
        self.comes_true(lambda: True, 0)
        for worker in self.workers:
            if not worker.ended:
                self.terminate(worker)
        self.ledger.read()
        with self._watching() as app:
            return {**self._count(app), **self.extra}

    def kept(self, where: Kept) -> list[KeptMessage]:
        """Dead letters, or what was refused."""
        broker = self._connect()
        try:
            assert isinstance(broker, Inspectable)
            return list(broker.kept(where, limit=_MOST_KEPT))
        finally:
            broker.close()

    def recorded(self, event: str) -> int:
        """How often workers and clients have put an event on record."""
        path = self.folder / ".cardoon" / "audit.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else ()
        return sum(json.loads(line)["event"] == event for line in lines)

    def _count(self, app: Cardoon) -> Figures:
        counts = self.ledger.counts
        ids = {entry.ident: entry.note for entry in self.ledger.entries["sent"]}
        missing = self.missing()
        found = self._find([ids[ident] for ident in missing if ident in ids])
        dead = {message.id for message in self.kept(Kept.DEAD_LETTER)}
        refused = {message.id for message in self.kept(Kept.QUARANTINE)}
        kept = {ident for ident in missing if ids.get(ident) in dead | refused}
        stuck = {ident for ident in missing - kept if ids.get(ident) in found}
        resolved = self._wanted() - missing
        wanted = [ids[ident] for ident in resolved if ident in ids]
        figures: Figures = {
            "sent": self.ledger.sent,
            "ended": self.ledger.ended,
            "lost": len(missing - kept - stuck),
            "stuck": len(stuck),
            "doubles": sum(n - 1 for n in counts["end"].values() if n > 1),
            "reruns": sum(n - 1 for n in counts["begin"].values() if n > 1),
            "buried": len(kept),
            "left": sum(one.leased + one.ready + one.dormant for one in self._depths()),
            "errors": len(counts["failed"]),
            "unresolved": sum(app.AsyncResult(one).state != states.SUCCESS for one in wanted),
            "gone": self.gone,
        }
        if self.exits:
            figures["unclean"] = sum(not clean for clean, _ in self.exits)
            figures["exit s"] = max(seconds for _, seconds in self.exits)
        if self.fault_at:
            after = [entry.at for entry in self.ledger.entries["end"] if entry.at > self.heal_at]
            figures["outage s"] = self.outage
            figures["first s"] = min(after, default=self.heal_at) - self.heal_at
            figures["last s"] = max(after, default=self.fault_at) - self.fault_at
        return figures

    def _watching(self) -> Cardoon:
        return Cardoon(
            "faults.watch",
            broker_url=self.place.direct_url,
            result_backend=self.place.own_results or self.place.direct_url,
            state_directory=str(self.folder / ".cardoon"),
            set_as_current=False,
        )

    def _connect(self) -> Broker:
        return self.place.connect()

    def _find(self, ids: list[str]) -> set[str]:
        broker = self._connect()
        try:
            if isinstance(broker, Findable):
                return set(broker.find(ids))
            assert isinstance(broker, Accompanied)
            assert isinstance(broker.companion, Findable)
            # Nobody can ask RabbitMQ for an id, so it is emptied; the workers have ended.
            found = set(broker.companion.find(ids))
            while ids and (taken := broker.receive([QUEUE], limit=1000, lease=600, timeout=1)):
                found.update(delivery.id for delivery in taken)
            return found
        finally:
            broker.close()

    def _depths(self) -> list[QueueDepth]:
        broker = self._connect()
        try:
            assert isinstance(broker, Inspectable)
            return list(broker.depths())
        finally:
            broker.close()

    def _left(self) -> int:
        try:
            depths = self._depths()
        except OperationalError:
            return 1
        return sum(one.leased + one.ready + one.dormant + one.scheduled for one in depths)

    def evidence(self) -> str:
        """The ledger in short, and what workers and clients said other than that tasks succeeded."""
        counts = {kind: len(found) for kind, found in self.ledger.counts.items()}
        failed = self.ledger.entries["failed"][:_MOST_LINES]
        found = [f"the ledger has {counts}", *(f"{each.ident}: {each.note}" for each in failed)]
        for program in (*self.workers, *self.clients):
            lines = program.log.read_text(errors="replace").splitlines()
            said = itertools.dropwhile(lambda line: not line.startswith("["), lines)  # the banner
            told = [line for line in said if "success in" not in line][-_MOST_LINES:]
            found += [f"{program.log.name}:", *told]
        return "\n  ".join(found)
