"""Reporter: tells the worker how each job ended, how long it took, and when memory has run full."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cardoon.worker.ipc import Channel, Frame, FrameType
from cardoon.worker.jobs import Answer

_STATM = Path("/proc/self/statm")


class Report:
    """What is told about one job; `answer` is filled in by whoever runs it."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer = Answer({"kind": "handed_back"})


class Reporter:
    """Sends OUTCOME frames."""

    def __init__(self, channel: Channel, *, max_memory_kib: int | None) -> None:
        self._channel = channel
        self._max_memory_kib = max_memory_kib

    @contextmanager
    def timed(self, frame: Frame) -> Iterator[Report]:
        """Measure the block that runs a job, and report its answer at the end."""
        report = Report()
        start = time.perf_counter()
        yield report
        self.send(frame, report.answer, time.perf_counter() - start)

    def send(self, frame: Frame, answer: Answer, runtime: float) -> None:
        """Report one job; `runtime` in seconds."""
        head = {"key": frame.head["key"], "runtime": round(runtime, 6), **answer.head}
        if self._max_memory_kib is not None and resident_kib() > self._max_memory_kib:
            head["full"] = True
        self._channel.send(FrameType.OUTCOME, head, answer.body)


def resident_kib() -> int:
    """Memory that this process occupies now; its peak where the system does not tell."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak
