"""A real worker in a real process, on a real file."""

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

import pytest

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

    def start(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        app: str = "work",
        wait: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it has run a task."""
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), **(env or {})}
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "cardoon", "-A", app, "worker", "-l", "info", *arguments],
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


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition that another process brings about."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE} s in vain: {what}"
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="module", params=["prefork", "threads", "asyncio", "solo"])
def pool(request, tmp_path_factory) -> Iterator[Site]:
    """A worker of each kind, shared by the tests of a module."""
    made = Site(tmp_path_factory.mktemp(request.param))
    made.kind = request.param
    made.start("-P", request.param, "-c", "1" if request.param == "solo" else "3")
    yield made
    made.stop()
