"""Landlock: which files, ports and processes this process and its descendants reach, for ever.

What is not granted is refused. A ruleset can only narrow, so it comes after mounts and before the
filter. Landlock leaves alone what is open already, stat(), chmod(), xattrs, and sockets in the file system.
"""

from __future__ import annotations

import errno as errors
import os
import stat
import struct
from types import TracebackType
from typing import Self

from cardoon.sandbox.kernel import ConfinementError, call
from cardoon.sandbox.profile import Level, Sandbox

LAYER = "landlock"

# Rights to files, <linux/landlock.h>.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (
    1 << bit for bit in range(6, 13)
)
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
WRITE = (
    READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER
)
"""No devices, sockets or pipes are made; what is written is not run."""
DEVICE = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV

OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that a rule for a file may hold; the kernel refuses others (EINVAL)."""

BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
ABSTRACT_SOCKETS, SIGNALS = 1 << 0, 1 << 1

_SINCE = {REFER: 2, TRUNCATE: 3, IOCTL_DEV: 5}
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_ALL_FILES = (1 << 16) - 1
_VERSION = 1
_PATH_BENEATH = 1


def find_abi() -> int:
    """Which version of Landlock the kernel has; `ConfinementError` if none, or if it is off."""
    return call(LAYER, "landlock_create_ruleset", None, 0, _VERSION)


class Ruleset:
    """What is to be granted, on its way to `restrict_self`. Close it, or use it in a `with`.

    Its descriptor is shared by forks: a rule that one child adds holds for its siblings, so a child with
    paths of its own makes its own ruleset. Every method raises `ConfinementError`.
    """

    def __init__(self, *, network: int = 0, abi: int | None = None) -> None:
        """`network` is what sockets may: `BIND_TCP`, `CONNECT_TCP`; `abi` at most this version."""
        found = find_abi()
        self.abi = found if abi is None else min(abi, found)
        """The version in use: from 4 on it knows ports, from 6 on signals and abstract sockets."""
        self._files = _ALL_FILES
        for right, since in _SINCE.items():
            if self.abi < since:
                self._files &= ~right
        held = self._files, 0, 0
        if self.abi >= _NETWORK_SINCE:
            held = self._files, (BIND_TCP | CONNECT_TCP) & ~network, 0
        if self.abi >= _SCOPES_SINCE:
            held = *held[:2], ABSTRACT_SOCKETS | SIGNALS
        # The structure grew with the versions; an old kernel takes a longer one if the rest is zeros.
        fields = struct.pack("=QQQ", *held)
        size = 8 if self.abi < _NETWORK_SINCE else 16 if self.abi < _SCOPES_SINCE else 24
        self._descriptor = call(LAYER, "landlock_create_ruleset", fields, size, 0)

    def allow(self, path: str, rights: int, *, is_optional: bool = False) -> None:
        """Grant rights on a file, or on a directory and all below; links are followed.

        A path that does not exist is an error that names it, unless it is optional.
        """
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            missing = error.errno in {errors.ENOENT, errors.ENOTDIR}
            if is_optional and missing:
                return
            remedy = "; create it or take it out of the profile" if missing else ""
            raise ConfinementError(
                LAYER, f"{path!r} cannot be granted{remedy}", error.errno or 0
            ) from error
        try:
            self.allow_descriptor(descriptor, rights, path=path)
        finally:
            os.close(descriptor)

    def allow_descriptor(self, descriptor: int, rights: int, *, path: str) -> None:
        """Grant rights on what is open there, with or without O_PATH; `path` is for messages."""
        rights &= self._files
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= OF_FILES
        if not rights:
            raise ConfinementError(LAYER, f"{path!r} cannot be granted: no right fits a file")
        rule = struct.pack("=Qi", rights, descriptor)
        try:
            call(LAYER, "landlock_add_rule", self._descriptor, _PATH_BENEATH, rule, 0)
        except ConfinementError as error:
            raise ConfinementError(LAYER, f"{path!r} cannot be granted", error.errno) from error

    def restrict_self(self) -> None:
        """Hold this thread to the ruleset, from now on; needs `no_new_privileges` first.

        Threads that run already stay free, so call it while there is one.
        """
        call(LAYER, "landlock_restrict_self", self._descriptor, 0)

    def close(self) -> None:
        """Let the descriptor go; twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def network_rights(profile: Sandbox) -> int:
    """What sockets of the profile may do on their own.

    In a network namespace of its own (`strict`) there is nothing but what was put there. Where the host's
    is shared, connections to a list are made by the warden, in its own name, and nobody listens.
    """
    match profile.network, profile.level:
        case None, _:
            return 0
        case "any", _:
            return BIND_TCP | CONNECT_TCP
        case "loopback", Level.STRICT:
            return BIND_TCP | CONNECT_TCP
        case _, Level.STRICT:
            return CONNECT_TCP
        case _:
            return 0
