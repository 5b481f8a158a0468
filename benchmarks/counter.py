"""Counts the tasks that ran, in memory that the benchmark reads: no peer pays for being watched.

Each process that runs tasks has a small file of its own, and `tick` costs it half a microsecond.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from pathlib import Path
from typing import NamedTuple

FOLDER_VARIABLE = "BENCH_COUNTERS"
_SLOT = struct.Struct("<QQQ")
"""Tasks, and the times of the first and the last one by the monotonic clock, in nanoseconds."""
_SECONDS_BETWEEN_LISTINGS = 0.02


class _Slot:
    """The counter of this process; a forked child has one of its own."""

    def __init__(self) -> None:
        self.process = os.getpid()
        path = Path(os.environ[FOLDER_VARIABLE], str(self.process))
        with path.open("w+b") as file:
            file.truncate(_SLOT.size)
            self.memory = mmap.mmap(file.fileno(), _SLOT.size)
        self.count = 0
        self.first = time.monotonic_ns()


_slot: _Slot | None = None
_lock = threading.Lock()
"""Some peers run tasks in threads, and no task may be counted twice or not at all."""


def tick() -> None:
    """Count one task."""
    global _slot
    with _lock:
        slot = _slot
        if slot is None or slot.process != os.getpid():
            slot = _slot = _Slot()
        slot.count += 1
        _SLOT.pack_into(slot.memory, 0, slot.count, slot.first, time.monotonic_ns())


class Seen(NamedTuple):
    """What ran so far, in all processes; times in seconds by the monotonic clock."""

    tasks: int
    first: float
    last: float


class Counters:
    """The other side: reads what every process counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memories: dict[Path, mmap.mmap] = {}
        self._listed_at = 0.0

    @classmethod
    def of_environment(cls) -> Counters:
        """Those of the measurement that this process belongs to."""
        return cls(Path(os.environ[FOLDER_VARIABLE]))

    def read(self) -> Seen:
        """The sum over all processes."""
        now = time.monotonic()
        if now - self._listed_at > _SECONDS_BETWEEN_LISTINGS:
            self._listed_at = now
            self._map_new()
        slots = [_SLOT.unpack_from(memory) for memory in self._memories.values()]
        used = [slot for slot in slots if slot[0]]
        if not used:
            return Seen(0, 0.0, 0.0)
        return Seen(
            sum(count for count, _, _ in used),
            min(first for _, first, _ in used) / 1e9,
            max(last for _, _, last in used) / 1e9,
        )

    def _map_new(self) -> None:
        for path in self._folder.iterdir():
            if path not in self._memories and path.stat().st_size == _SLOT.size:
                with path.open("rb") as file:
                    self._memories[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
