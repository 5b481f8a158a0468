"""Namespaces of a nest: its own users, mounts, network, IPC, host name and processes. Every failure raises.

A user namespace maps one id to itself, so nobody becomes root in it: the capabilities that its first
process has there make the room, and are given up. A pid namespace begins with the next fork.
"""

from __future__ import annotations

import contextlib
import errno as errors
import fcntl
import ipaddress
import os
import resource
import select
import signal
import socket
import struct
import time
from typing import NoReturn

from cardoon.sandbox.kernel import ConfinementError, call, prctl
from cardoon.sandbox.limits import drop_capabilities

LAYER = "namespaces"

NEW_MOUNTS, NEW_HOST_NAME, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_USERS, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
"""`CLONE_NEW*` of <linux/sched.h>."""

HOST_NAME = "sandbox"
"""What a task takes the machine's name to be."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK = 0x8916, 0x891C
_IFF_UP = 1
_TENTATIVE_SECONDS = 5.0
_MAPS = ("setgroups", "uid_map", "gid_map")


def unshare(flags: int, *, what: str) -> None:
    """Take new namespaces; `what` names them for the error."""
    try:
        call(LAYER, "unshare", flags)
    except ConfinementError as error:
        raise ConfinementError(LAYER, f"{what} cannot be taken", error.errno) from error


def unshare_users(flags: int, *, uid: int, gid: int) -> None:
    """Take a user namespace where `uid` and `gid` are themselves, and others of `flags` that it owns.

    The map is written by a helper that stays outside, since only there root may map another id than its
    own. This process needs one thread, and has no other ids than those two afterwards.
    """
    prctl(LAYER, _PR_SET_DUMPABLE, 1)  # else the map of this process belongs to root
    told, tell = os.pipe2(os.O_CLOEXEC)
    this = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        _write_maps_when_told(told, this, uid=uid, gid=gid)
    os.close(told)
    try:
        unshare(NEW_USERS | flags, what="a user namespace")
        os.write(tell, b"go")
    finally:
        os.close(tell)  # without a word the helper ends
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise ConfinementError(LAYER, f"{uid}:{gid} cannot be mapped", max(code, 0))
    change_ids(uid=uid, gid=gid)


def unshare_own_users(*, uid: int, gid: int) -> None:
    """Take a user namespace below the present one, in which this process has its own ids and no others.

    The kernel counts processes apart in it, and its capabilities are not those over the mounts made before.
    """
    prctl(LAYER, _PR_SET_DUMPABLE, 1)
    unshare(NEW_USERS, what="a user namespace of the task's own")
    try:
        _write_maps("self", uid=uid, gid=gid)
    except OSError as error:
        raise ConfinementError(LAYER, f"{uid}:{gid} cannot be mapped", error.errno or 0) from error


def change_ids(*, uid: int, gid: int) -> None:
    """Become that user and group for good."""
    try:
        # Asked even if it is so already: ids that have no map are all shown as 65534.
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise ConfinementError(
            "ids", f"cannot become {uid}:{gid}; a container needs CAP_SETUID and CAP_SETGID",
            error.errno or 0,
        ) from error  # fmt: skip


def drop_groups() -> None:
    """Leave all supplementary groups; only root can, and has to."""
    try:
        os.setgroups([])
    except OSError as error:
        raise ConfinementError(
            "ids", "supplementary groups cannot be left", error.errno or 0
        ) from error


def become_first_process() -> None:
    """Go on as the first process of the pid namespace that `unshare` took, which dies with this one.

    Who called stays outside as a keeper: it holds no descriptor and no capability, waits, and ends as the
    first process ends. Returns only in the first process; all others of its namespace die with it.
    """
    watched, held = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        _keep(pid, held)
    os.close(held)
    prctl(LAYER, _PR_SET_PDEATHSIG, signal.SIGKILL)
    # Who made us cannot be seen from here, so getppid() does not say whether it died before that.
    if select.select([watched], [], [], 0)[0]:
        os._exit(0)
    os.close(watched)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies. Changing ids undoes it."""
    parent = os.getppid()
    prctl(LAYER, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def open_pid_namespace() -> int:
    """A descriptor of this process's own pid namespace, for `return_to`; needs /proc."""
    try:
        return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfinementError(LAYER, "/proc/self/ns/pid", error.errno or 0) from error


def return_to(descriptor: int) -> None:
    """Have later children of this process in that pid namespace."""
    call(LAYER, "setns", descriptor, NEW_PROCESSES)


def raise_loopback() -> None:
    """Bring `lo` up in a network namespace that has nothing else."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            asked = struct.pack("16sH14x", b"lo", 0)
            flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _SIOCGIFFLAGS, asked))[1]
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    except OSError as error:
        raise ConfinementError("network", "lo cannot be brought up", error.errno or 0) from error


def add_address(address: str, number: int) -> None:
    """Give `lo` another address, so that what listens there is reached by it; `number` tells them apart."""
    where = ipaddress.ip_address(address)
    try:
        if isinstance(where, ipaddress.IPv6Address):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                asked = struct.pack("=16sIi", where.packed, 128, socket.if_nametoindex("lo"))
                fcntl.ioctl(sock, _SIOCSIFADDR, asked)
                _wait_until_usable(sock, address)
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            for request, value in ((_SIOCSIFADDR, where.packed), (_SIOCSIFNETMASK, b"\xff" * 4)):
                label = f"lo:{number}".encode()
                asked = struct.pack("=16sHH4s8x", label, socket.AF_INET, 0, value)
                fcntl.ioctl(sock, request, asked)
    except OSError as error:
        raise ConfinementError(
            "network", f"lo cannot be given {address}", error.errno or 0
        ) from error


def set_host_name(name: str = HOST_NAME) -> None:
    """Name the machine in a host name namespace of one's own."""
    try:
        socket.sethostname(name)
    except OSError as error:
        raise ConfinementError(
            LAYER, f"the host name cannot be {name!r}", error.errno or 0
        ) from error


def _wait_until_usable(sock: socket.socket, address: str) -> None:
    """An IPv6 address is tentative for a moment, even on loopback; `OSError` if it stays so."""
    end = time.monotonic() + _TENTATIVE_SECONDS
    while True:
        try:
            sock.bind((address, 0))
        except OSError as error:
            if error.errno != errors.EADDRNOTAVAIL or time.monotonic() > end:
                raise
            time.sleep(0.005)
        else:
            return


def _write_maps_when_told(told: int, pid: int, *, uid: int, gid: int) -> NoReturn:
    """In the helper: the exit code is the errno, or 0."""
    code = errors.EPERM
    try:
        if os.read(told, 2) == b"go":
            _write_maps(str(pid), uid=uid, gid=gid)
            code = 0
    except OSError as error:
        code = error.errno or code
    finally:
        os._exit(code)


def _write_maps(process: str, *, uid: int, gid: int) -> None:
    for name, text in zip(_MAPS, ("deny", f"{uid} {uid} 1", f"{gid} {gid} 1"), strict=True):
        descriptor = os.open(f"/proc/{process}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _keep(pid: int, held: int) -> NoReturn:
    """Wait for the first process; end as it does, and never before it unless killed."""
    code = 1
    try:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(one, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        os.closerange(0, held)
        os.closerange(held + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        drop_capabilities()
        # Changing ids has undone what was asked for before.
        prctl(LAYER, _PR_SET_PDEATHSIG, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
    finally:
        os._exit(code if code >= 0 else 1)
