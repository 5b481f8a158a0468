"""The demo's project folder, its worker, and the command line as its user would call it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

from cardoon.exceptions import TimeoutError as NoResultError
from cardoon.result import AsyncResult

R = TypeVar("R")

SOURCES = ("tasks.py", "indexing.py")
"""Modules of the demo that the project is made of."""
STATE = Path(".cardoon")
_STOP_SECONDS = 40.0
"""A warm shutdown takes up to 25 seconds, and nothing runs when we ask for it."""
_RESULT_SECONDS = 60.0
_LOG_LINES = 12


class DemoError(Exception):
    """The demo cannot go on; says why."""


class Project:
    """A folder to work in. Everything in it is removed by `remove`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker: subprocess.Popen[bytes] | None = None

    def enter(self) -> None:
        """Make the folder, put the app into it, and work there from now on."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise DemoError(f"{self.folder} is not empty; name another folder, or remove it")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in SOURCES:
            shutil.copy(Path(__file__).with_name(name), self.folder)
        # A setting in the environment could lead the attacker to a queue that is in use.
        for name in [name for name in os.environ if name.startswith("CARDOON_")]:
            del os.environ[name]
        os.chdir(self.folder)
        # The client's own log: each result that it refuses, for one.
        logging.basicConfig(filename="client.log")

    def run_command(self, *arguments: str) -> str:
        """What `cardoon` prints for these arguments."""
        done = subprocess.run(_command(*arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoError(f"cardoon {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def ask_command(self, *arguments: str) -> Any:
        """What `cardoon` answers in JSON."""
        return json.loads(self.run_command(*arguments, "--json"))

    def start_worker(self, processes: int) -> int:
        """Start a worker; return its process id."""
        command = _command("-A", "tasks", "worker", "-l", "info", "-c", str(processes))
        with (self.folder / "worker.log").open("wb") as log:
            self.worker = subprocess.Popen(command, stdout=log, stderr=log)
        return self.worker.pid

    @property
    def is_alive(self) -> bool:
        """Whether the worker runs."""
        return self.worker is not None and self.worker.poll() is None

    def wait_for(self, result: AsyncResult[R]) -> R:
        """A task's result; `DemoError` if it failed, if the worker is gone, or after a minute."""
        deadline = time.monotonic() + _RESULT_SECONDS
        while True:
            with contextlib.suppress(NoResultError):
                value = result.get(timeout=1.0, propagate=False)
                if isinstance(value, BaseException):
                    raise DemoError(f"task {result.id} failed: {value!r}")
                return value
            if not self.is_alive or time.monotonic() > deadline:
                raise DemoError(
                    f"task {result.id} has no result; the log of the worker ends with\n"
                    f"{self._read_log()}"
                )

    def read_audit(self) -> list[dict[str, Any]]:
        """The records of the audit trail."""
        trail = (self.folder / STATE / "audit.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in trail.splitlines()]

    def stop_worker(self) -> int:
        """Ask the worker to stop, and return its exit code; it is killed if it does not."""
        if self.worker is None:
            return 0
        if self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
        try:
            return self.worker.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.worker.kill()
            return self.worker.wait()

    def remove(self) -> None:
        """Delete the folder."""
        os.chdir(self.folder.parent)
        shutil.rmtree(self.folder)

    def _read_log(self) -> str:
        log = (self.folder / "worker.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(log.splitlines()[-_LOG_LINES:])


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cardoon", *arguments]
