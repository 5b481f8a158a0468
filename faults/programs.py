"""Programs of the matrix: each leads its own process group, so that it can die with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The live children of a process."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found]


class Program:
    """A Python module that runs in a process group of its own."""

    def __init__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._is_killed = False
        self.ended = False
        """Whether it was made to end."""

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether its first process runs."""
        return self._process.poll() is None

    def task_processes(self) -> list[int]:
        """The processes that run tasks, if it is a worker: the children of its zygote."""
        return [pid for zygote in children_of(self._process.pid) for pid in children_of(zygote)]

    def signal_all(self, number: int) -> None:
        """Send a signal to all its processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End all its processes, as the out-of-memory killer of a container does; safe twice."""
        self.ended = True
        if not self._is_killed:  # later the number may be somebody else's
            self._is_killed = True
            self.signal_all(signal.SIGKILL)
            self._process.wait()

    def terminate(self, *, patience: float) -> tuple[bool, float]:
        """SIGTERM, and SIGKILL for all after `patience` seconds; whether it ended well, and when."""
        self.ended = True
        begun = time.monotonic()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        seconds = time.monotonic() - begun
        is_clean = self._process.poll() == 0
        self.kill()
        return is_clean, seconds

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.is_alive
