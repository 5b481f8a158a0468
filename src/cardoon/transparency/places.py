"""The files of a log: their names, how they are opened, and the lock that its writers share.

FILE                what is recorded, a line each
FILE.checkpoints    signed notes
FILE.key            the key of this epoch; nobody but its owner may read it
FILE.state          how far the file was hashed; only saves time
FILE.lock           held by whoever writes
FILE.<number>       earlier files, by the number of their first record, each with its `.checkpoints`
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from pathlib import Path
from typing import NamedTuple

from cardoon.exceptions import SecurityError

LOCK_SECONDS = 2.0
"""Longest wait for another writer, which holds the lock for microseconds."""
_PAUSE = 0.001
_NUMBER = re.compile(r"\d{12}")


class Places(NamedTuple):
    """Where the parts of a log are."""

    log: Path

    def beside(self, word: str) -> Path:
        """The file that belongs to the log for one purpose."""
        return self.log.with_name(f"{self.log.name}.{word}")

    @property
    def checkpoints(self) -> Path:
        """The notes of the file that is written."""
        return self.beside("checkpoints")

    @property
    def key(self) -> Path:
        """The key of this epoch."""
        return self.beside("key")

    @property
    def state(self) -> Path:
        """How far the file was hashed."""
        return self.beside("state")

    @property
    def lock(self) -> Path:
        """What writers lock."""
        return self.beside("lock")

    def earlier(self) -> list[Path]:
        """Files that were filled before, the oldest first."""
        start = f"{self.log.name}."
        with contextlib.suppress(OSError):
            names = os.listdir(self.log.parent)  # noqa: PTH208 - names are all that is wanted
            found = [
                name
                for name in names
                if name.startswith(start) and _NUMBER.fullmatch(name[len(start) :])
            ]
            return [self.log.with_name(name) for name in sorted(found)]
        return []

    def file_from(self, first: int) -> Path:
        """What the file is called, once it is full, whose first record has this number."""
        return self.beside(f"{first:012d}")


def notes_of(log: Path) -> Path:
    """Where the notes of one file are."""
    return log.with_name(f"{log.name}.checkpoints")


def reunite(places: Places, first: int) -> None:
    """Put the notes of the file that is written back beside it, if a writer was killed while it put both aside.

    Notes go first, and the file, whose first record is `first`, after them. What was signed since comes behind.
    """
    aside = places.file_from(first)
    strayed = notes_of(aside)
    if aside.exists() or not strayed.exists():
        return
    before = strayed.read_bytes()
    since = places.checkpoints.read_bytes() if places.checkpoints.exists() else b""
    if not since.startswith(before):  # else somebody was killed here, too
        new = places.beside("checkpoints.new")
        descriptor = open_guarded(new, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, 0)
            write_whole(descriptor, before + since, size=0)
        finally:
            os.close(descriptor)
        new.replace(places.checkpoints)
    strayed.unlink()


def open_guarded(path: Path, flags: int, *, secret: bool = False) -> int:
    """Open a file of ours, making it for its owner alone; `SecurityError` for one that is open to others."""
    new = not path.exists()
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        _check_mode(path, mode, secret=secret)
        if new and os.geteuid() == 0:  # root's hand must not keep its owner's worker from writing
            owner = os.stat(path.parent)  # noqa: PTH116
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_mode(path: Path, mode: int, *, secret: bool) -> None:
    if mode & (0o077 if secret else 0o022):
        what = "open to others" if secret else "writable by others"
        raise SecurityError(f"audit log {path} is {what}; chmod 600 it")


def take_lock(descriptor: int) -> None:
    """Wait for the other writers; `OSError` if one of them hangs."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        return
    ends_at = time.monotonic() + LOCK_SECONDS
    while True:
        time.sleep(_PAUSE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_at:
                raise OSError(
                    errno.ETIMEDOUT, "another process keeps the audit log locked; see who hangs"
                ) from None
        else:
            return


def release_lock(descriptor: int) -> None:
    """Let the next one write."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def write_whole(descriptor: int, content: bytes, *, size: int) -> None:
    """Append to a file of `size` bytes, or leave it as it was and raise `OSError`."""
    written = 0
    try:
        while written < len(content):
            written += os.write(descriptor, content[written:])
    except OSError:
        if written:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
        raise
