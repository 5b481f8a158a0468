"""The supervisor: spawns, watches, kills and replaces the processes that run tasks.

It parses no message and touches no broker, so nothing that either does can keep it from enforcing a
time limit. Its loop runs in the worker's main thread; `submit` and `cancel` come from other threads.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.exceptions import CardoonError
from cardoon.worker.child import Phase, Placed, TaskProcess
from cardoon.worker.ipc import ChannelClosedError, Frame, FrameType, IpcError, field
from cardoon.worker.journal import Journal
from cardoon.worker.nursery import Nursery
from cardoon.worker.pacing import MAX_DEPTH, Pace
from cardoon.worker.pool import (
    Crashed,
    HandedBack,
    Job,
    Killed,
    OnEnded,
    TimedOut,
    parse_ending,
)
from cardoon.worker.scheduler import Scheduler

logger = logging.getLogger(__name__)

MAX_EARLY_DEATHS = 5
"""Processes in a row that die before they serve; then the worker gives up."""
_LONGEST_SLEEP = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The shape of a pool of processes."""

    kind: str
    processes: int
    slots: int
    """Jobs that one process runs at a time."""
    max_tasks: int | None = None
    max_memory_kib: int | None = None
    max_depth: int | None = None
    """Jobs for each slot, the running one included; None lets their run times decide."""
    farewell: float = 0.0
    """Seconds that processes have at the end to send `worker_process_shutdown`; 0 if nobody hears it."""


def plan_pool(settings: Settings, *, concurrency: int, farewell: float) -> Plan:
    """The pool that the settings describe."""
    several = settings.worker_pool in {"threads", "asyncio"}
    return Plan(
        kind=settings.worker_pool,
        processes=1 if several else concurrency,
        slots=concurrency if several else 1,
        max_tasks=settings.worker_max_tasks_per_child,
        max_memory_kib=settings.worker_max_memory_per_child,
        max_depth=settings.worker_prefetch_multiplier or None,
        farewell=farewell,
    )


OnRequest = Callable[["ReplyTo", Frame], None]


