"""The supervisor: spawns, watches, kills and replaces the processes that run tasks.

It parses no message and touches no broker, so nothing that either does can keep it from enforcing a
time limit. Its loop runs in the worker's main thread; `submit` and `cancel` come from other threads.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from cardoon.clock import Clock
from cardoon.exceptions import CardoonError
from cardoon.worker.blaming import Blaming, OnRefused
from cardoon.worker.brood import Brood, make_scheduler
from cardoon.worker.child import Phase, Placed, Room, TaskProcess
from cardoon.worker.hatchery import Hatchery
from cardoon.worker.ipc import ChannelClosedError, Frame, FrameType, IpcError, field
from cardoon.worker.journal import Journal
from cardoon.worker.log_intake import LogIntake, TaskLogs
from cardoon.worker.nursery import Nursery
from cardoon.worker.output import Output
from cardoon.worker.plan import Plan
from cardoon.worker.pool import HandedBack, Job, Killed, OnEnded, TimedOut, parse_ending
from cardoon.worker.replying import OnRequest, ReplyTo
from cardoon.worker.sizing import Sizing

logger = logging.getLogger(__name__)

MAX_EARLY_DEATHS = 5
"""Processes in a row that die before they serve; then the worker gives up."""
_LONGEST_SLEEP = 5.0


class ProcessPool(Sizing):
    """A `Pool` of processes forked from a zygote."""

    def __init__(
        self,
        plan: Plan,
        nursery: Nursery | Hatchery,
        *,
        clock: Clock,
        on_ended: OnEnded,
        on_request: OnRequest,
        on_refused: OnRefused = lambda *_: None,
        journal: Journal | None = None,
        logs: TaskLogs | None = None,
    ) -> None:
        self._plan = plan
        self._nursery = nursery
        self._clock = clock
        self._on_ended = on_ended
        self._on_request = on_request
        self._journal = journal
        self._logs = logs
        self._lock = threading.RLock()  # protects everything below but the selector
        self._room_changed = threading.Condition(self._lock)
        self._scheduler = make_scheduler(plan)
        self.processes = self._scheduler.processes
        self._blaming = Blaming(nursery, self.processes, on_refused)
        self._drain: tuple[float, float] | None = None
        self.on_turn: Callable[[], None] = lambda: None
        self.on_runtime: Callable[[int, float], None] = lambda _key, _seconds: None
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
                self._refill()
            while not (until() and self._scheduler.is_empty()):
                self.on_turn()
                for key, _ in self._selector.select(self._sleep_time()):
                    key.data()
                with self._lock:
                    self._keep_time(self._clock.monotonic())
                    self._refill()  # for what was submitted meanwhile
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
                if is_withdrawn := self._scheduler.withdraw(key):
                    self._on_ended(key, Killed(signal))
                return is_withdrawn
            process, placed = found
            if not placed.begun:
                self._recall(process, [key])
            elif process.slots == 1:
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
        except IpcError as error:
            logger.error("%s; processes are started anew", error)  # noqa: TRY400
            self._lose_zygote()
            return
        with self._lock:
            self._blaming.note()
            for frame, handle in told:
                process = self._scheduler.processes.get(frame.head["index"])
                match frame.type:
                    case FrameType.FORKED if process is not None:
                        process.born(frame.head["pid"], handle)
                    case FrameType.DIED if process is not None:
                        is_orphan = bool(frame.head.get("orphan"))
                        self._bury(process, frame.head["code"], is_orphan=is_orphan)
                    case _:
                        logger.error("unexpected %s frame from the zygote", frame.type.name)

    def _hear(self, process: TaskProcess) -> None:
        """Take in what a process sends, and send what it has not taken; a rule broken is its end."""
        with self._lock:
            if process.phase in {Phase.DEAD, Phase.SPENT}:  # by what the same look found
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
                    process.doom(str(error))
                self._cut_off(process)
                return
            self._flush_all(self._scheduler.place_backlog(self._clock.monotonic()))
            self._refill()
            if self._takes_more():
                self._room_changed.notify_all()

    def _take(self, process: TaskProcess, frame: Frame) -> None:
        if process.phase is Phase.SPENT or process.is_doomed:
            return
        if process.allowance is not None and frame.type is not FrameType.OUTCOME:
            process.count(frame, self._clock.monotonic())
        match frame.type:
            case FrameType.OUTCOME:
                self._take_outcome(process, frame)
            case FrameType.READY:
                if process.phase is Phase.STARTING:  # and was not told to end meanwhile
                    process.phase = Phase.SERVING
                self._early_deaths = 0
            case FrameType.RECALLED:
                self._take_recalled(process, frame)
            case FrameType.STATE | FrameType.REFUSED | FrameType.BLOCKED:
                self._on_request(ReplyTo(self.send, process, None), frame)
            case _:
                self._on_request(ReplyTo(self.send, process, field(frame, "n", int)), frame)

    def _take_outcome(self, process: TaskProcess, frame: Frame) -> None:
        key = field(frame, "key", int)
        runtime = float(field(frame, "runtime", float))
        ending = parse_ending(frame)
        self._blaming.note()
        process.hear_end(key, frame)
        placed = process.remove(key, self._clock.monotonic())
        if placed is None:
            raise IpcError(f"OUTCOME frame for job {key}, which it does not hold")
        if self._plan.is_single:
            # With what it takes to hand a task over; and not by what the process says.
            runtime = self._clock.monotonic() - placed.started
        self._scheduler.pace.observe(runtime)
        self.on_runtime(key, runtime)
        self._on_ended(key, ending)
        if self._plan.is_single:
            self._spend(process)
            return
        if frame.head.get("full") and process.phase is Phase.SERVING:
            logger.info("task process %s uses too much memory and is replaced", process.pid)
            self._retire(process)
        self._after_removal(process)

    def _spend(self, process: TaskProcess) -> None:
        """A process has served its one job: it ends now, whatever it is about."""
        self._cut_off(process)
        self._hear_out(process)
        process.phase = Phase.SPENT

    def _cut_off(self, process: TaskProcess) -> None:
        # Twice, where its last frames are read late.
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(process.socket)
        process.kill()  # it may outlive its channel; the zygote says when it is dead

    def _hear_out(self, process: TaskProcess) -> None:
        """Pass on the last that a process wrote and logged."""
        for pipe in process.pipes:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(pipe)
        process.hear_out()

    def _hear_pipe(self, process: TaskProcess, pipe: Output | LogIntake) -> None:
        if not process.hear(pipe):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(pipe)

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
        if process.jobs or process.phase is Phase.DEAD or isinstance(self._scheduler, Brood):
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
        if self._plan.has_doorbell:
            process.ring()

    def _recall(self, process: TaskProcess, keys: Sequence[int]) -> None:
        """Ask for jobs back that have not begun; the process itself decides which those are."""
        if not keys or process.recalling:
            return
        process.recalling = True
        for key in keys:
            process.jobs[key].recalled = True
        self.send(process, FrameType.RECALL, {"keys": list(keys)})
        if self._plan.has_doorbell:
            process.ring()

    # Births and deaths

    def _refill(self) -> None:
        """Have as many processes as there should be: where each serves one job, as jobs ask for them."""
        if self._drain is not None:
            return
        if not isinstance(self._scheduler, Brood):
            for _ in range(self._missing()):
                self._spawn()
            return
        wish = self._scheduler.wish()
        for process in wish.end:
            self._spend(process)
        for profile in wish.make:
            self._spawn(profile)

    def _spawn(self, profile: int = 0) -> None:
        pages = room = None
        if isinstance(self._nursery, Hatchery):
            room = Room(profile, self._nursery.profiles[profile])
        elif self._journal is not None:
            pages = self._journal.lend()
        process = TaskProcess(self._next_index, self._plan.slots, pages, room=room, logs=self._logs)
        self._next_index += 1
        self._scheduler.processes[process.index] = process
        self._selector.register(process.socket, selectors.EVENT_READ, lambda: self._hear(process))
        for pipe in process.pipes:
            hear = functools.partial(self._hear_pipe, process, pipe)
            self._selector.register(pipe, selectors.EVENT_READ, hear)
        self._nursery.fork(process.far_ends, {**process.told, **self._plan.told})

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

    def _bury(self, process: TaskProcess, code: int, *, is_orphan: bool) -> None:
        """A process is dead: say how its jobs ended, and start another."""
        phase = process.phase
        if phase is not Phase.SPENT:
            with contextlib.suppress(IpcError):  # outcomes that it wrote before it died
                while frames := process.receive():
                    for frame in frames:
                        self._take(process, frame)
        self._blaming.note()
        self._remove(process)
        self._settle_dead(process, code, is_orphan=is_orphan)
        if self._drain is not None:
            return
        if phase is not Phase.STARTING:
            self._early_deaths = 0
        elif not is_orphan:
            self._early_deaths += 1
        if self._early_deaths >= MAX_EARLY_DEATHS:
            said = process.output.last_line if process.output is not None else ""
            raise CardoonError(
                f"{MAX_EARLY_DEATHS} task processes in a row died before they could serve "
                f"(exit code {code}); {said or 'see their output above'}"
            )
        self._refill()

    def _settle_dead(self, process: TaskProcess, code: int, *, is_orphan: bool) -> None:
        """How the jobs of a dead process ended: what was begun has crashed, the rest waits again."""
        endings, waiting = process.endings(code, is_orphan=is_orphan)
        for key, ending in endings:
            self._on_ended(key, ending)
        process.jobs.clear()
        self._flush_all(self._scheduler.add(waiting, self._clock.monotonic()))

    def _lose_zygote(self) -> None:
        """The zygote died, and its children with it. Their tasks are not to blame."""
        with self._lock:
            self._selector.unregister(self._nursery)
            for process in list(self._scheduler.processes.values()):
                self._remove(process)
                for placed in process.jobs.values():
                    self._on_ended(placed.job.key, placed.verdict or HandedBack())
                if process.reserved is not None:
                    self._on_ended(process.reserved.key, HandedBack())
            self._nursery.restart()
            self._selector.register(self._nursery, selectors.EVENT_READ, self._hear_zygote)
            self._refill()

    def _remove(self, process: TaskProcess) -> None:
        self._cut_off(process)
        self._hear_out(process)
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
            if isinstance(self._nursery, Hatchery):
                self._nursery.close()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
