"""A worker of the simulated world: the real consumer, settler, keeper, ledger and scheduler on a simulated host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cardoon import Cardoon
from cardoon.audit import AuditLog
from cardoon.broker import Delivery
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError, OperationalError
from cardoon.worker.catalogue import TaskRules
from cardoon.worker.child import Phase, Placed, TaskProcess
from cardoon.worker.claiming import Options
from cardoon.worker.consumer import Consumer
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.leases import Keeper, Revoked
from cardoon.worker.ledger import Ledger
from cardoon.worker.orders import Orders
from cardoon.worker.pacing import Pace
from cardoon.worker.pool import Crashed, Ending, HandedBack, Job, Killed
from cardoon.worker.pools.stepping import SteppingPool
from cardoon.worker.scheduler import Scheduler
from cardoon.worker.settler import Settler
from tests.simulation.network import Link, Store
from tests.simulation.switches import Off
from tests.simulation.world import Host, World

LEASE = 30.0
QUEUE = "celery"
PROCESSES = 2
TICK = 2.0
"""Seconds between two looks of the keeper; twice as long as in life, which is half as much to do."""
FOR_EVER = 1e9


class SimulatedPool:
    """Task processes whose bodies take simulated time; which of them runs what, the scheduler decides."""

    def __init__(
        self,
        host: Host,
        app: Cardoon,
        *,
        on_ended: Callable[[int, Ending], None],
        on_begun: Callable[[Job], float | None],
    ) -> None:
        self._host = host
        self._on_ended = on_ended
        self._on_begun = on_begun
        """Says how long a body takes, or None for one that kills its process."""
        self._outcomes: list[Ending] = []
        self._bodies = SteppingPool(
            app, clock=host.clock, on_ended=lambda _, ending: self._outcomes.append(ending)
        )
        self.scheduler = Scheduler(Pace(), max_tasks=None)
        self._begun: set[int] = set()
        for index in range(PROCESSES):
            self._spawn(index)

    @property
    def processes(self) -> Mapping[int, TaskProcess]:
        """Those that live."""
        return self.scheduler.processes

    def close(self) -> None:
        """Let go of descriptors."""
        for process in self.processes.values():
            process.close()
        self._bodies.close()

    def wait_for_room(self, timeout: float) -> int:
        """As the pool of processes does."""
        if not self.scheduler.is_worth_a_claim():
            self._host.world.sleep(timeout)
        return self.scheduler.room() if self.scheduler.is_worth_a_claim() else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand jobs to processes."""
        self.scheduler.add(jobs, self._now)
        self._begin()

    def cancel(self, key: int, *, signal: str) -> bool:
        """Stop a job; a running one by killing its process."""
        found = self.scheduler.find(key)
        if found is None:
            return False
        process, placed = found
        if placed.begun:
            placed.verdict = Killed(signal)
            self.kill(process)
        else:
            process.remove(key, self._now)
            self._on_ended(key, HandedBack())
        return True

    def kill(self, process: TaskProcess) -> None:
        """A process dies, with what it runs; another takes its place."""
        begun = process.running
        del self.scheduler.processes[process.index]
        process.close()
        waiting = [process.reserved] if process.reserved is not None else []
        for placed in process.jobs.values():
            if placed in begun:
                self._on_ended(placed.job.key, placed.verdict or Crashed("killed"))
            else:
                waiting.append(placed.job)
        process.jobs.clear()
        self._spawn(process.index)
        self.submit(waiting)

    @property
    def _now(self) -> float:
        return self._host.clock.monotonic()

    def _spawn(self, index: int) -> None:
        process = TaskProcess(index, 1)
        process.phase = Phase.SERVING
        self.scheduler.processes[index] = process

    def _begin(self) -> None:
        for process in self.processes.values():
            for placed in process.running:
                if placed.job.key not in self._begun:
                    self._begun.add(placed.job.key)
                    self._run(process, placed)
        due = self.scheduler.next_due()
        if due < float("inf"):
            self._host.after(max(0.001, due - self._now), self._keep_time)

    def _run(self, process: TaskProcess, placed: Placed) -> None:
        seconds = self._on_begun(placed.job)

        def end() -> None:
            if process.jobs.get(placed.job.key) is not placed:
                return  # its process was killed
            if seconds is None:
                self.kill(process)
            else:
                self._end(process, placed, seconds)

        self._host.after(0.05 if seconds is None else seconds, end)

    def _end(self, process: TaskProcess, placed: Placed, seconds: float) -> None:
        self._bodies.submit([placed.job])
        self._bodies.step()
        process.remove(placed.job.key, self._now)
        self.scheduler.pace.observe(seconds)
        self._on_ended(placed.job.key, self._outcomes.pop())
        if not process.jobs:
            self.scheduler.begin_reserved(process, self._now)
        self.scheduler.place_backlog(self._now)
        self._begin()

    def _keep_time(self) -> None:
        due = self.scheduler.due(self._now)
        for process in due.stuck:
            back = [
                job
                for key in list(process.jobs)[process.slots :]
                if (placed := process.remove(key, self._now)) and (job := placed.job)
            ]
            self.scheduler.add(back, self._now)
        for job in due.overdue:
            self._on_ended(job.key, HandedBack())
        self._begin()


