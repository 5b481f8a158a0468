"""A process that forks one for each attempt, as simply as it can be done: without a sandbox, or in one.

Started by exec. Without a sandbox it is in Celery's shape: it holds the secrets of its worker when it forks,
and what belongs together runs in the same process. In one, it is a nest, and the worker's secrets were never
in it. It reads requests as lines of JSON, and answers each with one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from escapes.catalogue import all_attempts
from escapes.matrix import Act, run_act
from escapes.world import World

_ANSWER_BYTES = 4 << 20
_LIFE_SECONDS = 30.0
_AFTERMATH_SECONDS = 1.0
_reused: list[int] = []


class Plain:
    """Forks without a sandbox."""

    is_reused = True
    """Whether a process lives on when it has answered, and then serves the next task."""

    def fork(self) -> int:
        """As os.fork."""
        return os.fork()

    def enter(self) -> None:
        """Nothing."""


class Confined:
    """Forks into a sandbox."""

    is_reused = False

    def __init__(self, setup: dict[str, Any]) -> None:
        from cardoon.sandbox.confining import Confinement  # noqa: PLC0415 - only where it is there
        from cardoon.sandbox.ground import Ground, find_code  # noqa: PLC0415
        from cardoon.sandbox.probing import probe  # noqa: PLC0415
        from cardoon.sandbox.profile import Sandbox  # noqa: PLC0415

        ground = Ground(code=find_code(), secrets=tuple(setup["secrets"]))
        profile = Sandbox.from_mapping(setup["profile"])
        self._confinement = Confinement(profile, ground, layers=probe())
        self._confinement.enter_nest()
        self.reached = self._confinement.reached

    def fork(self) -> int:
        """Into namespaces of its own, where the profile says so."""
        return self._confinement.fork()

    def enter(self) -> None:
        """All layers."""
        self._confinement.enter_task(None, 0)


def serve(forker: Plain | Confined, keep: list[str], *, say: int) -> None:
    """Answer requests until there are no more. `keep` is only held in memory; a sibling's secret goes to `say`."""
    attempts = {one.name: one for one in all_attempts()}
    sibling = _fork_sibling(forker, say)
    os.close(say)
    print(json.dumps({"sibling": sibling, "kept": len(keep)}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        attempt = attempts[request["name"]]
        world = World.from_mapping(request["world"])
        steps = [attempt.act] if attempt.before is None else [attempt.before, attempt.act]
        told: dict[str, Any] = {}
        for part in [steps] if forker.is_reused else [[step] for step in steps]:
            told = _run(forker, part, world, attempt.patience)
        print(json.dumps(told), flush=True)


def _fork_sibling(forker: Plain | Confined, say: int) -> int:
    """Another task, with a secret that only it knows, and whom it tells."""
    pid = forker.fork()
    if pid == 0:
        secret = f"SECRET-sibling-{secrets.token_hex(8)}"
        os.write(say, secret.encode())
        os.close(say)
        _let_go()
        forker.enter()
        while True:
            time.sleep(60)
            assert secret
    return pid


def _run(
    forker: Plain | Confined, steps: list[Act], world: World, patience: float
) -> dict[str, Any]:
    _end_reused()
    answers, answer = os.pipe()
    pid = forker.fork()
    if pid == 0:
        os.close(answers)
        _become_task(forker, steps, world, answer)
    os.close(answer)
    told = _read(answers, patience)
    os.close(answers)
    if forker.is_reused:
        _reused.append(pid)
        return told or {"refused": "it never answered"}
    if "refused" in told:
        _wait(pid)  # what it became may be about to do something
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return told or {"refused": "it never answered"}


def _wait(pid: int) -> None:
    end = time.monotonic() + _AFTERMATH_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        time.sleep(0.05)


def _end_reused() -> None:
    while _reused:
        pid = _reused.pop()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become_task(forker: Plain | Confined, steps: list[Act], world: World, answer: int) -> NoReturn:
    _let_go()
    told: dict[str, Any] = {}
    try:
        forker.enter()
    except BaseException as error:
        told = {"broken": f"{type(error).__name__}: {error}"}
    else:
        for step in steps:
            told = run_act(step, world)
    os.write(answer, json.dumps(told).encode()[:_ANSWER_BYTES] + b"\n")
    time.sleep(_LIFE_SECONDS if forker.is_reused else 0)
    os._exit(0)


def _let_go() -> None:
    """Of what is for the process that forks."""
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def _read(answers: int, patience: float) -> dict[str, Any]:
    content, end = b"", time.monotonic() + patience
    while not content.endswith(b"\n"):
        ready, _, _ = select.select([answers], [], [], max(0.0, end - time.monotonic()))
        more = os.read(answers, 65536) if ready else b""
        if not more:
            return {"refused": "it ended without an answer"} if ready else {}
        content += more
    found: dict[str, Any] = json.loads(content)
    return found


def main() -> None:
    """Entry point: `python -m escapes.forking`, with what it is to be in its first line."""
    setup = json.loads(sys.stdin.readline())
    keep: list[str] = []
    if setup["profile"] is None:
        held = os.open(setup["opened"], os.O_RDONLY)  # as a forked child of a worker inherits it
        os.set_inheritable(held, True)
        broker = socket.create_connection(("127.0.0.1", setup["broker"]))
        keep.append(str(broker.detach()))
        keep += [str(one.detach()) for one in socket.socketpair()]
        keep += setup["memory"]
        serve(Plain(), keep, say=setup["say"])
    else:
        serve(Confined(setup), keep, say=setup["say"])


if __name__ == "__main__":
    main()
