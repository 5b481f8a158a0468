"""One seed, one history: trouble for a while, then calm; and what must be true afterwards, whatever happened."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cardoon import Cardoon, chord
from cardoon.broker import Kept
from cardoon.deployment import Deployment
from cardoon.exceptions import OperationalError, Refusal
from cardoon.producer import Producer
from cardoon.worker.catalogue import rules_of
from cardoon.worker.pool import Job
from tests.simulation.actors import QUEUE, SimulatedWorker
from tests.simulation.network import Link, Store
from tests.simulation.switches import Off
from tests.simulation.world import Host, World

WORKERS = 3
TASKS, CHORDS, SIZE, KILLERS = 20, 2, 4, 1
TROUBLE_SECONDS, CALM_SECONDS = 400.0, 400.0
MAX_CRASHES = 8
"""More than trouble can do to one task by chance, so that whoever is buried was a killer."""
NOTICE = 5.0
"""Seconds that a worker has to find out what has befallen it. What waits in its pool may begin meanwhile."""
PLAIN = {"task_serializer": "json", "result_serializer": "json", "accept_content": ["json"]}
"""Signatures change nothing here; the gate, the nonces and the digests are the same without."""


class History:
    """One run of the world."""

    def __init__(self, seed: int, folder: Path, off: Off = Off.NOTHING) -> None:
        self.world = World(seed)
        self.off = off
        self.store = Store(self.world, off)
        self.store.declare([QUEUE])
        self.trouble = 0.03
        self.begun: defaultdict[str, list[tuple[float, SimulatedWorker]]] = defaultdict(list)
        """By id: when a body began, and on which worker."""
        self.causes: defaultdict[tuple[str, SimulatedWorker], list[float]] = defaultdict(list)
        """When something befell a worker that had a task: then it may run again."""
        self.sent: set[str] = set()
        self.killers: set[str] = set()
        self.misled: list[str] = []
        """Bodies of chords that were given something else than each header's result, once."""
        self.log: list[tuple[float, str]] = []
        """What happened when: the same for the same seed."""
        self._host = Host(self.world)
        self._link = Link(self._host, self.store, off)
        self.app = self._make_app(folder)
        rules = {name: rules_of(task, self.app.settings) for name, task in self.app.tasks.items()}
        most = 1 << 30 if off is Off.CRASH_LIMIT else MAX_CRASHES
        late = off is not Off.LATE_ACKNOWLEDGEMENT
        self._catalogue = {
            name: replace(one, max_crashes=most, acks_late=late) for name, one in rules.items()
        }
        self.workers: list[SimulatedWorker] = []
        self._dead: list[SimulatedWorker] = []

    def run(self) -> list[str]:
        """Let everything happen, and return what should not have."""
        chance = self.world.chance
        for number in range(WORKERS):
            self._boot(f"worker{number}")
        self._host.start(self._send_all)
        self.world.after(chance.random() * 30, self._make_trouble)
        self.world.run_until(TROUBLE_SECONDS)
        self._calm_down()
        self.world.run_until(TROUBLE_SECONDS + CALM_SECONDS)
        try:
            return self._judge()
        finally:
            self.close()

    def close(self) -> None:
        """End all strands."""
        self._host.die()
        for worker in (*self.workers, *self._dead):
            worker.close()

    # What happens

    def _make_app(self, folder: Path) -> Cardoon:
        app = Cardoon(
            "simulation",
            set_as_current=False,
            clock=self._host.clock,
            broker_url="memory://",
            state_directory=str(folder),
            **PLAIN,
        )
        app.task(lambda ident: ident, name="sim.work")
        app.task(self._gather, name="sim.gather")
        deployment = Deployment(app.settings, clock=self._host.clock)
        app.attach(Producer(deployment, stores=(self._link, None)))
        return app

    def _gather(self, results: list[str], ident: str) -> list[str]:
        expected = [f"{ident}.{number}" for number in range(SIZE)]
        if results != expected:
            self.misled.append(f"chord: {ident} was given {results}")
        return results

    def _send_all(self) -> None:
        chance, number = self.world.chance, TASKS + CHORDS + KILLERS
        order = chance.sample(range(number), number)
        for one in order:
            self.world.sleep(chance.expovariate(number / (TROUBLE_SECONDS * 0.6)))
            self._send(one)

    def _send(self, number: int) -> None:
        """Send until that has returned, under the same id; a chord once, by a way that is safe."""
        ident = f"task{number:02d}"
        if number >= TASKS + KILLERS:
            members = [self.app.tasks["sim.work"].si(f"{ident}.{n}") for n in range(SIZE)]
            self._link.trouble = 0.0
            chord(members)(self.app.tasks["sim.gather"].s(ident))
            self.sent.update(one.id for one in self.store.seen[-SIZE - 1 :])
            return
        if number >= TASKS:
            self.killers.add(ident)
        while True:
            self._link.trouble = self.trouble * 5
            try:
                self.app.send_task("sim.work", (ident,), task_id=ident)
            except OperationalError:
                self.world.sleep(1.0)
            else:
                self.sent.add(ident)
                return

    def _boot(self, name: str) -> None:
        worker = SimulatedWorker(
            self.world,
            self.store,
            self.app,
            self._catalogue,
            name=name,
            off=self.off,
            on_begun=self._begin,
        )
        worker.link.trouble = self.trouble
        worker.link.on_trouble = lambda: self._excuse(worker)
        self.workers.append(worker)

    def _begin(self, worker: SimulatedWorker, job: Job) -> float | None:
        """How long a body takes; None for one that kills its process."""
        chance = self.world.chance
        self.begun[job.id].append((self.world.time, worker))
        self.log.append((self.world.time, f"{worker.name} begins {job.task}"))
        if worker.link.stalled or job.id in self.killers:
            # Its keeper may be the one that waits.
            self.causes[job.id, worker].append(self.world.time)
        if job.id in self.killers:
            return None
        return chance.expovariate(1 / 50) if chance.random() < 0.2 else chance.random() * 2

    def _make_trouble(self) -> None:
        chance, world = self.world.chance, self.world
        if world.time >= TROUBLE_SECONDS:
            return
        if self.workers:
            worker = chance.choice(self.workers)
            self._excuse(worker)
            match chance.choice(["crash", "process", "freeze", "cut", "clock", "replay"]):
                case "crash":
                    self._crash(worker)
                case "process":
                    worker.pool.kill(chance.choice(list(worker.pool.processes.values())))
                case "freeze":
                    seconds = chance.random() * 90
                    worker.host.frozen_until = world.time + seconds
                    world.after(seconds, lambda: self._excuse(worker))
                case "cut":
                    worker.link.is_cut = True
                    world.after(chance.random() * 60, lambda: self._mend(worker))
                case "clock":
                    worker.host.clock.skew = chance.choice((-50.0, -20.0, 20.0, 50.0))
                    world.after(chance.random() * 60, lambda: self._set_clock(worker))
                case _:
                    self._replay()
        world.after(chance.expovariate(1 / 20), self._make_trouble)

    def _crash(self, worker: SimulatedWorker) -> None:
        self.workers.remove(worker)
        worker.host.die()
        self._dead.append(worker)
        self.world.after(1 + self.world.chance.random() * 20, lambda: self._boot(worker.name))

    def _mend(self, worker: SimulatedWorker) -> None:
        self._excuse(worker)
        worker.link.is_cut = False

    def _set_clock(self, worker: SimulatedWorker) -> None:
        worker.host.clock.skew = 0.0

    def _replay(self) -> None:
        """Somebody who can write the store puts a copy of a message there, perhaps under another id."""
        chance = self.world.chance
        copies = [one for one in self.store.stored if not one.after]
        if copies:
            copy = chance.choice(copies)
            other = f"copy{len(self.log)}"
            name = chance.choice((copy.id, copy.id, other, f"{copy.id}>{other}"))
            self.store.inject(copy._replace(id=name))

    def _excuse(self, worker: SimulatedWorker) -> None:
        """What this worker holds, or has asked for, may run again."""
        for task_id in worker.link.lent | {one.id for one in worker.held.all()}:
            self.causes[task_id, worker].append(self.world.time)

    def _calm_down(self) -> None:
        self.trouble = 0.0
        for worker in self.workers:
            self._excuse(worker)
            worker.link.trouble = 0.0
            worker.link.is_cut = False
            worker.host.frozen_until = 0.0
            worker.host.clock.skew = 0.0

    # What must be true

    def _judge(self) -> list[str]:
        wrong = [*self.misled, *self.store.stale]
        frames: defaultdict[str, set[bytes]] = defaultdict(set)
        for one in self.store.seen:
            frames[one.id].add(one.frame)
        for task_id in sorted(self.sent):
            ends = [self.store.ends[frame] for frame in frames[task_id]]
            sends = 1 + self.store.sent_again[task_id]
            if self.store.is_stored(task_id):
                wrong.append(f"stuck: {self._name(task_id)}")
            elif sum(ends) == 0:
                wrong.append(f"lost: {self._name(task_id)}")
            elif max(ends) > 1 or sum(ends) > sends:
                wrong.append(f"double: {self._name(task_id)} ended {sum(ends)} times")
            if (reruns := self._reruns(task_id)) > sends - 1:
                wrong.append(f"rerun: {self._name(task_id)} {reruns} times without a cause")
        killing = {frame for one in self.killers for frame in frames[one]}
        dead = self.store.kept(Kept.DEAD_LETTER, limit=10_000)
        wrong += [f"poison: {self._name(one.id)}" for one in dead if one.frame not in killing]
        refused = self.store.kept(Kept.QUARANTINE, limit=10_000)
        expected = {Refusal.REPLAYED, Refusal.WRONG_ID}
        wrong += [f"refused: {one.reason}" for one in refused if one.reason not in expected]
        return wrong

    def _reruns(self, task_id: str) -> int:
        """How often a body began though nothing had befallen the worker on which it began before."""
        begun = self.begun[task_id]
        return sum(
            not any(since - NOTICE <= at <= again for at in self.causes[task_id, worker])
            for (since, worker), (again, _) in itertools.pairwise(begun)
        )

    def _name(self, task_id: str) -> str:
        return task_id if task_id.startswith("task") else "a member of a chord"


def run(seed: int, off: Off = Off.NOTHING) -> list[str]:
    """What went wrong in the history of a seed."""
    with tempfile.TemporaryDirectory() as folder:
        return History(seed, Path(folder), off).run()


def find(off: Off, seeds: Sequence[int]) -> tuple[int, list[str]] | None:
    """The first of these seeds in whose history something went wrong, and what."""
    for seed in seeds:
        if wrong := run(seed, off):
            return seed, wrong
    return None


def quiet() -> None:
    """Lost leases and lost replies are what this is about; nobody wants to read of each."""
    logging.getLogger("cardoon").setLevel(logging.CRITICAL)
