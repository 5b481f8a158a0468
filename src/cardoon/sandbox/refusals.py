"""Refused system calls in words: which one, and what it was about.

What a pointer points to may have changed since the kernel looked, or never have been what was meant. It
is written down, and nothing is decided by it.
"""

from __future__ import annotations

import errno
import functools
import signal
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cardoon.sandbox.kernel import machine
from cardoon.sandbox.netbroker import Peer, parse_sockaddr
from cardoon.sandbox.notifying import Listener, Notification

_MAX_TEXT = 256
"""Bytes of a path that are read."""
_AT_FDCWD = 0xFFFFFF9C

Read = Callable[[int, int], bytes]
"""Bytes of the task's memory: an address and how many; `OSError` where that does not work."""


class Refusal(NamedTuple):
    """A call that was refused, as it is written down."""

    rule: str
    """The system call."""
    detail: str
    """What it was about; raw, to be escaped where it is shown."""
    errno: int = errno.EPERM
    """The answer; as the filter's own, where nobody listens."""


def describe(listener: Listener, note: Notification) -> Refusal:
    """What a notification asked for."""
    name = call_name(note)

    def read(address: int, size: int) -> bytes:
        return listener.read(note, address, size)

    tell = _DETAILS.get(name)
    try:
        detail = tell(note.args, read) if tell is not None else ""
    except OSError:
        detail = ""  # it pointed nowhere, or we may not look
    return Refusal(name, detail)


def call_name(note: Notification) -> str:
    """The system call; `nr_NUMBER` for one that we do not know."""
    return _names().get(note.number, f"nr_{note.number}")


def tell_peer(peer: Peer) -> str:
    """An address that a task gave, for people."""
    if peer.address is not None:
        host = f"[{peer.address}]" if peer.address.version == 6 else str(peer.address)
        return f"{host}:{peer.port}"
    if peer.family == socket.AF_UNIX:
        path = peer.path.decode(errors="surrogateescape")
        return f"unix {'@' + path[1:] if path.startswith(chr(0)) else path}"
    return _family(peer.family)


@functools.cache
def _names() -> Mapping[int, str]:
    return {number: name for name, number in machine().numbers.items()}


def _text(read: Read, address: int) -> str:
    return read(address, _MAX_TEXT).split(b"\0")[0].decode(errors="surrogateescape")


def _family(number: int) -> str:
    try:
        return socket.AddressFamily(number).name
    except ValueError:
        return f"family {number}"


def _kind(number: int) -> str:
    try:
        return socket.SocketKind(number & 0xF).name
    except ValueError:
        return f"type {number & 0xF}"


def _socket(args: tuple[int, ...], _: Read) -> str:
    family, kind, protocol = (_int(one) for one in args[:3])
    return f"{_family(family)} {_kind(kind)}" + (f" protocol {protocol}" if protocol else "")


def _address(args: tuple[int, ...], read: Read) -> str:
    return tell_peer(parse_sockaddr(read(args[1], min(args[2] & 0xFFFFFFFF, 128))))


def _path(position: int) -> Callable[[tuple[int, ...], Read], str]:
    return lambda args, read: _text(read, args[position])


def _path_at(args: tuple[int, ...], read: Read) -> str:
    path = _text(read, args[1])
    if path.startswith("/") or args[0] & 0xFFFFFFFF == _AT_FDCWD:
        return path
    return f"descriptor {_int(args[0])} {path}".rstrip()


def _mount(args: tuple[int, ...], read: Read) -> str:
    return f"{_text(read, args[0]) if args[0] else 'none'} on {_text(read, args[1])}"


def _two_paths(args: tuple[int, ...], read: Read) -> str:
    return f"{_text(read, args[0])} {_text(read, args[1])}"


def _signal(pid: int, number: int) -> str:
    try:
        return f"{signal.Signals(number).name} to {pid}"
    except ValueError:
        return f"signal {number} to {pid}"


def _ptrace(args: tuple[int, ...], _: Read) -> str:
    return f"request {_int(args[0])} process {_int(args[1])}"


def _first(word: str) -> Callable[[tuple[int, ...], Read], str]:
    return lambda args, _: f"{word} {_int(args[0])}"


def _flags(args: tuple[int, ...], _: Read) -> str:
    names = [name for name, bit in _NAMESPACES.items() if args[0] & bit]
    return " ".join(names) or f"flags 0x{args[0]:x}"


def _int(register: int) -> int:
    """A register as the `int` that it holds."""
    low = register & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


_NAMESPACES = {
    "user": 0x10000000,
    "mnt": 0x00020000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}
_DETAILS: Mapping[str, Callable[[tuple[int, ...], Read], str]] = {
    "socket": _socket,
    "socketpair": _socket,
    "connect": _address,
    "bind": _address,
    "execve": _path(0),
    "execveat": _path_at,
    "chroot": _path(0),
    "mount": _mount,
    "umount2": _path(0),
    "pivot_root": _two_paths,
    "memfd_create": _path(0),
    "swapon": _path(0),
    "acct": _path(0),
    "kill": lambda args, _: _signal(_int(args[0]), _int(args[1])),
    "tkill": lambda args, _: _signal(_int(args[0]), _int(args[1])),
    "tgkill": lambda args, _: _signal(_int(args[1]), _int(args[2])),
    "ptrace": _ptrace,
    "process_vm_readv": _first("process"),
    "process_vm_writev": _first("process"),
    "pidfd_open": _first("process"),
    "setuid": _first("uid"),
    "setreuid": _first("uid"),
    "setresuid": _first("uid"),
    "setgid": _first("gid"),
    "setregid": _first("gid"),
    "setresgid": _first("gid"),
    "bpf": _first("command"),
    "keyctl": _first("operation"),
    "unshare": _flags,
    "clone": _flags,
    "ioctl": lambda args, _: f"request 0x{args[1] & 0xFFFFFFFF:x}",
    "prctl": _first("option"),
}
