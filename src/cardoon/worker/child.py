"""TaskProcess: the worker's record of one process that runs tasks."""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import signal
import socket
from typing import Any

from cardoon.worker.ipc import (
    FROM_CHILD,
    ChannelClosedError,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    pack_frame,
)
from cardoon.worker.journal import Pages
from cardoon.worker.pool import Ending, Job

_READ_BYTES = 256 * 1024
_MAX_UNSENT = 64 * 1024 * 1024
"""Bytes that may wait for a process that does not read; it is killed beyond that."""


class Phase(enum.Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"
    """It takes no more jobs and ends when it has none."""
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
        if self.job.soft_limit is not None:
            self.soft_at = now + self.job.soft_limit
        if self.job.hard_limit is not None:
            self.hard_at = now + self.job.hard_limit


class TaskProcess:
    """A process, its channel, and the jobs it holds in the order in which it runs them."""

    def __init__(self, index: int, slots: int, pages: Pages | None = None) -> None:
        self.index = index
        self.slots = slots
        self.phase = Phase.STARTING
        self.pid: int | None = None
        self._handle: int | None = None
        self.socket, self.far_end = socket.socketpair()
        self.socket.setblocking(False)
        self._pages = pages
        self.jobs: dict[int, Placed] = {}
        self.reserved: Job | None = None
        """A job that must run alone, waiting for the others to end."""
        self.alone = False
        self.recalling = False
        """Whether it was asked for jobs back and has not answered yet."""
        self.taken = 0
        self._reader = FrameReader(FROM_CHILD)
        self._unsent = bytearray()

    def born(self, pid: int, handle: int | None) -> None:
        """The zygote has forked it."""
        self.pid, self._handle = pid, handle
        self.far_end.close()
        if self._pages is not None:
            self._pages.let_go()

    @property
    def far_ends(self) -> list[int]:
        """The descriptors that are the process's own: its channel, and its journal if it has one."""
        return [self.far_end.fileno(), *(self._pages.files if self._pages else ())]

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
        return self._reader.feed(data)

    def ring(self) -> None:
        """Have it look at its channel in the middle of a task."""
        self.kill(signal.SIGUSR1)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; nothing happens if it is dead."""
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
        if self._pages is not None:
            self._pages.give_back()
            self._pages = None
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
