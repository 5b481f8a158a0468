"""What task code logs, on its way to the worker, which alone has a way to syslog.

A line of JSON for each record, through a pipe of the process's own. A line is written whole or not at all,
and nobody waits for it: what has no room, or is more than may be sent, is counted, and the count is told.
The worker believes nothing of it but that this process said it; see `worker.log_intake`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cardoon.context import current_request
from cardoon.coroutines import INTERRUPTS
from cardoon.log import TASK_LOGGER
from cardoon.message.protocol import MAX_ID
from cardoon.syslog.handler import text_of
from cardoon.syslog.texts import cut, escape

MAX_LINE = 4096
"""Bytes of a line: what Linux writes to a pipe whole (PIPE_BUF)."""
MAX_TEXT = 3200
"""Bytes of a text."""
MAX_TRACE = 2000
"""Characters of the traceback in it."""
_FEW_BYTES = 1400
"""Of a text that is too long for a line when JSON has quoted it."""
MAX_LOGGER = 120
"""Bytes of a logger's name."""
MAX_MISSED = 1 << 50
"""The most that a line may say was not sent."""
BURST_SECONDS = 5.0
"""What may come at once, in seconds of the rate."""
TELL_SECONDS = 1.0
"""Between two lines that say what was not sent, while a task runs."""
_MOST_IDS = 100
"""Tasks of which it is counted what was not sent; what is beyond counts for none."""
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Terms(NamedTuple):
    """What a process may send of what its tasks log."""

    level: int
    """The least level, as `logging` has it."""
    rate: float
    """Records a second."""

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> Terms:
        """From what a process is told as it is forked."""
        return cls(int(told["level"]), float(told["rate"]))


class Line(NamedTuple):
    """One record."""

    level: int
    logger: str
    text: str
    task_id: str | None
    missed: int = 0
    """Records of that task before it that were not sent."""


class Bucket:
    """Lets so many pass in a second, and as many as in `BURST_SECONDS` at once."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float, *, now: float) -> None:
        self._rate = rate
        self._left = self._most = max(1.0, rate * BURST_SECONDS)
        self._at = now

    def allows(self, now: float) -> bool:
        """Whether one more may pass at this moment, by the monotonic clock."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def pack_line(line: Line) -> bytes:
    """The line with its end, in at most `MAX_LINE` bytes: the text is cut where it has to be."""
    packed = _pack(line, MAX_TEXT)
    return packed if len(packed) <= MAX_LINE else _pack(line, _FEW_BYTES)


def parse_line(packed: bytes) -> Line:
    """What a line says, without its end; `ValueError` for one that nobody writes who keeps to this."""
    try:
        told = json.loads(packed)
    except RecursionError as error:
        raise ValueError("the line is nested too deeply") from error
    match told:
        case [int(level), str(logger), str(text), str() | None as task_id, int(missed)]:
            if 0 <= level <= 99 and 0 <= missed <= MAX_MISSED:
                return Line(level, logger, text, task_id, missed)
    raise ValueError("the line is no record")


class TaskLogHandler(logging.Handler):
    """In a task process: writes records into a pipe to the worker, and never waits.

    For any thread, and for processes that a task has forked.
    """

    def __init__(
        self, pipe: int, terms: Terms, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(terms.level)
        os.set_blocking(pipe, False)
        os.set_inheritable(pipe, False)
        self._pipe = pipe
        self._monotonic = monotonic
        self._bucket = Bucket(terms.rate, now=monotonic())
        self._missed: dict[str | None, int] = {}  # protected by the handler's own lock
        self._told_at = float("-inf")

    def install(self) -> None:
        """Hear from now on what is logged in this process."""
        root, tasks = logging.getLogger(), logging.getLogger(TASK_LOGGER)
        for one in (root,) if tasks.propagate else (root, tasks):
            one.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or count it. Raises nothing but what interrupts the task meanwhile."""
        try:
            self._take(record)
        except INTERRUPTS:
            raise
        except Exception:  # noqa: BLE001  # whoever logs is not to suffer for it
            self.handleError(record)

    def settle(self, task_id: str) -> int:
        """A task has ended: how many of its records, and of nobody's, were not sent and are not told yet."""
        if not self._missed:
            return 0
        self.acquire()
        try:
            return self._missed.pop(task_id, 0) + self._missed.pop(None, 0)
        finally:
            self.release()

    def _take(self, record: logging.LogRecord) -> None:
        request, now = current_request(), self._monotonic()
        task_id = None if request is None or request.id is None else request.id[:MAX_ID]
        if not self._bucket.allows(now):
            self._miss(task_id, 1)
            return
        missed = 0
        if self._missed and now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            missed = self._missed.pop(task_id, 0)
        text = text_of(record, self.formatter, most=MAX_TEXT, most_trace=MAX_TRACE)
        level = min(99, max(0, record.levelno))
        self._write(Line(level, record.name, text, task_id, missed))

    def _write(self, line: Line) -> None:
        packed = pack_line(line)
        with contextlib.suppress(OSError):  # the pipe is full, or the worker is gone
            if os.write(self._pipe, packed) == len(packed):
                return
        self._miss(line.task_id, line.missed + 1)

    def _miss(self, task_id: str | None, count: int) -> None:
        key = task_id if task_id in self._missed or len(self._missed) < _MOST_IDS else None
        self._missed[key] = self._missed.get(key, 0) + count


def _pack(line: Line, most: int) -> bytes:
    told = [
        line.level,
        _bounded(line.logger, MAX_LOGGER),
        _bounded(line.text, most),
        line.task_id,
        line.missed,
    ]
    return _encode(told).encode(errors="backslashreplace") + b"\n"


def _bounded(text: str, most: int) -> str:
    """The text with what ends a line spelled out, in so many bytes."""
    return cut(escape(text[: most + 1]), most)
