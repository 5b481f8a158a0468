"""A site: a project's folder, its client, and real workers started in it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from cardoon import Cardoon

PROJECT = Path(__file__).parent / "project"
DEADLINE = 30.0


class Site:
    """A project's folder, its client, and the workers started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = Cardoon("work", state_directory=str(folder / ".cardoon"), set_as_current=False)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.log = folder / "worker.log"
        self.place = folder
        """Where its tasks may write."""
        self.python = sys.executable
        self.environment: dict[str, str] = {}
        """Of its workers, besides the tests' own; what is in PYTHONPATH comes behind the project."""

    def start(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        app: str = "work",
        wait: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it has run a task."""
        paths = [self.environment.get("PYTHONPATH"), os.getenv("PYTHONPATH")]
        path = os.pathsep.join([str(PROJECT), *filter(None, paths)])
        environment = {**os.environ, **self.environment, "PYTHONPATH": path, **(env or {})}
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [self.python, "-m", "cardoon", "-A", app, "worker", "-l", "info", *arguments],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        if wait:
            self.call("add", 1, 1)
        return worker

    @contextlib.contextmanager
    def client(self, name: str) -> Iterator[ModuleType]:
        """The module of another app in the project, whose workers run in this folder."""
        spec = importlib.util.spec_from_file_location(name, PROJECT / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.app.conf.state_directory = str(self.folder / ".cardoon")
        yield module
        module.app.close()

    def send(self, name: str, *args, **options):
        return self.app.send_task(f"work.{name}", args, **options)

    def call(self, name: str, *args, **options):
        return self.send(name, *args, **options).get(timeout=DEADLINE)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        wait_until(condition, what or self.log.read_text(errors="replace")[-3000:])

    def stop(self) -> None:
        self.app.close()
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGQUIT)
        for worker in self.workers:
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def wait_until(condition: Callable[[], object], what: str | Callable[[], object] = "") -> None:
    """Wait for a condition that another process brings about; `what` tells why it was not to be."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, (
            f"waited {DEADLINE} s in vain: {what() if callable(what) else what}"
        )
        time.sleep(0.02)
