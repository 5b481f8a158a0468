"""Reporter: tells the worker how each job ended, how long it took, and when memory has run full."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Self

from cardoon.worker.ipc import Channel, Frame, FrameType, pack_frame
from cardoon.worker.jobs import Answer
from cardoon.worker.journal import Writer
from cardoon.worker.task_log import TaskLogHandler

_STATM = Path("/proc/self/statm")


class Report:
    """What is told about one job: `answer`, which whoever runs it fills in while the context lasts."""

    __slots__ = ("_frame", "_reporter", "_start", "answer")

    def __init__(self, reporter: Reporter, frame: Frame) -> None:
        self._reporter = reporter
        self._frame = frame
        self.answer = Answer({"kind": "handed_back"})

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._reporter.send(self._frame, self.answer, time.perf_counter() - self._start)


class Reporter:
    """Sends OUTCOME frames, each after it is in the journal."""

    def __init__(
        self, channel: Channel, *, max_memory_kib: int | None, journal: Writer | None = None
    ) -> None:
        self._channel = channel
        self._journal = journal
        self._max_memory_kib = max_memory_kib
        self.log: TaskLogHandler | None = None
        """What the worker hears of this process's log, if it hears any."""

    def timed(self, frame: Frame) -> Report:
        """Measure the block that runs a job, and report its answer at the end."""
        return Report(self, frame)

    def send(self, frame: Frame, answer: Answer, runtime: float) -> None:
        """Report one job; `runtime` in seconds."""
        head = {"key": frame.head["key"], "runtime": round(runtime, 6), **answer.head}
        if self._max_memory_kib is not None and resident_kib() > self._max_memory_kib:
            head["full"] = True
        if self.log is not None and (missed := self.log.settle(frame.head["id"])):
            head["unlogged"] = missed
        packed = pack_frame(FrameType.OUTCOME, head, answer.body)
        ticket = frame.head.get("ticket")
        if self._journal is not None and ticket and answer.head["kind"] != "handed_back":
            self._journal.write(ticket, packed)
        self._channel.write(packed)


def resident_kib() -> int:
    """Memory that this process occupies now; its peak where the system does not tell."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak
