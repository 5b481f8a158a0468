"""The locks by which the living are told from the dead.

A process that takes messages on loan holds a lock on a file of its own. The kernel releases it
when the process dies, however it dies, and shows that to other containers on the same host. So
what the dead held comes back in about a second instead of at the end of the lease.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

_SUFFIX = ".lock"


class Life(enum.Enum):
    """What a lock file says about its owner."""

    ALIVE = enum.auto()
    DEAD = enum.auto()
    UNKNOWN = enum.auto()
    """There is no such file: only time can tell."""


class Presence:
    """This process's lock, and a look at those of others. Safe from threads."""

    def __init__(self, directory: Path, *, random: Callable[[int], bytes]) -> None:
        self._directory = directory
        self._random = random
        self._lock = threading.Lock()  # guards the two below
        self._descriptor: int | None = None
        self._name = ""

    def hold(self) -> str:
        """Show that this process lives, from the first call on; return the name it does so by.

        The name is new after `release` and in a forked child. Raises `OSError`.
        """
        with self._lock:
            if self._descriptor is None:
                name = self._random(8).hex()
                flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
                descriptor = os.open(self._path(name), flags, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(descriptor)
                    raise
                self._descriptor, self._name = descriptor, name
            return self._name

    @property
    def name(self) -> str:
        """The name under which this process shows its life; empty when it does not."""
        with self._lock:
            return self._name

    def look(self, name: str) -> Life:
        """Whether the owner of this name lives."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY)
        except FileNotFoundError:
            return Life.UNKNOWN
        try:
            # Shared, so that two who look at the same time do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Life.ALIVE
        finally:
            os.close(descriptor)
        return Life.DEAD

    def remove(self, name: str) -> None:
        """Delete the file of an owner that is gone."""
        with contextlib.suppress(FileNotFoundError):
            self._path(name).unlink()

    def release(self) -> None:
        """Let go of the lock, as death would; safe twice. The file stays for others to see."""
        with self._lock:
            self._close()

    def abandon(self) -> None:
        """Close in a forked child what is its parent's, whose lock would outlive it otherwise."""
        self._lock = threading.Lock()
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor, self._name = None, ""

    def _path(self, name: str) -> Path:
        return self._directory / (name + _SUFFIX)
