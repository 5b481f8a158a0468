"""Children: run something in a forked process that is confined first, and hear how it ended."""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401 - which sockets load when they are first used
import errno
import json
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cardoon.sandbox.kernel import ConfinementError, machine
from cardoon.sandbox.landlock import DEVICE, EXECUTE, READ, WRITE, Ruleset, network_rights
from cardoon.sandbox.limits import drop_capabilities, no_new_privileges
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.seccomp import build_filter, load

NOBODY = 65534
USERS = [uid for uid in (0, NOBODY) if os.geteuid() in {0, uid}]
"""Who a test can run as: root's own processes can become anybody."""

CODE = (
    *dict.fromkeys(
        (*(one for one in sys.path if one), sys.prefix, sys.base_prefix, sys.exec_prefix)
    ),
    *(sysconfig.get_path("stdlib"), "/usr/lib", "/lib", "/lib64", "/usr/local/lib", "/usr/share"),
    # What exists and may not be read is an error where what does not exist is passed over.
    *("/etc/ld.so.cache", "/etc/ssl", "/etc/localtime", "/etc/mime.types"),
)
SECONDS = 20


def give(folder: Path, uid: int) -> None:
    """Make a directory that user's."""
    if uid != os.geteuid():
        os.chown(folder, uid, uid)


class Ended(NamedTuple):
    """How a child ended: what it returned, or the errno or text of what it raised."""

    value: Any = None
    errno: str | None = None
    error: str | None = None
    signal: int = 0


def run(action: Callable[[], Any], *steps: Callable[[], Any], uid: int | None = None) -> Ended:
    """Fork, become `uid`, take the steps, act. A step that fails is told as an error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _act(action, steps, uid, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
        signal.alarm(SECONDS)
        try:
            found = told.read()
        finally:
            signal.alarm(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return Ended(signal=os.WTERMSIG(status))
    assert found, f"the child said nothing, status {status:#x}"
    return Ended(**json.loads(found))


def _act(action: Callable[[], Any], steps: tuple, uid: int | None, writing: int) -> None:
    ended: dict[str, Any]
    try:
        if uid is not None and uid != os.getuid():
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        for step in steps:
            step()
        ended = {"value": action()}
    except (OSError, ConfinementError) as error:
        ended = {"errno": errno.errorcode.get(error.errno or 0), "error": repr(error)}
    except BaseException:  # noqa: BLE001 - the parent is told, whatever it was
        ended = {"error": traceback.format_exc()}
    os.write(writing, json.dumps(ended).encode())
    os._exit(0)


def confine(profile: Sandbox, *, notify: bool = False) -> Callable[[], int | None]:
    """The steps of a task of the profile, without namespaces and limits."""

    def step() -> int | None:
        no_new_privileges()
        drop_capabilities()
        starts = EXECUTE if profile.syscalls == "subprocess" else 0
        with Ruleset(network=network_rights(profile)) as ruleset:
            # Nobody may not get into the directory of an interpreter of root's.
            for path in (*(one for one in CODE if os.access(one, os.R_OK)), *profile.read):
                ruleset.allow(path, READ | starts)
            for path in profile.write:
                ruleset.allow(path, WRITE)
            for path in profile.devices:
                ruleset.allow(path, DEVICE)
            ruleset.restrict_self()
        return load(build_filter(profile, notify=notify), listener=notify)

    return step


def filtered(profile: Sandbox) -> Callable[[], None]:
    """The filter alone, so that what refuses can be nothing else."""

    def step() -> None:
        no_new_privileges()
        load(build_filter(profile, notify=False), listener=False)

    return step


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def raw(name: str, *arguments: int) -> int:
    """A system call as task code makes one, past everything of ours; `OSError` if it fails."""
    numbers = [ctypes.c_ulong(one & (1 << 64) - 1) for one in arguments]
    number = machine().numbers[name]
    result = _syscall(ctypes.c_long(number), *numbers, *[ctypes.c_ulong(0)] * (6 - len(numbers)))
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result
