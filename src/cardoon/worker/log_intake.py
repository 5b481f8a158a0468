"""The worker's end of what task processes log: from their pipes to syslog.

What comes is untrusted. A line is bounded, and so is what is kept of one that has not ended; no process
has more sent than its rate. Which task speaks is found among the jobs that the process holds, and when, by
our own clock: a process chooses the level, the logger's name and the text, and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Mapping
from typing import Protocol

from cardoon.clock import Clock
from cardoon.worker.pool import Job
from cardoon.worker.task_log import MAX_LINE, TELL_SECONDS, Bucket, Terms, parse_line

PIPE_BYTES = 256 << 10
"""What a pipe is to hold, so that a burst finds room. Linux counts what all pipes of a user may hold, which
is 64 MiB unless somebody says otherwise, and gives him small ones when that is used up."""
MAX_SHARES = 10
"""Of the rate, for all processes together: each record takes a tenth of a millisecond of the thread that
enforces time limits."""
_READ_BYTES = 16_384
_MOST_READS = PIPE_BYTES // _READ_BYTES + 1
"""Reads that empty the pipe; whoever writes on meanwhile is heard later, or not at all."""
_SLACK = 2.0
"""The worker's rate, as a multiple of what the process keeps to by itself."""

Find = Callable[[str | None], Job | None]
"""The job that speaks, by what the process says of it."""


class TellLog(Protocol):
    """Where records go; `syslog.service.Syslog.tell_of_task`."""

    def __call__(self, level: int, text: str, fields: Mapping[str, object]) -> None:
        """Send a record. Neither waits nor raises."""
        ...


class LogIntake:
    """The read end of a pipe, and the write end until the process has it. For one thread."""

    def __init__(
        self, terms: Terms, *, find: Find, tell: TellLog, clock: Clock, shared: Bucket
    ) -> None:
        """`shared` is what all processes have together."""
        self.terms = terms
        self._shared = shared
        self._find = find
        self._tell = tell
        self._clock = clock
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)
        with contextlib.suppress(OSError, AttributeError):  # macOS; or this user has many pipes
            fcntl.fcntl(self._read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._bucket = Bucket(terms.rate * _SLACK, now=clock.monotonic())
        self._buffer = bytearray()
        self._is_cutting = False
        self._dropped = 0
        self._told_at = float("-inf")
        self.pid: int | None = None

    def fileno(self) -> int:
        """The pipe, for selectors."""
        return self._read

    def let_go(self) -> None:
        """The process has its end now; safe twice."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def pump(self) -> bool:
        """Pass on some of what is there, without waiting; whether there may be more to come."""
        return self._pump() is not None

    def drain(self) -> None:
        """Pass on all that is there now: before a job is forgotten of which it may speak."""
        for _ in range(_MOST_READS):
            if not self._pump():
                return

    def tell_missed(self, count: int, job: Job | None) -> None:
        """Say of how many records there is no more than this."""
        level = logging.WARNING
        fields = self._fields(__name__, level, job)
        text = f"{count} records of a task's log were not sent"
        self._tell(level, text, {**fields, "source": "worker", "missed": count})

    def finish(self) -> None:
        """Pass on what is left, say how much was not, and close it; safe twice."""
        if self._read < 0:
            return
        self.drain()
        if self._dropped:
            self.tell_missed(self._dropped, self._find(None))
            self._dropped = 0
        self.close()

    def close(self) -> None:
        """Let go of both ends; safe twice."""
        self.let_go()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    def _pump(self) -> int | None:
        """Pass on one read; how many bytes it had, or None at the end."""
        try:
            found = os.read(self._read, _READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        *lines, rest = found.split(b"\n")
        for line in lines:
            self._add(line)
            self._take(bytes(self._buffer))
            self._buffer.clear()
            self._is_cutting = False
        self._add(rest)
        return len(found) or None

    def _add(self, part: bytes) -> None:
        room = MAX_LINE - len(self._buffer)
        self._buffer += part[:room]
        self._is_cutting = self._is_cutting or len(part) > room

    def _take(self, packed: bytes) -> None:
        """Pass on a line, unless it is too long, none at all, or one too many; those are counted."""
        now = self._clock.monotonic()
        is_allowed = self._bucket.allows(now) and self._shared.allows(now)
        if self._is_cutting or not is_allowed:
            self._dropped += 1
            return
        try:
            line = parse_line(packed)
        except ValueError:
            self._dropped += 1
            return
        job = self._find(line.task_id)
        missed = line.missed
        if self._dropped and now - self._told_at >= TELL_SECONDS:
            missed, self._dropped, self._told_at = missed + self._dropped, 0, now
        if missed:
            self.tell_missed(missed, job)
        fields = self._fields(line.logger, line.level, job)
        self._tell(line.level, line.text, {**fields, "source": "task"})

    def _fields(self, logger: str, level: int, job: Job | None) -> dict[str, object]:
        named = {} if job is None else {"task": job.task, "task_id": job.id}
        return {
            "logger": logger,
            "level": logging.getLevelName(level),
            **named,
            "process": self.pid,
        }


class TaskLogs:
    """Opens a pipe for each task process, where a worker sends what tasks log."""

    def __init__(self, terms: Terms, *, tell: TellLog, clock: Clock) -> None:
        self._terms = terms
        self._tell = tell
        self._clock = clock
        self._shared = Bucket(terms.rate * MAX_SHARES, now=clock.monotonic())

    def open(self, find: Find, *, slots: int) -> LogIntake:
        """For a process that runs so many jobs at a time."""
        terms = self._terms._replace(rate=self._terms.rate * min(slots, MAX_SHARES))
        return LogIntake(terms, find=find, tell=self._tell, clock=self._clock, shared=self._shared)
