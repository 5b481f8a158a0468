"""TaskProcess: the worker's record of one process that runs tasks."""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.violations import Violation, escape, violations_of_death
from cardoon.worker.allowance import Allowance
from cardoon.worker.ipc import (
    FROM_CHILD,
    Bounds,
    ChannelClosedError,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    field,
    pack_frame,
)
from cardoon.worker.journal import Pages
from cardoon.worker.log_intake import LogIntake, TaskLogs
from cardoon.worker.output import Output
from cardoon.worker.pool import Crashed, Ending, HandedBack, Job
from cardoon.worker.task_log import MAX_MISSED

_READ_BYTES = 256 * 1024
_MAX_UNSENT = 64 * 1024 * 1024
"""Bytes that may wait for a process that does not read; it is killed beyond that."""


class Phase(enum.Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"
    """It takes no more jobs and ends when it has none."""
    SPENT = "spent"
    """It has served the one job that it was for; what it says counts no more, and it is killed."""
    DEAD = "dead"


class Placed:
    """A job that a process holds."""

    __slots__ = ("begun", "hard_at", "job", "recalled", "soft_at", "started", "verdict")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.begun = False
        self.started = float("inf")
        """When it came to the head of the line, and so began; by the monotonic clock."""
        self.soft_at: float | None = None
        self.hard_at: float | None = None
        """When its limits are reached; None before it begins, and once they have been dealt with."""
        self.recalled = False
        self.verdict: Ending | None = None
        """How it ends if the process dies now: known when we are the one who kills it."""

    def begin(self, now: float) -> None:
        """It runs from now on."""
        self.begun = True
        self.started = now
        self.job.begin()
        if self.job.soft_limit is not None:
            self.soft_at = now + self.job.soft_limit
        if self.job.hard_limit is not None:
            self.hard_at = now + self.job.hard_limit


class Room(NamedTuple):
    """Where a process of `isolated` runs its one job."""

    profile: int
    sandbox: Sandbox


class TaskProcess:
    """A process, its channel, and the jobs it holds in the order in which it runs them."""

    def __init__(
        self,
        index: int,
        slots: int,
        pages: Pages | None = None,
        *,
        room: Room | None = None,
        logs: TaskLogs | None = None,
    ) -> None:
        self.index = index
        self.slots = slots
        self.profile = 0 if room is None else room.profile
        """Of the worker's sandbox profiles, the one that it serves."""
        self.log = None if logs is None else logs.open(self._speaker, slots=slots)
        terms = None if self.log is None else self.log.terms
        self.output = None if room is None else Output(room.sandbox.log, terms=terms)
        self.allowance: Allowance | None = None
        """What its job may still tell; None while it has none, and where that is not bounded."""
        self._sandbox = None if room is None else room.sandbox
        self._is_bounded = room is not None
        self.phase = Phase.STARTING
        self.is_doomed = False
        """Whether it has broken a rule: what it says after that is not believed."""
        self.pid: int | None = None
        self._handle: int | None = None
        self.socket, self.far_end = socket.socketpair()
        self.socket.setblocking(False)
        self._pages = pages
        self.jobs: dict[int, Placed] = {}
        self.reserved: Job | None = None
        """A job that must run alone, waiting for the others to end."""
        self.alone = False
        self.is_replaced = False
        """Whether another one is to serve in its place, and it ends when it has no job."""
        self.recalling = False
        """Whether it was asked for jobs back and has not answered yet."""
        self.taken = 0
        self._reader = FrameReader(FROM_CHILD if room is None else _bounds(room.sandbox))
        self._unsent = bytearray()
        self._uncounted = 0
        self._is_killed = False
        self.voice = ("???", "???")
        """Name and id of the last task that it was given, which speaks where it writes something."""

    def born(self, pid: int, handle: int | None) -> None:
        """The zygote has forked it."""
        self.pid, self._handle = pid, handle
        self.far_end.close()
        if self.log is not None:
            self.log.pid = pid
            self.log.let_go()
        if self._pages is not None:
            self._pages.let_go()
        if self.output is not None:
            self.output.let_go()
        if self._is_killed:  # it may serve before the zygote has told of it
            self.kill()

    @property
    def far_ends(self) -> list[int]:
        """The process's own descriptors: its channel, and those that it has of output, log and journal."""
        pipes = [one.write_end for one in self.pipes]
        return [self.far_end.fileno(), *pipes, *(self._pages.files if self._pages else ())]

    @property
    def told(self) -> dict[str, Any]:
        """What it is told of itself as it is forked."""
        log = {} if self.log is None else {"log": self.log.terms._asdict()}
        return {"index": self.index, "profile": self.profile, **log}

    @property
    def pipes(self) -> list[Output | LogIntake]:
        """What it says besides its frames: what it writes, and what it logs."""
        return [one for one in (self.output, self.log) if one is not None]

    def hear(self, pipe: Output | LogIntake) -> bool:
        """Pass on what it has said there, without waiting; whether there may be more to come."""
        return pipe.pump(*self.voice) if isinstance(pipe, Output) else pipe.pump()

    def hear_end(self, key: int, frame: Frame) -> None:
        """Of a job that has ended: pass on what it logged before, and say how much of that is missing."""
        placed = self.jobs.get(key)
        if self.log is None or placed is None:
            return
        self.log.drain()
        missed = field(frame, "unlogged", int, default=0)
        if not 0 <= missed <= MAX_MISSED:
            raise IpcError("OUTCOME frame: no such number of records")
        if missed:
            self.log.tell_missed(missed, placed.job)

    def hear_out(self) -> None:
        """Pass on the last that it said."""
        if self.output is not None:
            self.output.finish(*self.voice)
        if self.log is not None:
            self.log.finish()

    @property
    def has_unsent(self) -> bool:
        """Whether it has not taken all that was written to it."""
        return bool(self._unsent)

    @property
    def running(self) -> list[Placed]:
        """The jobs whose bodies have begun: as many from the front as there are slots."""
        return list(itertools.islice(self.jobs.values(), self.slots))

    def place(self, job: Job, now: float) -> None:
        """Hand it a job; `flush` sends what was handed."""
        placed = Placed(job)
        if len(self.jobs) < self.slots:
            placed.begin(now)
        self.jobs[job.key] = placed
        self.voice = (job.task, job.id)
        if self._is_bounded:
            self.allowance = Allowance(now)
        self.taken += 1
        self.queue(FrameType.JOB, job.head, job.body)

    def remove(self, key: int, now: float) -> Placed | None:
        """A job has left; the next in line begins."""
        placed = self.jobs.pop(key, None)
        if placed is not None:
            for other in itertools.islice(self.jobs.values(), self.slots):
                if not other.begun:
                    other.begin(now)
        return placed

    def queue(self, kind: FrameType, head: dict[str, Any], body: bytes = b"") -> None:
        """Put a frame behind what waits to be sent."""
        self._unsent += pack_frame(kind, head, body)

    def flush(self) -> None:
        """Send what can be sent. `IpcError` if it is gone or does not read."""
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent)
            except BlockingIOError:
                if len(self._unsent) > _MAX_UNSENT:
                    raise IpcError("it does not read its channel") from None
                return
            except OSError as error:
                raise IpcError(f"it is gone: {error}") from error
            del self._unsent[:sent]

    def receive(self) -> list[Frame]:
        """The frames it has sent. `IpcError` at the end, and for a frame that breaks a rule."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise IpcError(f"it is gone: {error}") from error
        if not data:
            raise ChannelClosedError("it has closed its channel")
        self._uncounted += len(data)
        return self._reader.feed(data)

    def count(self, frame: Frame, now: float) -> None:
        """Count a frame against what its job may tell; `IpcError` if it is one too many."""
        if self.allowance is None:
            return
        size, self._uncounted = self._uncounted, 0
        self.allowance.take(size, now)
        number = frame.head.get("n")
        if isinstance(number, int):
            self.allowance.ask(number, size)

    def doom(self, reason: str) -> None:
        """It has broken a rule and is to be killed: say so of the job that it served alone."""
        self.is_doomed = True
        if self._is_bounded:
            for placed in self.jobs.values():
                told = (Violation("frames", escape(reason), "worker"),)
                crashed = Crashed(f"task process {self.pid}: {reason}", told)
                placed.verdict = placed.verdict or crashed

    def endings(self, code: int, *, is_orphan: bool) -> tuple[list[tuple[int, Ending]], list[Job]]:
        """It is dead: how its jobs ended, and which have not begun and wait again."""
        begun = self.running
        doomed = any(placed.verdict is not None for placed in begun)
        waiting = [self.reserved] if self.reserved is not None else []
        ended: list[tuple[int, Ending]] = []
        for key, placed in self.jobs.items():
            if placed.verdict is not None:
                ended.append((key, placed.verdict))
            elif placed not in begun:
                waiting.append(placed.job)
            elif doomed or is_orphan:  # something else was killed; this one is not to blame
                ended.append((key, HandedBack()))
            else:
                reason = f"signal {-code}" if code < 0 else f"exit code {code}"
                told = () if self._sandbox is None else violations_of_death(code, self._sandbox)
                ended.append((key, Crashed(f"task process {self.pid}: {reason}", told)))
        return ended, waiting

    def ring(self) -> None:
        """Have it look at its channel in the middle of a task."""
        self.kill(signal.SIGUSR1)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, at its birth if that has not been told; nothing happens if it is dead."""
        self._is_killed = self._is_killed or number == signal.SIGKILL
        with contextlib.suppress(OSError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, number)
            elif self.pid is not None:
                os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of its descriptors; safe twice."""
        self.phase = Phase.DEAD
        self.socket.close()
        self.far_end.close()
        for pipe in self.pipes:
            pipe.close()
        if self._pages is not None:
            self._pages.give_back()
            self._pages = None
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _speaker(self, task_id: str | None) -> Job | None:
        """The job that speaks: the one that it says, if it has it, or the only one that runs."""
        held = list(self.jobs.values())  # a copy, as other threads place jobs
        for placed in held:
            if placed.job.id == task_id:
                return placed.job
        return held[0].job if held and self.slots == 1 else None


def _bounds(sandbox: Sandbox) -> Mapping[FrameType, Bounds]:
    """What a process of that profile may send."""
    outcome = FROM_CHILD[FrameType.OUTCOME]
    most = min(outcome.body, sandbox.output)
    return {**FROM_CHILD, FrameType.OUTCOME: outcome._replace(body=most)}
