"""Notifications of seccomp: what a task asked for, told by the kernel, and the answer to it.

A filter may stop a system call and ask another process what becomes of it. The process that answers is
never told to let the call go on: another thread could have changed what a pointer points to meanwhile.
It answers with an errno, or does what was asked for itself (seccomp_unotify(2)).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from cardoon.sandbox.kernel import ConfinementError, prctl
from cardoon.sandbox.limits import read_capabilities

_RECV, _SEND = 0xC0502100, 0xC0182101
_ID_VALID, _ADDFD = 0x40082102, 0x40182103
"""Numbers of ioctl(2), `linux/seccomp.h`; the same on every architecture that we know."""
IOCTLS = (_RECV, _SEND, _ID_VALID, _ADDFD)
_ADDFD_OVER = 1  # SECCOMP_ADDFD_FLAG_SETFD
_NOTIFICATION = struct.Struct("=QII iIQ 6Q")
_ANSWER = struct.Struct("=QqiI")
_INSTALL = struct.Struct("=QIIII")
_IOVEC = struct.Struct("@PN")
_HATCH = struct.Struct("=BxHxxxxQ")
_PAGE = 4096

LAYER = "notifications"
CAP_SYS_PTRACE = 19
_PR_SET_DUMPABLE, _PR_SET_PTRACER = 4, 0x59616D61
_SO_PEERCRED = getattr(socket, "SO_PEERCRED", 17)


class Notification(NamedTuple):
    """One system call that waits for an answer."""

    id: int
    pid: int
    """The thread that made it, as the process that asks sees it."""
    number: int
    arch: int
    args: tuple[int, ...]
    """Six registers, each of 64 bits."""


class Listener:
    """The end at which a filter's notifications arrive. Used by one thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor, readable when there is a notification; it hangs up with the last process."""
        return self._descriptor

    def receive(self) -> Notification | None:
        """The next one; None if the process that asked is gone. Blocks where there is none."""
        found = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._descriptor, _RECV, found)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EINTR}:
                return None
            raise
        number, pid, _, call, arch, _, *args = _NOTIFICATION.unpack(found)
        return Notification(number, pid, call, arch, tuple(args))

    def is_waiting(self, note: Notification) -> bool:
        """Whether that call still waits, so that what was read from its process was its own."""
        try:
            fcntl.ioctl(self._descriptor, _ID_VALID, struct.pack("=Q", note.id))
        except OSError:
            return False
        return True

    def answer(self, note: Notification, error: int) -> None:
        """Have the call return 0, or fail with that errno; nothing happens if it waits no longer."""
        try:
            fcntl.ioctl(self._descriptor, _SEND, _ANSWER.pack(note.id, 0, -error, 0))
        except OSError as failure:
            if failure.errno not in {errno.ENOENT, errno.EINPROGRESS}:
                raise

    def install(self, note: Notification, source: int, *, over: int, cloexec: bool) -> None:
        """Put a copy of our descriptor in the place of its descriptor `over`; `OSError` if gone."""
        flags = os.O_CLOEXEC if cloexec else 0
        asked = _INSTALL.pack(note.id, _ADDFD_OVER, source, over, flags)
        fcntl.ioctl(self._descriptor, _ADDFD, asked)

    def read(self, note: Notification, address: int, size: int) -> bytes:
        """Bytes of the memory of the process that asked, fewer where it has no more.

        `OSError` with EFAULT where it has none, EPERM where we may not look, ESRCH where it is gone.
        """
        found = read_memory(note.pid, address, size)
        if not self.is_waiting(note):
            raise OSError(errno.ESRCH, "the process that asked is gone")
        return found

    def close(self) -> None:
        """Answer no more: what waits, and what comes, fails with ENOSYS. Safe twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Copy from another process, up to the first page that is not there (process_vm_readv(2))."""
    first = min(size, _PAGE - address % _PAGE)
    pieces = [(address, first), (address + first, size - first)][: 1 if first == size else 2]
    if address + size > 1 << 63:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    found = ctypes.create_string_buffer(size)
    ours = _IOVEC.pack(ctypes.addressof(found), size)
    theirs = b"".join(_IOVEC.pack(*piece) for piece in pieces)
    count: int = _process_vm_readv()(pid, ours, 1, theirs, len(pieces), 0)
    if count < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found.raw[:count]


