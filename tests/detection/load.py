"""A process that logs as fast as it can, and how long the slowest `log()` held it up.

It runs apart from the tests, since their process is large: its garbage collector alone may take longer than
the bound. What the machine takes is told apart from what is ours: how long the process's threads were ready
to run and had no processor (`/proc/self/task/*/schedstat`), and how late a loop wakes that logs nothing.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cardoon.audit import AuditLog
from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.syslog.handler import SyslogHandler
from cardoon.syslog.service import Syslog

BOUND = 0.010
"""Seconds that a `log()` may take, whatever the server does."""


class Slowest(NamedTuple):
    """The longest `log()`, in seconds."""

    wall: float
    """By the clock on the wall."""
    ours: float
    """Without the time for which a thread of the process was ready to run, and others had the processors."""
    machine: float
    """How late a loop woke meanwhile, in another process, that slept for a millisecond each time."""

    def __str__(self) -> str:
        told = (f"{name} {value * 1000:.1f} ms" for name, value in self._asdict().items())
        return f"longest log(): {', '.join(told)}"


class Load:
    """The process, for tests."""

    def __init__(self, settings: dict[str, Any], marker: str) -> None:
        command = [sys.executable, "-m", "tests.detection.load", json.dumps(settings), marker]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._machine = 0.0
        self.count = 0

    def log(self, count: int) -> None:
        """Log so many records, and wait for that."""
        with self._noting_the_machine():
            self._tell("log", count)
            self._answer()
        self.count += count

    def begin_to_close(self) -> None:
        """Have it send what is left, for at most 30 seconds."""
        self._tell("close", 30)

    def close(self) -> tuple[Slowest, int]:
        """Wait until it has; what was slowest, and how many records were dropped."""
        told = json.loads(self._answer())
        self._process.communicate(timeout=10)
        return Slowest(told["wall"], told["ours"], self._machine), told["dropped"]

    def stop(self) -> None:
        """End it, whatever it does; safe twice."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, word: str, number: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word} {number}\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    @contextlib.contextmanager
    def _noting_the_machine(self) -> Iterator[None]:
        ended = threading.Event()

        def note() -> None:
            last = time.perf_counter()
            while not ended.wait(0.001):
                now = time.perf_counter()
                self._machine, last = max(self._machine, now - last - 0.001), now

        thread = threading.Thread(target=note)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class _Delays:
    """For how long the threads of this process were ready to run, and did not."""

    def __init__(self) -> None:
        self._files: list[int] = []
        # Where a kernel does not count them, all time is ours.
        for one in Path("/proc/self/task").glob("*/schedstat"):
            self._files.append(os.open(one, os.O_RDONLY))

    def seconds(self) -> float:
        """Of all threads together, so far."""
        return sum(int(os.pread(one, 100, 0).split()[1]) for one in self._files) / 1e9


def main(settings: dict[str, Any], marker: str) -> None:
    """Do what is said on standard input."""
    conf = Conf({})
    conf.update(settings)
    syslog = Syslog(conf.settings(), clock=SystemClock())
    audit = AuditLog(None, clock=SystemClock(), source="worker")
    syslog.start(audit)
    assert any(isinstance(one, SyslogHandler) for one in logging.root.handlers)
    logger = logging.getLogger("shop.load")
    gc.collect()  # what is imported: a worker is done with it, too, before it takes a task
    delays = _Delays()
    wall, ours, numbers = 0.0, 0.0, itertools.count()
    for line in sys.stdin:
        word, _, count = line.partition(" ")
        if word == "close":
            syslog.close(int(count))
            break
        for number in itertools.islice(numbers, int(count)):
            before, began = delays.seconds(), time.perf_counter()
            if number % 10:
                logger.warning("number %d", number)
            else:
                audit.record("worker.start", marker=marker, number=number)
            took = time.perf_counter() - began
            wall, ours = max(wall, took), max(ours, took - (delays.seconds() - before))
        print(flush=True)
    print(json.dumps({"wall": wall, "ours": ours, "dropped": syslog.senders[0].dropped}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