class ReplyTo:
    """Where the answer to a request of a task process goes."""

    __slots__ = ("_number", "_pool", "_process", "keys")

    def __init__(self, pool: ProcessPool, process: TaskProcess, number: int | None) -> None:
        self._pool = pool
        self._process = process
        self._number = number
        self.keys = tuple(process.jobs)
        """The jobs that it held when it asked: on whose behalf it may ask."""

    def answer(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send the reply; nothing happens if the process is gone."""
        if self._number is not None:
            self._pool.send(self._process, FrameType.REPLY, {"n": self._number, **head}, body)


class ProcessPool:
    """A `Pool` of processes forked from a zygote."""

    def __init__(
        self,
        plan: Plan,
        nursery: Nursery,
        *,
        clock: Clock,
        on_ended: OnEnded,
        on_request: OnRequest,
        journal: Journal | None = None,
    ) -> None:
        self._plan = plan
        self._nursery = nursery
        self._clock = clock
        self._on_ended = on_ended
        self._on_request = on_request
        self._journal = journal
        self._lock = threading.RLock()  # protects everything below but the selector
        self._room_changed = threading.Condition(self._lock)
        self._scheduler = Scheduler(Pace(plan.max_depth or MAX_DEPTH), max_tasks=plan.max_tasks)
        self._drain: tuple[float, float] | None = None
        self._early_deaths = 0
        self._next_index = 1
        self._selector = selectors.DefaultSelector()  # the loop's own
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

    # The Pool contract

    def run(self, until: Callable[[], bool]) -> None:
        """Serve until `until()` holds and no job is left; then end the processes."""
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self._selector.register(self._nursery, selectors.EVENT_READ, self._hear_zygote)
        try:
            with self._lock:
                for _ in range(self._plan.processes):
                    self._spawn()
            while not (until() and self._scheduler.is_empty()):
                for key, _ in self._selector.select(self._sleep_time()):
                    key.data()
                with self._lock:
                    self._keep_time(self._clock.monotonic())
            if self._plan.farewell:
                self._bid_farewell()
        finally:
            self._close()

    def wait_for_room(self, timeout: float) -> int:
        """Room for jobs now, when there is enough of it to be worth a claim."""
        with self._room_changed:
            self._room_changed.wait_for(self._takes_more, timeout)
            return self._scheduler.room() if self._takes_more() else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand jobs to processes; what finds no place waits here, for a short time."""
        with self._lock:
            self._flush_all(self._scheduler.add(jobs, self._clock.monotonic()))
            due = self._scheduler.next_due()
        if due < float("inf"):
            self.wake()

    def cancel(self, key: int, *, signal: str) -> bool:
        """Stop a job by killing its process; in a shared process, by an exception inside the task."""
        with self._lock:
            found = self._scheduler.find(key)
            if found is None:
                return False
            process, placed = found
            if not placed.begun:
                self._recall(process, [key])
            elif self._plan.slots == 1:
                placed.verdict = Killed(signal)
                process.kill()
            else:
                self._interrupt(process, placed, "terminated")
            return True

    def drain(self, *, soft: float, hard: float) -> None:
        """Take no more, and be empty in `hard` seconds."""
        now = self._clock.monotonic()
        with self._room_changed:
            times = (now + soft, now + hard)
            self._drain = min(times, self._drain) if self._drain else times
            for job in self._scheduler.take_backlog():
                self._on_ended(job.key, HandedBack())
            for process in self._scheduler.processes.values():
                self._recall(process, [k for k, p in process.jobs.items() if not p.begun])
            self._room_changed.notify_all()
        self.wake()

    def wake(self) -> None:
        """Have the loop look again; safe from any thread and from signal handlers."""
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")

    def send(
        self, process: TaskProcess, kind: FrameType, head: dict[str, Any], body: bytes = b""
    ) -> None:
        """Send a frame to a process, unless it is dead."""
        with self._lock:
            if process.phase is not Phase.DEAD:
                process.queue(kind, head, body)
                self._flush_all([process])

    def _takes_more(self) -> bool:
        return self._drain is None and self._scheduler.is_worth_a_claim()

    # Events

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)
        with self._lock:
            for process in self._scheduler.processes.values():
                self._watch(process)

    def _watch(self, process: TaskProcess) -> None:
        """Have the selector say when a process reads again that did not take all."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.has_unsent else 0)
        with contextlib.suppress(KeyError, ValueError):
            if self._selector.get_key(process.socket).events != wanted:
                self._selector.modify(process.socket, wanted, lambda: self._hear(process))

    def _hear_zygote(self) -> None:
        try:
            told = self._nursery.receive()
        except IpcError:
            self._lose_zygote()
            return
        with self._lock:
            for frame, handle in told:
                match frame.type:
                    case FrameType.FORKED:
                        process = self._scheduler.processes[frame.head["index"]]
                        process.born(frame.head["pid"], handle)
                    case FrameType.DIED:
                        self._bury(frame.head["pid"], frame.head["code"])
                    case _:
                        logger.error("unexpected %s frame from the zygote", frame.type.name)

    def _hear(self, process: TaskProcess) -> None:
        """Take in what a process sends, and send what it has not taken; a rule broken is its end."""
        with self._lock:
            if process.phase is Phase.DEAD:  # buried by what the same look at the sockets found
                return
            try:
                if process.has_unsent:
                    process.flush()
                    self._watch(process)
                for frame in process.receive():
                    self._take(process, frame)
            except IpcError as error:
                if not isinstance(error, ChannelClosedError):
                    logger.error("task process %s is killed: %s", process.pid, error)  # noqa: TRY400
                self._selector.unregister(process.socket)
                process.kill()  # it may outlive its channel; the zygote says when it is dead
                return
            self._flush_all(self._scheduler.place_backlog(self._clock.monotonic()))
            if self._takes_more():
                self._room_changed.notify_all()

    def _take(self, process: TaskProcess, frame: Frame) -> None:
        match frame.type:
            case FrameType.OUTCOME:
                self._take_outcome(process, frame)
            case FrameType.READY:
                process.phase = Phase.SERVING
                self._early_deaths = 0
            case FrameType.RECALLED:
                self._take_recalled(process, frame)
            case FrameType.STATE:
                self._on_request(ReplyTo(self, process, None), frame)
            case _:
                self._on_request(ReplyTo(self, process, field(frame, "n", int)), frame)

    def _take_outcome(self, process: TaskProcess, frame: Frame) -> None:
        key = field(frame, "key", int)
        runtime = float(field(frame, "runtime", float))
        ending = parse_ending(frame)
        placed = process.remove(key, self._clock.monotonic())
        if placed is None:
            raise IpcError(f"OUTCOME frame for job {key}, which it does not hold")
        self._scheduler.pace.observe(runtime)
        self._on_ended(key, ending)
        if frame.head.get("full") and process.phase is Phase.SERVING:
            logger.info("task process %s uses too much memory and is replaced", process.pid)
            self._retire(process)
        self._after_removal(process)

    def _take_recalled(self, process: TaskProcess, frame: Frame) -> None:
        now = self._clock.monotonic()
        process.recalling = False
        keys = field(frame, "keys", list)
        asked_back = {key for key, placed in process.jobs.items() if placed.recalled}
        if not all(isinstance(key, int) and key in asked_back for key in keys):
            raise IpcError("RECALLED frame for a job that was not asked back")
        back = []
        for key in dict.fromkeys(keys):
            placed = process.remove(key, now)
            if placed is not None:
                process.taken -= 1
                back.append(placed.job)
        if self._drain is not None:
            for job in back:
                self._on_ended(job.key, HandedBack())
        else:
            self._flush_all(self._scheduler.add(back, now))
        self._after_removal(process)

    def _after_removal(self, process: TaskProcess) -> None:
        """A job has left a process: start the one that waits to be alone, or end the process."""
        if process.jobs or process.phase is Phase.DEAD:
            return
        if self._scheduler.begin_reserved(process, self._clock.monotonic()):
            self._flush_all([process])
        elif process.phase is Phase.RETIRING:
            self.send(process, FrameType.STOP, {})
        elif self._scheduler.is_spent(process):
            self._retire(process)

    # Time

    def _sleep_time(self) -> float:
        """Seconds until something is due."""
        with self._lock:
            due = self._scheduler.next_due()
            if self._drain is not None:
                due = min(due, *self._drain)
        return max(0.0, min(_LONGEST_SLEEP, due - self._clock.monotonic()))

    def _keep_time(self, now: float) -> None:
        """Enforce limits, and take jobs away from behind slow ones."""
        due = self._scheduler.due(now)
        for process, placed in due.hard:
            job = placed.job
            logger.warning("task %s[%s] ran into its hard time limit", job.task, job.id)
            placed.hard_at = placed.soft_at = None
            placed.verdict = TimedOut(job.hard_limit or 0.0)
            process.kill()
        for process, placed in due.soft:
            self._interrupt(process, placed, "soft_time_limit")
        for process in due.stuck:
            self._scheduler.pace.observe(now - min(placed.started for placed in process.running))
            self._recall(process, list(process.jobs)[process.slots :])
        for job in due.overdue:
            self._on_ended(job.key, HandedBack())
        if self._drain is not None:
            self._keep_draining(now, *self._drain)

    def _keep_draining(self, now: float, soft: float, hard: float) -> None:
        """Interrupt what runs when the soft time has come, and kill it at the hard one."""
        never = float("inf")
        if now >= hard:
            self._drain = (never, never)
            for process in self._scheduler.processes.values():
                for placed in process.jobs.values():
                    placed.verdict = placed.verdict or HandedBack()
                process.kill()
        elif now >= soft:
            self._drain = (never, hard)
            for process in self._scheduler.processes.values():
                for placed in process.running:
                    self._interrupt(process, placed, "shutdown")

    def _interrupt(self, process: TaskProcess, placed: Placed, reason: str) -> None:
        """Raise something inside a task."""
        placed.soft_at = None
        self.send(process, FrameType.CANCEL, {"key": placed.job.key, "reason": reason})
        if self._plan.kind == "prefork":
            process.ring()

    def _recall(self, process: TaskProcess, keys: Sequence[int]) -> None:
        """Ask for jobs back that have not begun; the process itself decides which those are."""
        if not keys or process.recalling:
            return
        process.recalling = True
        for key in keys:
            process.jobs[key].recalled = True
        self.send(process, FrameType.RECALL, {"keys": list(keys)})
        if self._plan.kind == "prefork":
            process.ring()

    # Births and deaths

    def _spawn(self) -> None:
        pages = self._journal.lend() if self._journal is not None else None
        process = TaskProcess(self._next_index, self._plan.slots, pages)
        self._next_index += 1
        self._scheduler.processes[process.index] = process
        self._selector.register(process.socket, selectors.EVENT_READ, lambda: self._hear(process))
        self._nursery.fork(
            process.far_ends,
            {
                "index": process.index,
                "name": self._plan.kind,
                "kind": self._plan.kind,
                "slots": self._plan.slots,
                "max_memory": self._plan.max_memory_kib,
            },
        )

    def _bid_farewell(self) -> None:
        """Have idle processes end by themselves, for a bounded time."""
        deadline = self._clock.monotonic() + self._plan.farewell
        for process in list(self._scheduler.processes.values()):
            self.send(process, FrameType.STOP, {})
        while self._scheduler.processes and (left := deadline - self._clock.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data()

    def _retire(self, process: TaskProcess) -> None:
        """Have a process end as soon as it has no job."""
        process.phase = Phase.RETIRING
        if process.jobs:
            self._recall(process, list(process.jobs)[process.slots :])
        else:
            self.send(process, FrameType.STOP, {})

    def _bury(self, pid: int, code: int) -> None:
        """A process is dead: say how its jobs ended, and start another."""
        processes = self._scheduler.processes
        process = next((p for p in processes.values() if p.pid == pid), None)
        if process is None:
            return
        with contextlib.suppress(IpcError):  # outcomes that it wrote before it died
            while frames := process.receive():
                for frame in frames:
                    self._take(process, frame)
        served = process.phase is not Phase.STARTING
        self._remove(process)
        self._settle_dead(process, code)
        if self._drain is not None:
            return
        self._early_deaths = 0 if served else self._early_deaths + 1
        if self._early_deaths >= MAX_EARLY_DEATHS:
            raise CardoonError(
                f"{MAX_EARLY_DEATHS} task processes in a row died before they could serve "
                f"(exit code {code}); see their output above"
            )
        self._spawn()

    def _settle_dead(self, process: TaskProcess, code: int) -> None:
        """How the jobs of a dead process ended: what was begun has crashed, the rest waits again."""
        begun = process.running
        doomed = any(placed.verdict is not None for placed in begun)
        waiting = [process.reserved] if process.reserved is not None else []
        for placed in process.jobs.values():
            if placed.verdict is not None:
                self._on_ended(placed.job.key, placed.verdict)
            elif placed not in begun:
                waiting.append(placed.job)
            elif doomed:  # a neighbour was killed; this one is not to blame
                self._on_ended(placed.job.key, HandedBack())
            else:
                reason = f"signal {-code}" if code < 0 else f"exit code {code}"
                self._on_ended(placed.job.key, Crashed(f"task process {process.pid}: {reason}"))
        process.jobs.clear()
        self._flush_all(self._scheduler.add(waiting, self._clock.monotonic()))

    def _lose_zygote(self) -> None:
        """The zygote died, and its children with it. Their tasks are not to blame."""
        logger.error("the zygote died; its processes are started anew")
        with self._lock:
            self._selector.unregister(self._nursery)
            for process in list(self._scheduler.processes.values()):
                process.kill()
                self._remove(process)
                for placed in process.jobs.values():
                    self._on_ended(placed.job.key, placed.verdict or HandedBack())
                if process.reserved is not None:
                    self._on_ended(process.reserved.key, HandedBack())
            self._nursery.restart()
            self._selector.register(self._nursery, selectors.EVENT_READ, self._hear_zygote)
            for _ in range(self._plan.processes):
                self._spawn()

    def _remove(self, process: TaskProcess) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(process.socket)
        process.close()
        del self._scheduler.processes[process.index]

    def _flush_all(self, processes: Sequence[TaskProcess]) -> None:
        for process in processes:
            try:
                process.flush()
            except IpcError as error:
                logger.debug("task process %s: %s", process.pid, error)
                process.kill()
            if process.has_unsent:
                self.wake()

    def _close(self) -> None:
        with self._lock:
            for process in self._scheduler.processes.values():
                process.close()
            self._scheduler.processes.clear()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