@functools.cache
def _process_vm_readv() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).process_vm_readv
    function.restype = ctypes.c_ssize_t
    function.argtypes = (
        *(ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p),
        *(ctypes.c_ulong, ctypes.c_ulong),
    )
    return function


class Flags(NamedTuple):
    """What a process has set for one of its descriptors."""

    nonblocking: bool = False
    cloexec: bool = True
    inode: int = 0
    """What it is a descriptor of; 0 where the kernel does not say, before Linux 5.14."""


_FDINFO_BYTES = 256
"""Enough for what all descriptors have in common; a task decides how long the rest is."""


def read_flags(pid: int, descriptor: int) -> Flags:
    """The flags of a descriptor of another process; EBADF if it has none of that number.

    Where we may not look, before Linux 5.14 without privilege, it counts as one that blocks.
    """
    try:
        with Path(f"/proc/{pid}/fdinfo/{descriptor}").open("rb", buffering=0) as file:
            text = file.read(_FDINFO_BYTES)
    except FileNotFoundError:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    except PermissionError:
        return Flags()
    found = dict(line.split(b":\t", 1) for line in text.splitlines() if b":\t" in line)
    flags = int(found.get(b"flags", b"0"), 8)
    inode = int(found.get(b"ino", b"0"))
    return Flags(bool(flags & os.O_NONBLOCK), bool(flags & os.O_CLOEXEC), inode)


# The hatch: how a listener comes to the process that answers


class Handed(NamedTuple):
    """What came through a hatch, with one descriptor."""

    listed: int | None
    """Which listed address, for the socket that tasks reach it by; None for a filter's listener."""
    token: int
    """Which task process, as the worker counts them."""
    descriptor: int


def hand_over(hatch: int, token: int, listener: int) -> None:
    """In the task process: give its filter's listener away, and keep neither it nor the hatch."""
    _send(hatch, _HATCH.pack(0, 0, token), listener)
    os.close(listener)
    os.close(hatch)


def lend(hatch: int, index: int, listening: socket.socket) -> None:
    """In the nest: give away the socket that answers for the listed address of that index."""
    _send(hatch, _HATCH.pack(1, index, 0), listening.fileno())
    listening.close()


def take(hatch: socket.socket) -> Handed | None:
    """What was given; None at the end. `ValueError` for what nobody of ours sends."""
    message, descriptors, _, _ = socket.recv_fds(hatch, _HATCH.size + 1, 4)
    if not message and not descriptors:
        return None
    if len(message) == _HATCH.size and len(descriptors) == 1:
        kind, index, token = _HATCH.unpack(message)
        if kind in {0, 1}:
            return Handed(index if kind else None, token, descriptors[0])
    for one in descriptors:
        os.close(one)
    raise ValueError(f"a message of {len(message)} bytes with {len(descriptors)} descriptors")


def must_admit_reader() -> bool:
    """Whether a warden that this process's worker starts needs `admit_reader` to read a task's memory.

    Where the worker may read everybody's (CAP_SYS_PTRACE), tasks hide theirs. To be asked before
    capabilities are given up.
    """
    return not read_capabilities()[0] & 1 << CAP_SYS_PTRACE


def admit_reader(hatch: int) -> None:
    """In the task process, before its filter: let who made the hatch read the task's memory.

    The process has to be dumpable, and where Yama lets only ancestors read (`kernel.yama.ptrace_scope` 1),
    the reader has to be named. Others of that user may read it then, as they may any process of theirs;
    not other tasks, whom Landlock and seccomp keep from it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=os.dup(hatch)) as end:
        pid = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, 12))[0]
    prctl(LAYER, _PR_SET_DUMPABLE, 1)
    if pid > 0:  # 0 is a process outside our pid namespace
        with contextlib.suppress(
            ConfinementError
        ):  # there is no Yama, which needs no permission then
            prctl(LAYER, _PR_SET_PTRACER, pid)


def _send(hatch: int, message: bytes, descriptor: int) -> None:
    # Family and type are given, since a filter that is loaded may refuse to tell them.
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=hatch)
    try:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        end.sendmsg([message], ancillary)
    finally:
        end.detach()
