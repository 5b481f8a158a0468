"""A real worker: a broker, identities, a client, and tasks of the app `escapes.tasks` in the pool `isolated`."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardoon import Cardoon
from cardoon.clock import SystemClock
from cardoon.result import AsyncResult
from cardoon.security.authority import create_authority, ensure_identity, issue
from escapes.census import alive
from escapes.matrix import Attempt
from escapes.profiles import make_profiles
from escapes.runners import RunnerError, packages
from escapes.scene import Scene, is_alive
from escapes.tasks import PROFILES_VARIABLE
from escapes.world import World

CONCURRENCY = 3
READY_SECONDS = 60.0
HONEST_SECONDS = 30.0
_STAY_SECONDS = 3600.0
_LOOK_SECONDS = 0.05
_GROWTH_BYTES = 48 << 20
"""What the worker may grow by, beyond what it had when it had run its first task."""


class Deployed:
    """A worker at a level."""

    def __init__(self, level: str) -> None:
        self.name = level
        self._level = level
        self._worker: subprocess.Popen[bytes] | None = None
        self._app: Cardoon | None = None
        self._stay: AsyncResult[Any] | None = None

    def open(self, scene: Scene) -> None:
        """Make identities, start the worker, and have a task stay in it."""
        self._scene = scene
        scene.plant_dotenv()
        self._profiles = make_profiles(scene, self._level)
        self._state = scene.folder / "state"
        self._store = scene.folder / "store" / "cardoon.db"
        clock = SystemClock()
        create_authority(self._state, "escapes.local", clock=clock)
        for role in ("worker", "client"):
            issue(self._state, role, clock=clock)
            ensure_identity(self._state, role, clock=clock)
        self._app = Cardoon(
            "escapes.client",
            broker_url=f"sqlite:///{self._store}",
            result_backend=f"sqlite:///{self._store}",
            state_directory=str(self._state),
            set_as_current=False,
        )
        self._show_secrets()
        scene.log = scene.folder / "worker.log"
        scene.gauges = {
            "descriptors": self._count_descriptors,
            "log": lambda: self._log.stat().st_size,
            "answered": lambda: int(self._stay is not None and self._stay.ready()),
        }
        self._start()

    def can(self, attempt: Attempt) -> bool:
        """Whether this level has such a profile."""
        return attempt.profile in self._profiles

    def prepare(self, attempt: Attempt) -> None:
        """Nothing: all run, since they were checked."""

    def run(self, attempt: Attempt, world: World) -> dict[str, Any]:
        """Send it, and wait for what it tells."""
        arguments = (attempt.name, world.to_mapping())
        told: dict[str, Any] = {}
        for before in (True, False):
            if before and attempt.before is None:
                continue
            told = self._outcome(
                self._send(
                    f"escapes.{attempt.profile}",
                    *arguments,
                    options={"time_limit": attempt.patience, "max_retries": 0},
                    before=before,
                ),
                attempt.patience + HONEST_SECONDS,
            )
        return told

    def check(self) -> str:
        """Whether the worker is there, no larger than it was, and runs an honest task."""
        complaints = []
        assert self._worker is not None
        if self._worker.poll() is not None:
            complaints.append(f"the worker has ended with {self._worker.returncode}")
        else:
            told = self._outcome(self._send("escapes.honest", 41), HONEST_SECONDS)
            if told != {"got": 42}:
                complaints.append(f"an honest task: {told}")
            grown = self._memory() - self._memory_at_start
            if grown > _GROWTH_BYTES:
                complaints.append(f"the worker has grown by {grown >> 20} MiB")
                self._memory_at_start += grown
        if complaints:
            self._stop()
            self._start()
        elif not self._is_whole():
            self._begin_to_stay()
        return "; ".join(complaints)

    def close(self) -> None:
        """End everything."""
        self._stop()
        if self._app is not None:
            self._app.close()

    def _start(self) -> None:
        scene = self._scene
        self._log = scene.folder / "worker.log"
        arguments = ["-P", "-m", "cardoon", "-A", "escapes.tasks", "worker", "-P", "isolated"]
        arguments += ["-c", str(CONCURRENCY), "-l", "info", "-n", f"{secrets.token_hex(3)}@escapes"]
        with self._log.open("ab") as log:
            self._worker = subprocess.Popen(
                [sys.executable, *arguments],
                env=self._environment(),
                cwd=scene.paths["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        scene.pids["supervisor"] = self._worker.pid
        told = self._outcome(self._send("escapes.honest", 1), READY_SECONDS)
        if told != {"got": 2}:
            said = self._log.read_text(errors="replace")[-3000:]
            raise RunnerError(f"{self._level}: no worker: {told}\n{said}")
        self._begin_to_stay()
        self._memory_at_start = self._memory()

    def _environment(self) -> dict[str, str]:
        scene = self._scene
        code = (scene.paths["code"], *packages())
        return {
            "PATH": os.environ.get("PATH", ""),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(code),
            "PYTHONDONTWRITEBYTECODE": "1",
            PROFILES_VARIABLE: json.dumps(self._profiles),
            "SHOP_PASSWORD": scene.secrets["environ"],
            "CARDOON_BROKER_URL": f"sqlite:///{self._store}",
            "CARDOON_RESULT_BACKEND": f"sqlite:///{self._store}",
            "CARDOON_STATE_DIRECTORY": str(self._state),
            "CARDOON_WORKER_PASS_ENVIRONMENT": PROFILES_VARIABLE,
        }

    def _show_secrets(self) -> None:
        """What is planted is the worker's own where it has its own: its key, its store, its environment."""
        scene = self._scene
        [key] = list(self._state.glob("**/worker*.key")) or [Path(scene.paths["key"])]
        scene.paths["key"] = str(key)
        scene.secrets["key"] = key.read_text().splitlines()[1][:32]
        scene.paths["store"] = scene.paths["opened"] = str(self._store)
        scene.secrets["opened"] = scene.secrets["store"]
        scene.secrets["memory"] = scene.secrets["environ"]
        self._send("escapes.later", scene.secrets["store"], options={"countdown": 40_000})

    def _begin_to_stay(self) -> None:
        """Have a task at work that others may attack."""
        if self._stay is not None:
            self._stay.revoke()  # where it was lost with its process, it would come again
        name = "stay" + secrets.token_hex(4)
        secret = self._scene.secrets["sibling"] = f"SECRET-sibling-{secrets.token_hex(8)}"
        self._stay = self._send("escapes.stay", name, secret, _STAY_SECONDS)
        if not _comes_true(lambda: bool(alive(name)), READY_SECONDS):
            raise RunnerError(f"{self._level}: no task stays: {self._outcome(self._stay, 1)}")
        [pid] = alive(name)
        self._scene.pids["sibling"] = pid
        self._scene.pids["parent"] = _parent_of(pid)

    def _is_whole(self) -> bool:
        return is_alive(self._scene.pids["sibling"]) and is_alive(self._scene.pids["parent"])

    def _send(
        self, task: str, *arguments: Any, options: dict[str, Any] | None = None, **keywords: Any
    ) -> AsyncResult[Any]:
        assert self._app is not None
        return self._app.send_task(task, arguments, keywords, **(options or {}))

    def _outcome(self, sent: AsyncResult[Any], seconds: float) -> dict[str, Any]:
        """What a task returned, or why it did not; it does not wait for a worker that is dead."""
        assert self._worker is not None
        end = time.monotonic() + seconds
        try:
            while not sent.ready():
                if self._worker.poll() is not None:
                    sent.revoke()
                    return {"refused": "the worker is dead"}
                if time.monotonic() > end:
                    sent.revoke()
                    return {"broken": f"it had no outcome in {seconds:g} seconds"}
                time.sleep(0.02)
            found = sent.get(timeout=1)
        except Exception as error:
            return {"refused": f"{type(error).__name__}: {error}"[:300]}
        return found if isinstance(found, dict) else {"got": found}

    def _count_descriptors(self) -> int:
        assert self._worker is not None
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{self._worker.pid}/fd"))
        return 0

    def _memory(self) -> int:
        assert self._worker is not None
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self._worker.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def _stop(self) -> None:
        if self._worker is None:
            return
        self._worker.kill()
        self._worker.wait()


def _comes_true(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
