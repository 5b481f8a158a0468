"""Probing: which layers this machine enforces, found by trying each and then what it should forbid.

Each is tried in a process that ends afterwards. A version, a sysctl, or a call that exists is no evidence:
what a kernel has, a container or another security module may still refuse.
"""

from __future__ import annotations

import errno as errors
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from cardoon.sandbox import cgroups, landlock, namespaces
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.layers import Layer, Layers
from cardoon.sandbox.limits import drop_capabilities, hide_memory, no_new_privileges
from cardoon.sandbox.planning import Plan
from cardoon.sandbox.profile import Level, Sandbox
from cardoon.sandbox.rooting import WORK, Room, mount_proc, mount_work, own_files
from cardoon.sandbox.seccomp import build_filter, load

__all__ = ["Layer", "Layers", "probe"]

SECONDS = 20.0
"""How long one layer may take; then it counts as missing."""

_NOBODY = 65534
_WITNESS = "/etc/passwd"
"""A file that everybody may read, so that it says something if it cannot be."""


def probe() -> Layers:
    """Try each layer. Takes some 0.3 seconds, and is safe in a process with threads and secrets."""
    if sys.platform != "linux":
        text = f"{sys.platform} has none of this; use Linux, or a pool without sandboxes"
        return Layers(Layer(name, is_on=False, detail=text) for name in PROBES)
    begin = (
        f"import sys; sys.path[:] = {sys.path!r}; from cardoon.sandbox.probing import main; main()"
    )
    try:
        # A fresh interpreter: a fork of this one would hold its keys, and its locks.
        done = subprocess.run(
            [sys.executable, "-I", "-c", begin],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS * len(PROBES),
            check=True,
        )
        return Layers.from_mapping(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        text = f"could not be tried: {type(error).__name__}: {error}"
        return Layers(Layer(name, is_on=False, detail=text) for name in PROBES)


def main() -> None:
    """In the fresh interpreter: try all, and print what was found as JSON."""
    sys.stdout.write(json.dumps(probe_here().to_mapping()))


def probe_here() -> Layers:
    """Try each layer in forks of this process, which should have one thread and hold nothing."""
    return Layers(_try(name, work) for name, work in PROBES.items())


def _try(name: str, work: Callable[[], str]) -> Layer:
    """Run a probe in a fork. It is on if the probe returns, which says what was seen."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _tell(theirs, work)
    os.close(theirs)
    found = b""
    end = time.monotonic() + SECONDS
    try:
        while select.select([ours], [], [], max(0.0, end - time.monotonic()))[0]:
            piece = os.read(ours, 4096)
            if not piece:
                break
            found += piece
    finally:
        os.close(ours)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    verdict, _, text = found.decode("utf-8", "replace").partition(" ")
    if verdict not in {"on", "off"}:
        text = f"the probe ended with {os.waitstatus_to_exitcode(status)}"
    return Layer(name, is_on=verdict == "on", detail=text[:1000])


def _tell(descriptor: int, work: Callable[[], str]) -> NoReturn:
    try:
        text = f"on {work()}"
    except BaseException as error:  # noqa: BLE001  # whatever it is, the layer is not there
        said = (
            str(error)
            if isinstance(error, ConfinementError)
            else f"{type(error).__name__}: {error}"
        )
        text = f"off {said.removeprefix('sandbox: ')}"
    try:
        os.write(descriptor, text.encode("utf-8", "replace"))
    finally:
        os._exit(0)


class StillOpenError(Exception):
    """The layer was taken, and what it should forbid was not forbidden."""


def _expect(work: Callable[[], object], *allowed: int) -> str:
    """The name of the error with which `work` fails; `StillOpenError` if it does not."""
    try:
        work()
    except OSError as error:
        if error.errno in allowed:
            return errors.errorcode[error.errno]
        raise
    raise StillOpenError("the layer was taken, and did not forbid what it should")


def _somebody() -> tuple[int, int]:
    """Who tasks would be."""
    return (_NOBODY, _NOBODY) if os.geteuid() == 0 else (os.getuid(), os.getgid())


def _try_ids() -> str:
    if os.geteuid() != 0:
        return f"uid {os.getuid()}, as the worker"
    namespaces.drop_groups()
    namespaces.change_ids(uid=_NOBODY, gid=_NOBODY)
    told = _expect(lambda: os.setuid(0), errors.EPERM)
    return f"uid {_NOBODY}; back to 0: {told}"


def _try_limits() -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return f"open files 3; a fourth: {_expect(lambda: os.open('/', os.O_RDONLY), errors.EMFILE)}"


def _try_privileges() -> str:
    no_new_privileges()
    drop_capabilities()
    hide_memory()
    return f"none; chroot(): {_expect(lambda: os.chroot('/'), errors.EPERM)}"


def _try_landlock() -> str:
    Path(_WITNESS).read_bytes()
    no_new_privileges()
    with landlock.Ruleset() as ruleset:
        ruleset.restrict_self()
    told = _expect(lambda: os.open(_WITNESS, os.O_RDONLY), errors.EACCES)
    return f"version {ruleset.abi}; {_WITNESS}: {told}"


def _try_seccomp() -> str:
    socket.socket(socket.AF_UNIX).close()
    no_new_privileges()
    load(build_filter(Sandbox(level=Level.CONFINED), notify=False), listener=False)
    told = _expect(lambda: socket.socket(socket.AF_UNIX), errors.EPERM, errors.EACCES)
    return f"socket(): {told}"


def _try_users() -> str:
    uid, gid = _somebody()
    _leave_root()
    namespaces.unshare_users(namespaces.NEW_HOST_NAME, uid=uid, gid=gid)
    namespaces.set_host_name()
    if os.uname().nodename != namespaces.HOST_NAME:
        raise StillOpenError("the host name is not the namespace's own")
    return f"uid {uid} alone; to become 0: {_expect(lambda: os.setuid(0), errors.EINVAL, errors.EPERM)}"


def _try_processes() -> str:
    uid, gid = _somebody()
    worker = os.getpid()
    _leave_root()
    namespaces.unshare_users(namespaces.NEW_PROCESSES, uid=uid, gid=gid)
    return _in_first_process(
        lambda: (
            f"pid {os.getpid()}; the worker's: {_expect(lambda: os.kill(worker, 0), errors.ESRCH)}"
        )
    )


def _try_room() -> str:
    """As a nest does it, and a task: a room with hardly anything, a directory in memory, a /proc."""
    uid, gid = _somebody()
    plan = Plan()
    plan.add("/usr/lib")
    plan.add_device("/dev/null")
    room = Room(plan, own_files(uid=uid, gid=gid, hosts={}))
    if os.geteuid() == 0:
        room.take()
    _leave_root()
    flags = namespaces.NEW_PROCESSES | namespaces.NEW_MOUNTS | namespaces.NEW_IPC
    namespaces.unshare_users(flags, uid=uid, gid=gid)

    def look() -> str:
        room.build()
        namespaces.unshare(namespaces.NEW_MOUNTS | namespaces.NEW_IPC, what="mounts")
        mount_work(1 << 20)
        mount_proc()
        namespaces.unshare_own_users(uid=uid, gid=gid)
        Path(WORK, "probe").write_bytes(b"x")
        shadow = _expect(lambda: os.open("/etc/shadow", os.O_RDONLY), errors.ENOENT)
        made = _expect(lambda: os.open("/made", os.O_WRONLY | os.O_CREAT), errors.EROFS)
        changed = _expect(lambda: os.open("/usr/lib/x", os.O_WRONLY | os.O_CREAT), errors.EROFS)
        return f"/etc/shadow: {shadow}; to write to /: {made}, to code: {changed}"

    return _in_first_process(look)


def _try_network() -> str:
    uid, gid = _somebody()
    with socket.create_server(("127.0.0.1", 0)) as server:
        _leave_root()
        namespaces.unshare_users(namespaces.NEW_NETWORK, uid=uid, gid=gid)
        namespaces.raise_loopback()
        with socket.socket() as client:
            told = _expect(lambda: client.connect(server.getsockname()), errors.ECONNREFUSED)
    return f"loopback alone; the host's 127.0.0.1: {told}"


def _try_notifications() -> str:
    """Whether a filter has a listener: what is asked of it is not tried here, but by the warden."""
    no_new_privileges()
    listener = load(build_filter(Sandbox(level=Level.CONFINED), notify=True), listener=True)
    if listener is None:
        raise StillOpenError("the kernel gave no listener")
    return "a listener"


def _leave_root() -> None:
    if os.geteuid() == 0:
        namespaces.drop_groups()


def _in_first_process(work: Callable[[], str]) -> str:
    """What `work` returns in the first process of the pid namespace that was taken."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _tell(theirs, work)
    os.close(theirs)
    with os.fdopen(ours, "rb") as told:
        verdict, _, text = told.read(4096).decode("utf-8", "replace").partition(" ")
    os.waitpid(pid, 0)
    if verdict != "on":
        raise StillOpenError(text or "the first process died")
    return text


PROBES: Mapping[str, Callable[[], str]] = {
    "ids": _try_ids,
    "limits": _try_limits,
    "privileges": _try_privileges,
    "landlock": _try_landlock,
    "seccomp": _try_seccomp,
    "users": _try_users,
    "processes": _try_processes,
    "room": _try_room,
    "network": _try_network,
    "notifications": _try_notifications,
    "cgroup": cgroups.probe,
}
"""How each layer is tried."""
