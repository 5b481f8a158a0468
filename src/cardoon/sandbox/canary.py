"""The canary: the first child of a nest attacks, before any task is let in, and says what was open.

Probing tells what a machine can do; this tells what has been done. What a level promises to close, and is
open all the same, is a reason not to start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno as errors
import functools
import itertools
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from cardoon.sandbox.confining import Confinement
from cardoon.sandbox.ground import is_within
from cardoon.sandbox.kernel import ConfinementError, call
from cardoon.sandbox.profile import Level
from cardoon.sandbox.rooting import WORK

SECONDS = 30.0
"""How long the canary may take."""
TOKEN = (1 << 32) - 1
"""What the warden knows it by: no task process has it, and what it is refused is nobody's wrong."""
MAX_SECRETS = 200
"""Of the ground's, so many are tried."""

_PTRACE_SEIZE = 0x4206
_MAX_ANSWER = 65_536
_EXIT_UNCONFINED = 97


class Attack(NamedTuple):
    """Something that a task must not be able to do, from some level on."""

    name: str
    closed_from: Level
    work: Callable[[], bool]
    """Whether it worked. An error of the system is a no."""


def canary(confinement: Confinement) -> list[str]:
    """Attack, in a child that is confined; the names of what was open. Ends no matter what it finds."""
    found = []
    for attack in _attacks(confinement):
        if confinement.level < attack.closed_from:
            continue
        try:
            if attack.work():
                found.append(attack.name)
        except (OSError, ConfinementError):
            continue
    return found


def prove(confinement: Confinement, hatch: int | None = None) -> None:
    """In a nest: have its first child attack, and raise `ConfinementError` if anything was open.

    The child is confined as any other, with a hatch of its own (a copy) and the token `TOKEN`.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = confinement.fork()
    if pid == 0:
        os.close(ours)
        _sing(confinement, theirs, None if hatch is None else os.dup(hatch))
    os.close(theirs)
    answer = b""
    end = time.monotonic() + SECONDS
    try:
        while select.select([ours], [], [], max(0.0, end - time.monotonic()))[0]:
            piece = os.read(ours, 4096)
            answer += piece
            if not piece or len(answer) > _MAX_ANSWER:
                break
    finally:
        os.close(ours)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    _judge(confinement, answer, os.waitstatus_to_exitcode(status))


def _judge(confinement: Confinement, answer: bytes, code: int) -> None:
    try:
        kind, told = json.loads(answer)
    except (ValueError, TypeError):
        raise ConfinementError("canary", f"it died, with {code}, and said nothing") from None
    if kind == "failed":
        raise ConfinementError("canary", str(told))
    if told:
        raise ConfinementError(
            "canary",
            f"level {confinement.level.text!r} is in force, and still open is: {', '.join(map(str, told))}",
        )


def _sing(confinement: Confinement, descriptor: int, hatch: int | None) -> NoReturn:
    answer: tuple[str, object] = ("failed", "it was not confined")
    try:
        confinement.enter_task(hatch, TOKEN)
        answer = ("open", canary(confinement))
    except BaseException as error:  # noqa: BLE001  # the last words of this process
        answer = ("failed", f"{type(error).__name__}: {error}"[:1000])
    finally:
        os.write(descriptor, json.dumps(answer).encode())
        os._exit(_EXIT_UNCONFINED if answer[0] == "failed" else 0)


def _attacks(confinement: Confinement) -> Iterator[Attack]:
    profile, ground = confinement.profile, confinement.ground
    confined, strict = Level.CONFINED, Level.STRICT
    for path in ground.secrets[:MAX_SECRETS]:
        yield Attack(f"to open {path}", confined, functools.partial(_opens_within, path))
        yield Attack(f"to list {path}", strict, functools.partial(_opens, path))
    yield Attack("to open /etc/shadow", Level.PROCESS, lambda: _opens("/etc/shadow"))
    yield Attack("to read the nest's environment", confined, _reads_environment)
    for path in ground.code:
        if not any(is_within(path, one) for one in profile.write):
            yield Attack(f"to write to {path}", confined, functools.partial(_writes, path))
    yield Attack("to write to /tmp", confined, lambda: _writes("/tmp", *profile.write))  # noqa: S108
    if profile.network is None or profile.syscalls == "compute":
        yield Attack("socket()", confined, _makes_socket)
    yield Attack("a datagram socket", confined, _makes_datagram_pair)
    yield Attack("to signal the nest", confined, _signals_parent)
    yield Attack("to trace the nest", confined, _traces_parent)
    yield Attack("mount()", confined, _mounts)
    yield Attack("to be root", Level.PROCESS, _becomes_root)
    if not profile.processes:
        yield Attack("fork()", confined, _forks)
    yield Attack("to see other processes", strict, _sees_others)
    yield Attack("the machine's name", strict, lambda: os.uname().nodename != "sandbox")
    # Last, since it changes what the others would say.
    yield Attack("a user namespace", confined, lambda: call("canary", "unshare", 0x10000000) == 0)


def _opens_within(path: str) -> bool:
    """A file, or any file of a directory: at `confined` Landlock lets its names be listed, and no more."""
    if not os.path.isdir(path):  # noqa: PTH112  # which raises nothing
        return _opens(path)
    found = itertools.islice((str(one) for one in Path(path).rglob("*")), MAX_SECRETS)
    for one in found:
        with contextlib.suppress(OSError):
            if not os.path.isdir(one) and _opens(one):  # noqa: PTH112
                return True
    return False


def _opens(path: str) -> bool:
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    return True


def _writes(path: str, *granted: str) -> bool:
    """Whether a file can be made in that directory, or the file be opened to write; leaves nothing."""
    # A room with a private directory has /tmp as a link to it.
    real = os.path.realpath(path)
    if any(is_within(real, os.path.realpath(one)) for one in (*granted, WORK)):
        return False
    where = Path(real)
    if not where.is_dir():
        os.close(os.open(where, os.O_WRONLY | os.O_CLOEXEC))
        return True
    made = where / f".cardoon-canary-{os.getpid()}"
    os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    made.unlink()
    return True


def _reads_environment() -> bool:
    parent = os.getppid()
    if parent == 0:  # it is outside of what can be named
        return False
    Path(f"/proc/{parent}/environ").read_bytes()
    return True


def _makes_socket() -> bool:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    return True


def _makes_datagram_pair() -> bool:
    for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        one.close()
    return True


def _signals_parent() -> bool:
    parent = os.getppid()
    if parent == 0:  # it is outside of what can be named
        return False
    os.kill(parent, 0)
    return True


def _traces_parent() -> bool:
    call("canary", "ptrace", _PTRACE_SEIZE, os.getppid() or 1, 0, 0)  # which does not stop it
    return True


def _mounts() -> bool:
    """Asks for a file system that there is not, which only those hear who may mount one."""
    try:
        call("canary", "mount", b"none", b"/", b"cardoon-canary", 0, None)
    except ConfinementError as error:
        return error.errno == errors.ENODEV
    return True


def _becomes_root() -> bool:
    os.setuid(0)
    return True


def _forks() -> bool:
    """Through the C library, which runs none of Python's own preparations in the child."""
    library = ctypes.CDLL(None, use_errno=True)
    pid = library.fork()
    if pid == 0:
        library._exit(0)  # noqa: SLF001  # a C function of that name
    if pid < 0:
        raise OSError(ctypes.get_errno() or errors.EPERM, "fork()")
    os.waitpid(pid, 0)
    return True


def _sees_others() -> bool:
    return any(one.name.isdecimal() and one.name != "1" for one in Path("/proc").iterdir())
