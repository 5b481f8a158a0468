"""Runners: what carries an attempt out. Here: a process that forks; `deployment.py` has the real worker."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import cryptography

import cardoon
from escapes.matrix import Attempt
from escapes.profiles import make_profiles
from escapes.scene import Scene, is_alive
from escapes.world import World

START_SECONDS = 60.0
_GRACE_SECONDS = 5.0


class RunnerError(Exception):
    """The runner itself does not work, so nothing can be said of attempts."""


class Runner(Protocol):
    """Carries attempts out, one at a time."""

    name: str

    def open(self, scene: Scene) -> None:
        """Start; afterwards the scene knows who is to be attacked."""

    def can(self, attempt: Attempt) -> bool:
        """Whether it has what the attempt is about."""

    def prepare(self, attempt: Attempt) -> None:
        """Have whom it attacks running before the world is described."""

    def run(self, attempt: Attempt, world: World) -> dict[str, Any]:
        """What the attempt told, or what became of it."""

    def check(self) -> str:
        """What is wrong with it afterwards, if anything; then it has been mended."""

    def close(self) -> None:
        """End; safe twice."""


class Forking:
    """A process that forks for each attempt: at a level, or without a sandbox if there is none."""

    def __init__(self, level: str = "") -> None:
        self.name = f"{level} (forked)" if level else "control"
        self._level = level
        self._programs: dict[str, subprocess.Popen[str]] = {}
        self._parents: dict[str, int] = {}
        self._siblings: dict[str, tuple[int, str]] = {}
        self._keeper: subprocess.Popen[str] | None = None

    def open(self, scene: Scene) -> None:
        """Start somebody in the worker's place, who has secrets; programs that fork come when they are used."""
        self._scene = scene
        if self._level != "strict":
            scene.plant_dotenv()
        self._profiles = make_profiles(scene, self._level) if self._level else {}
        self._start_keeper()

    def can(self, attempt: Attempt) -> bool:
        """Whether this level has such a profile."""
        return "fork" in attempt.through and (not self._level or attempt.profile in self._profiles)

    def run(self, attempt: Attempt, world: World) -> dict[str, Any]:
        """Have it tried."""
        kind = attempt.profile if self._level else "plain"
        program = self._program(kind)
        pids = dict(world.pids) | dict(self._scene.pids)
        told = {**world.to_mapping(), "pids": pids}
        assert program.stdin is not None
        try:
            program.stdin.write(json.dumps({"name": attempt.name, "world": told}) + "\n")
            program.stdin.flush()
            answer = _line(program, attempt.patience * 2 + _GRACE_SECONDS)
        except BrokenPipeError:
            answer = ""
        return json.loads(answer) if answer else {"refused": "its parent is gone"}

    def prepare(self, attempt: Attempt) -> None:
        """Have whom it attacks running before the world is described."""
        self._program(attempt.profile if self._level else "plain")

    def check(self) -> str:
        """Start anew what is dead; no complaint, since this is not what is tested."""
        if self._keeper is not None and self._keeper.poll() is not None:
            self._start_keeper()
        for kind, program in list(self._programs.items()):
            if program.poll() is not None or not is_alive(self._siblings[kind][0]):
                self._end(kind)
        return ""

    def close(self) -> None:
        """End all."""
        for kind in list(self._programs):
            self._end(kind)
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.communicate()

    def _start_keeper(self) -> None:
        scene = self._scene
        code = (
            "import os, sys, time; held = open(sys.argv[1], 'rb'); secret = sys.stdin.readline(); "
            "print('ready', flush=True); time.sleep(3600)"
        )
        self._keeper = _popen(
            ["-I", "-S", "-c", code, scene.paths["opened"]],
            {"SHOP_PASSWORD": scene.secrets["environ"]},
            cwd=scene.paths["cwd"],
        )
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(scene.secrets["memory"] + "\n")
        self._keeper.stdin.flush()
        _line(self._keeper, START_SECONDS)
        scene.pids["supervisor"] = self._keeper.pid

    def _program(self, kind: str) -> subprocess.Popen[str]:
        if kind not in self._programs:
            self._start(kind)
        self._scene.pids["parent"] = self._parents[kind]
        self._scene.pids["sibling"], self._scene.secrets["sibling"] = self._siblings[kind]
        return self._programs[kind]

    def _start(self, kind: str) -> None:
        scene = self._scene
        hear, say = os.pipe()
        secrets = [scene.paths[name] for name in ("key", "opened", "decoy", "store", "unix")]
        setup = {
            "profile": self._profiles.get(kind),
            "secrets": secrets,
            "opened": scene.paths["opened"],
            "broker": scene.ears.ports["broker"],
            "say": say,
            "memory": [] if self._level else [scene.secrets["memory"]],
        }
        env = {} if self._level else {"SHOP_PASSWORD": scene.secrets["environ"]}
        program = _popen(["-P", "-m", "escapes.forking"], env, cwd=scene.paths["cwd"], give=(say,),
                         code=scene.paths["code"])  # fmt: skip
        os.close(say)
        assert program.stdin is not None
        program.stdin.write(json.dumps(setup) + "\n")
        program.stdin.flush()
        told = _line(program, START_SECONDS)
        if not told:
            raise RunnerError(f"{self.name}: no program that forks\n{_complaint(program)}")
        with os.fdopen(hear) as file:
            secret = file.read(100)
        self._programs[kind] = program
        # Pids from inside a namespace say nothing here; there, the nest is a child of what was started.
        parent = _child_of(program.pid) if self._level == "strict" else program.pid
        self._parents[kind] = parent
        self._siblings[kind] = (_child_of(parent), secret)

    def _end(self, kind: str) -> None:
        program = self._programs.pop(kind)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._siblings[kind][0], 9)
        program.kill()
        program.communicate()


def packages() -> list[str]:
    """Where Cardoon and what it needs are, whichever interpreter is used."""
    return list(
        dict.fromkeys(
            str(Path(one).parent.parent) for one in (cardoon.__file__, cryptography.__file__)
        )
    )


def _popen(
    arguments: list[str],
    env: dict[str, str],
    *,
    cwd: str,
    give: tuple[int, ...] = (),
    code: str = "",
) -> subprocess.Popen[str]:
    paths = [code, *packages()] if code else []
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(paths),
             "PYTHONDONTWRITEBYTECODE": "1", **env},
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=give,
        start_new_session=True,
    )  # fmt: skip


def _line(program: subprocess.Popen[str], seconds: float) -> str:
    assert program.stdout is not None
    ready, _, _ = select.select([program.stdout], [], [], seconds)
    return program.stdout.readline() if ready else ""


def _complaint(program: subprocess.Popen[str]) -> str:
    program.kill()
    return program.communicate()[1][-2000:]


def _child_of(pid: int) -> int:
    """The first child, as this machine sees it: a pid from inside a namespace says nothing here."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found[0])
