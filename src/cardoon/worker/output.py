"""Output: what a task process writes to its standard output and error, passed on to the log.

It is untrusted: lines are cut, control characters spelled out, and beyond a number of bytes for each job
it is only counted. It goes to the logger `cardoon.task.output`, with the task's name and id.
"""

from __future__ import annotations

import logging
import os
import time

from cardoon.log import TASK_LOGGER, escape_control, split_level
from cardoon.syslog.handler import NOT_SENT
from cardoon.worker.task_log import Bucket, Terms

logger = logging.getLogger(f"{TASK_LOGGER}.output")

MAX_LINE = 4096
"""Bytes of a line; the rest of it is counted."""
_READ_BYTES = 65_536
_MOST_READS = 4
"""Reads that empty the pipe at the end; it holds 64 KiB, and whoever writes on is dead soon."""


class Output:
    """The read end of a pipe, and the write end until the process has it."""

    def __init__(self, most: int, *, terms: Terms | None = None) -> None:
        """`terms` are those of syslog: without them, nothing of this goes there."""
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)
        self._left = most
        self._unseen = 0
        self._bucket = None if terms is None else Bucket(terms.rate, now=time.monotonic())
        self._unsent = 0
        self._is_logged = False
        self._buffer = bytearray()
        self._is_cutting = False
        self._level = logging.WARNING
        self.last_line = ""
        """What it said last, which is the reason where a process could not be set up."""

    def fileno(self) -> int:
        """The pipe, for selectors."""
        return self._read

    def let_go(self) -> None:
        """The process has its end now; safe twice."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def pump(self, task: str, task_id: str) -> bool:
        """Pass on what is there, without waiting; whether there may be more to come."""
        try:
            text = os.read(self._read, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if text:
            self._take(text, task, task_id)
        return bool(text)

    def finish(self, task: str, task_id: str) -> None:
        """Pass on what is left, and say how much was not; then close it."""
        if self._read < 0:
            return
        for _ in range(_MOST_READS):
            before = len(self._buffer), self._unseen, self._left
            if not self.pump(task, task_id) or before == (
                len(self._buffer),
                self._unseen,
                self._left,
            ):
                break
        if self._buffer:
            self._tell(bytes(self._buffer), task, task_id)
            self._buffer.clear()
        if self._unseen:
            extra = {"task_name": task, "task_id": task_id}
            logger.warning("%d bytes of its output are not shown", self._unseen, extra=extra)
        if self._unsent:
            extra = {"task_name": task, "task_id": task_id}
            logger.warning("%d lines of its output are not in syslog", self._unsent, extra=extra)
        self.close()

    def close(self) -> None:
        """Let go of both ends; safe twice."""
        self.let_go()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    def _take(self, text: bytes, task: str, task_id: str) -> None:
        """Cut what was read into lines. No more is kept than a line, nor passed on than is left."""
        if len(text) > self._left:
            self._unseen += len(text) - self._left
            text = text[: self._left]
        self._left -= len(text)
        *lines, rest = text.split(b"\n")
        for line in lines:
            self._add(line)
            if not self._is_cutting or self._buffer:
                self._tell(bytes(self._buffer), task, task_id)
            self._buffer.clear()
            self._is_cutting = False
        self._add(rest)

    def _add(self, part: bytes) -> None:
        room = MAX_LINE - len(self._buffer)
        self._buffer += part[:room]
        if len(part) > room:
            self._unseen += len(part) - room
            self._is_cutting = True

    def _tell(self, line: bytes, task: str, task_id: str) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        # A record of several lines has its level in the first one, and indents the others.
        is_rest = text.startswith("  ")
        otherwise = self._level if is_rest else logging.WARNING
        self._level, shown = split_level(text, otherwise=otherwise)
        self._is_logged = shown is not text or (is_rest and self._is_logged)
        self.last_line = escape_control(shown)
        extra = {"task_name": task, "task_id": task_id, NOT_SENT: not self._is_sent()}
        logger.log(self._level, "%s", self.last_line, extra=extra)

    def _is_sent(self) -> bool:
        """Whether syslog is to have this line. What the task has logged comes there by itself."""
        if self._bucket is None or self._is_logged:
            return False
        is_sent = self._bucket.allows(time.monotonic())
        self._unsent += not is_sent
        return is_sent
