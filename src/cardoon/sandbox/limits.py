"""Limits: how much a process may use, and which powers it gives up. Each step is checked afterwards."""

from __future__ import annotations

import ctypes
import errno as errors
import math
import os
import resource
import struct
from pathlib import Path

from cardoon.sandbox.kernel import ConfinementError, call, prctl
from cardoon.sandbox.profile import Sandbox

LAYER = "limits"
_PRIVILEGES = "privileges"

_GET_DUMPABLE, _SET_DUMPABLE = 3, 4
_CAPBSET_READ, _CAPBSET_DROP = 23, 24
_SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS = 38, 39
_CAP_SETPCAP = 8
_CAPABILITY_VERSION = 0x20080522
_LAST_CAPABILITY = 63
"""Version 3 of the structure has room for so many."""

# Linux's numbers, since Python names some of them on Linux only.
_RESOURCES = {
    "CPU": 0,
    "FSIZE": 1,
    "DATA": 2,
    "CORE": 4,
    "NPROC": 6,
    "NOFILE": 7,
    "MEMLOCK": 8,
    "AS": 9,
    "SIGPENDING": 11,
    "MSGQUEUE": 12,
    "NICE": 13,
    "RTPRIO": 14,
}

MAX_LOCKED = 1 << 16
"""Bytes of memory that cannot be swapped, as much as an old default; libraries lock keys and little else."""


MAX_PENDING = 1024
"""Signals that wait, and timers of timer_create(), of this user; what exceeds them fails in the task."""


def apply_limits(profile: Sandbox, *, others: int = 0) -> None:
    """Set the limits of the profile, soft and hard alike, on this process; none can be raised again.

    `others` is how many processes and threads this user has besides (`count_processes`), because the kernel
    counts them by user and user namespace: 0 only in a user namespace of the task's own. Memory is counted from
    what the process has now. `ConfinementError` names the limit that could not be set.
    """
    unlimited = resource.RLIM_INFINITY
    limits = {
        "NOFILE": profile.files,
        "FSIZE": unlimited if profile.file_size is None else profile.file_size,
        "NPROC": others + 1 + profile.threads + profile.processes,
        "CORE": 0,
        "MEMLOCK": MAX_LOCKED,
        "SIGPENDING": MAX_PENDING,
        "MSGQUEUE": 0,
        "NICE": 0,
        "RTPRIO": 0,
    }
    if profile.memory is not None:
        size, data = _memory_now()
        limits |= {"AS": size + profile.memory, "DATA": data + profile.memory}
    for name, limit in limits.items():
        _limit(name, limit, limit)
    if profile.cpu is not None:
        # SIGXCPU at the soft one can be ignored, and is where the process is the first of its namespace.
        seconds = math.ceil(profile.cpu)
        _limit("CPU", seconds, seconds + 1)


def count_processes(uid: int) -> int:
    """How many processes and threads a user has, as far as /proc shows them."""
    count = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # Not who owns the entry: that is root where memory is hidden.
            status = Path(entry, "status").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        fields = dict(line.split(b":", 1) for line in status.splitlines() if b":" in line)
        if int(fields[b"Uid"].split()[0]) == uid:
            count += int(fields[b"Threads"])
    return count


def no_new_privileges() -> None:
    """Have no program that is run from here on gain rights by its file: no setuid, no capabilities."""
    prctl(_PRIVILEGES, _SET_NO_NEW_PRIVS, 1)
    if prctl(_PRIVILEGES, _GET_NO_NEW_PRIVS) != 1:
        raise ConfinementError(_PRIVILEGES, "no_new_privs did not hold")


def drop_bounding_set() -> bool:
    """Give up every capability for the programs that are run from here on.

    False, and nothing done, without CAP_SETPCAP: then `no_new_privileges` says the same. Some 40 system calls,
    so it is done once, where processes are forked from.
    """
    effective, _, _ = read_capabilities()
    if not effective & 1 << _CAP_SETPCAP:
        return False
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(_PRIVILEGES, _CAPBSET_DROP, capability)
        except ConfinementError as error:
            if error.errno != errors.EINVAL:
                raise
            break  # the kernel knows no more of them
    return True


def drop_capabilities() -> None:
    """Give up every capability of this process, ambient ones as well: they are never more than the others."""
    keep_capabilities(0)


def keep_capabilities(kept: int) -> None:
    """Hold these capabilities and no others, a bit each; none is inherited."""
    low, high = kept & 0xFFFFFFFF, kept >> 32
    call(
        _PRIVILEGES, "capset", _capability_header(), struct.pack("=6I", low, low, 0, high, high, 0)
    )
    if read_capabilities() != (kept, kept, 0):
        raise ConfinementError(_PRIVILEGES, "capabilities are still there after capset()")


def read_capabilities() -> tuple[int, int, int]:
    """The effective, permitted and inheritable capabilities of this thread, a bit each."""
    found = ctypes.create_string_buffer(24)
    call(_PRIVILEGES, "capget", _capability_header(), found)
    low = struct.unpack("=6I", found.raw)
    effective, permitted, inheritable = (low[at] | low[at + 3] << 32 for at in range(3))
    return effective, permitted, inheritable


def hide_memory() -> None:
    """Keep others of the same user from reading this process's memory, and from a core dump of it."""
    prctl(_PRIVILEGES, _SET_DUMPABLE, 0)
    if prctl(_PRIVILEGES, _GET_DUMPABLE) != 0:
        raise ConfinementError(_PRIVILEGES, "the process is still dumpable")


def _capability_header() -> bytes:
    """Of this thread."""
    return struct.pack("=Ii", _CAPABILITY_VERSION, 0)


def _memory_now() -> tuple[int, int]:
    """Bytes of address space, and of private writable memory."""
    try:
        # As plain as can be: it runs in each child, whose every page that is touched is copied. And as
        # bytes: a codec may have to be imported, from what cannot be read any more.
        descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(descriptor, 256).split()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfinementError(
            LAYER, "/proc/self/statm, which memory is counted from", error.errno or 0
        ) from error
    page = resource.getpagesize()
    return int(fields[0]) * page, int(fields[5]) * page


def _limit(name: str, soft: int, hard: int) -> None:
    """Set one; where it is lower already it stays so."""
    which = _RESOURCES[name]
    _, present = resource.getrlimit(which)
    hard = _lower(hard, present)
    soft = _lower(soft, hard)
    try:
        resource.setrlimit(which, (soft, hard))
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else errors.EPERM
        raise ConfinementError(LAYER, f"RLIMIT_{name} {hard}", number or 0) from error
    if resource.getrlimit(which) != (soft, hard):
        raise ConfinementError(LAYER, f"RLIMIT_{name} {hard} did not hold")


def _lower(one: int, other: int) -> int:
    """The lower of two limits; "unlimited" is a negative number, and the highest."""
    finite = [limit for limit in (one, other) if limit != resource.RLIM_INFINITY]
    return min(finite, default=resource.RLIM_INFINITY)
