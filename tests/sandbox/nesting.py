"""Runs work in a confined process, as a nest and its task processes would, and says what became of it."""

import encodings.ascii
import encodings.idna
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from cardoon.sandbox.confining import Confinement
from cardoon.sandbox.ground import Ground, find_code
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.layers import HELPFUL, NEEDED, Layer, Layers
from cardoon.sandbox.profile import Sandbox

NOBODY = 65534
PRELOADED = (encodings.ascii, encodings.idna)
"""What reading files of the kernel's and names takes; an interpreter below /root is out of sight for nobody."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's means are Linux's")
users = pytest.mark.parametrize(
    "as_user",
    [
        pytest.param(False, id="as-worker"),
        pytest.param(
            True,
            id="as-user",
            marks=pytest.mark.skipif(
                sys.platform == "linux" and os.geteuid() != 0, reason="is a user already"
            ),
        ),
    ],
)
"""Tests run as whoever runs them, and as an ordinary user if that is root."""

EVERY = Layers(Layer(name, is_on=True, detail="assumed") for name in (*NEEDED, *HELPFUL))


def apart(work: Callable[[], object], *, as_user: bool = False) -> object:
    """What `work` returns in a fork of this process; `ConfinementError`s come back as their text."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        if as_user:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        tell(theirs, work)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return heard(found)


def tell(pipe: int, work: Callable[[], object]) -> None:
    """In a fork: send what `work` returns, and end."""
    try:
        signal.alarm(60)
        answer = {"returned": work()}
    except ConfinementError as error:
        answer = {"refused": str(error)}
    except BaseException:  # noqa: BLE001
        answer = {"raised": traceback.format_exc()}
    try:
        os.write(pipe, json.dumps(answer).encode())
    finally:
        os._exit(0)


def heard(found: bytes) -> object:
    answer = json.loads(found or b'{"raised": "it died"}')
    if "raised" in answer:
        raise AssertionError(answer["raised"])
    if "refused" in answer:
        return f"refused: {answer['refused']}"
    return answer["returned"]


def run_task(
    profile: Sandbox,
    work: Callable[[], object],
    *,
    ground: Ground | None = None,
    as_user: bool = False,
    layers: Layers = EVERY,
    unsafe_best_effort: bool = False,
    before: Callable[[], object] = lambda: None,
) -> object:
    """What `work` returns in a task process of the profile; `before` runs in its nest."""
    where = ground or readable_ground()

    def nest() -> object:
        confinement = Confinement(
            profile, where, layers=layers, unsafe_best_effort=unsafe_best_effort
        )
        confinement.enter_nest()
        before()
        return in_task(confinement, work)

    return apart(nest, as_user=as_user)


def in_task(
    confinement: Confinement,
    work: Callable[[], object],
    *,
    hatch: int | None = None,
    token: int = 0,
    group: int | None = None,
) -> object:
    """In a nest: what `work` returns in one of its tasks."""
    ours, theirs = os.pipe()
    pid = confinement.fork()
    if pid == 0:
        os.close(ours)

        def confined() -> object:
            confinement.enter_task(hatch, token, group=group)
            return work()

        tell(theirs, confined)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    answer = json.loads(found or b'{"raised": "it died"}')
    if "refused" in answer:
        raise ConfinementError("task", answer["refused"])
    if "raised" in answer:
        raise AssertionError(answer["raised"])
    return answer["returned"]


def attempt(work: Callable[[], object]) -> str:
    """`open`, or the name of the error."""
    try:
        work()
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    return "open"


def readable_ground(*secrets: str) -> Ground:
    """The ground of this process, without what an ordinary user cannot read."""
    return Ground(READABLE, secrets)


def can_nobody_read(path: str) -> bool:
    where = Path(path)
    return all(one.stat().st_mode & 0o001 for one in where.resolve().parents) and bool(
        where.stat().st_mode & 0o004
    )


READABLE = tuple(one for one in find_code() if can_nobody_read(one))
"""Found here, since an ordinary user may not read what finding takes."""
