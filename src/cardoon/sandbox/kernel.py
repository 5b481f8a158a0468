"""System calls that Python has no function for, by number. Never returns an error: it raises.

Everything here is for x86_64 and aarch64 and refuses to work elsewhere, since a filter that is made of
another machine's numbers allows what it means to forbid.
"""

from __future__ import annotations

import ctypes
import errno as errors
import functools
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from cardoon.exceptions import CardoonError
from cardoon.sandbox.syscalls import NUMBERS

_MASK = (1 << 64) - 1

Argument = int | bytes | ctypes.Array[ctypes.c_char] | None
"""What a call is given: a number, bytes that it reads, a buffer that it writes, or a null pointer."""


class ConfinementError(CardoonError):
    """A layer of the sandbox could not be put in place; nothing may run that relies on it."""

    def __init__(self, layer: str, what: str, errno: int = 0) -> None:
        name = errors.errorcode.get(errno, str(errno))
        told = f": {os.strerror(errno)} ({name})" if errno else ""
        super().__init__(f"sandbox: {layer}: {what}{told}")
        self.layer = layer
        """The layer that is missing: `landlock`, `seccomp`, `limits` ..."""
        self.errno = errno
        """What the kernel said; 0 where it said nothing."""


class Machine(NamedTuple):
    """A kind of processor: its name, its number in the audit system, and its system calls."""

    name: str
    audit: int
    numbers: Mapping[str, int]


_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""`AUDIT_ARCH_*` of <linux/audit.h>, which seccomp tells a filter with each call."""


@functools.cache
def machine() -> Machine:
    """The machine that this process runs on; `ConfinementError` if its calls are not known here."""
    if sys.platform != "linux":
        raise ConfinementError("kernel", f"{sys.platform} has no such layers; use level='process'")
    # Not platform.machine(), which may run a program.
    name = os.uname().machine
    if name not in NUMBERS or ctypes.sizeof(ctypes.c_void_p) != 8 or sys.byteorder != "little":
        bits = 8 * ctypes.sizeof(ctypes.c_void_p)
        raise ConfinementError(
            "kernel",
            f"system calls of {name} ({bits} bits) are not known; use x86_64 or aarch64 with 64 bits",
        )
    return Machine(name, _AUDIT[name], NUMBERS[name])


def call(layer: str, name: str, *arguments: Argument) -> int:
    """Make the system call; its result, or `ConfinementError` of that layer with the errno.

    Numbers may be negative; at most six arguments. Those not given are 0, since some calls insist on it.
    """
    number = machine().numbers.get(name)
    if number is None:
        raise ConfinementError(layer, f"{name}() does not exist on {machine().name}", errors.ENOSYS)
    given = (*arguments, *(0,) * (6 - len(arguments)))
    result: int = _libc_syscall()(ctypes.c_long(number), *(_word(one) for one in given))
    if result == -1:
        raise ConfinementError(layer, f"{name}()", ctypes.get_errno())
    return result


def prctl(layer: str, option: int, *arguments: int) -> int:
    """Set or ask for an option of this process; the answer, or `ConfinementError` of that layer."""
    return call(layer, "prctl", option, *arguments)


def _word(value: Argument) -> ctypes.c_ulong | ctypes.c_char_p | ctypes.Array[ctypes.c_char]:
    """An argument as wide as a register: a plain int would be passed as 32 bits."""
    match value:
        case None:
            return ctypes.c_ulong(0)
        case int():
            return ctypes.c_ulong(value & _MASK)
        case bytes():
            return ctypes.c_char_p(value)
        case _:
            return value


@functools.cache
def _libc_syscall() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return function
