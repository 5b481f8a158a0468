"""The census: who of all processes and threads is called by a token, as the kernel says in /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

_LOOK_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


class Census:
    """Counts while an attempt runs. Threads: the one that counts, and its owner."""

    def __init__(self) -> None:
        self.most: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, token: str) -> None:
        """Forget what was counted, and count for this token."""
        self.most = {"processes": 0, "threads": 0, "seconds": 0.0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count, args=(token, self._stop), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Count no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def wait_for_end(self, token: str, *, seconds: float) -> list[int]:
        """Who is still alive after some seconds."""
        end = time.monotonic() + seconds
        while found := alive(token):
            if time.monotonic() > end:
                break
            time.sleep(_LOOK_SECONDS)
        return found

    def _count(self, token: str, stop: threading.Event) -> None:
        while not stop.wait(_LOOK_SECONDS):
            found = alive(token)
            if not found:
                continue
            threads = sum(_threads(pid) for pid in found)
            used = max(map(_seconds, found))
            # The task itself is no process that it has started.
            for name, number in (
                ("processes", len(found) - 1), ("threads", threads), ("seconds", used)
            ):  # fmt: skip
                self.most[name] = max(self.most[name], number)


def alive(token: str) -> list[int]:
    """Processes of that name that have not ended."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            stat = Path(entry.path, "stat").read_text()
            name, rest = stat[stat.index("(") + 1 :].rsplit(")", 1)
            if name == token and rest.split()[0] not in "ZX":
                found.append(int(entry.name))
    return found


def end_all(token: str) -> None:
    """Kill whoever is left of an attempt."""
    assert token
    for pid in alive(token):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