class TrustingConsumer(Consumer):
    """One that carries a claim out however late it came."""

    def admit(self, deliveries: Sequence[Delivery], *, asked_at: float | None = None) -> None:
        super().admit(deliveries)


class SimulatedWorker:
    """One incarnation of a worker, on a host of its own."""

    def __init__(
        self,
        world: World,
        store: Store,
        app: Cardoon,
        catalogue: Mapping[str, TaskRules],
        *,
        name: str,
        off: Off,
        on_begun: Callable[[SimulatedWorker, Job], float | None],
    ) -> None:
        self.host = Host(world)
        self.name = name
        self.link = Link(self.host, store, off)
        self.held = HeldTable()
        clock = self.host.clock
        deployment = Deployment(app.settings, clock=clock, role="worker")
        audit = AuditLog(None, clock=clock, source=name)
        gate = deployment.make_gate(app.settings.accept_content)
        ledger = Ledger(
            broker=self.link,
            backend=None,
            shared_store=True,
            task_signer=deployment.make_signer(app.settings.task_serializer),
            result_signer=deployment.make_signer(app.settings.result_serializer),
            audit=audit,
            clock=clock,
            worker=name,
            result_expires=None,
        )
        self.settler = Settler(ledger, held=self.held, clock=clock, rest=world.sleep)
        self.pool = SimulatedPool(
            self.host,
            app,
            on_ended=self._ended,
            on_begun=lambda job: on_begun(self, job),
        )
        revoked = Revoked()
        self.keeper = Keeper(
            broker=self.link,
            orders=Orders(gate, clock=clock, worker="simulated"),
            held=self.held,
            revoked=revoked,
            audit=audit,
            clock=clock,
            lease=LEASE,
            max_bytes=app.settings.message_max_bytes,
            on_lost=self._drop,
            on_terminate=lambda *_: None,
        )
        make = TrustingConsumer if off is Off.TRUST_WINDOW else Consumer
        self.consumer = make(
            Options(
                queues=(QUEUE,),
                lease=LEASE,
                hostname=name,
                max_bytes=app.settings.message_max_bytes,
            ),
            broker=self.link,
            guard=self.link,
            gate=gate,
            pool=self.pool,
            settler=self.settler,
            held=self.held,
            revoked_ids=revoked,
            catalogue=catalogue,
            audit=audit,
            clock=clock,
        )
        self._is_idle = False
        self._writer = self.host.start(self._write)
        self.host.start(self._consume)
        self.host.start(self._keep)

    def close(self) -> None:
        """The host dies, if it has not yet."""
        self.host.die()
        self.pool.close()
        self.consumer.stop(0)

    def _consume(self) -> None:
        pause = 0.05
        while True:
            try:
                self.consumer.consume()
                pause = 0.05
            except OperationalError:
                self.host.world.sleep(pause)
                pause = min(5.0, pause * 2)
            self._wake_writer()

    def _write(self) -> None:
        while True:
            self.settler.write_now()
            self._is_idle = True
            self.host.world.sleep(FOR_EVER)
            self._is_idle = False

    def _wake_writer(self) -> None:
        """Not from a sleep on its way to the store."""
        if self._is_idle:
            self._writer.wake()

    def _keep(self) -> None:
        while True:
            self.host.world.sleep(TICK)
            try:
                self.keeper.tick()
            except CardoonError:
                continue
            finally:
                self._wake_writer()

    def _ended(self, key: int, ending: Ending) -> None:
        self.settler.ended(key, ending)
        self._wake_writer()

    def _drop(self, held: Held) -> None:
        """As the worker does."""
        if not self.pool.cancel(held.key, signal="SIGKILL"):
            self._ended(held.key, HandedBack())
