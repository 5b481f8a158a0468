"""Writing the files that trust rests on: each appears whole or not at all, with its mode.

    create     a file, unless there is one
    replace    a file, whatever was there
    locked     keeps others who edit a file waiting, so that no change is lost

Nobody who reads such a file ever sees half of it, and a machine that loses its power has it or not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cardoon.exceptions import SecurityError
from cardoon.security import files

SECRET, PUBLIC = 0o600, 0o644
"""Modes: of keys, and of what anybody may read."""


def create(path: Path, content: bytes, *, mode: int) -> bool:
    """Make a file unless there is one; tell whether it was made."""
    if path.exists():
        return False
    with _written(path, content, mode) as temporary:
        try:
            # Unlike a rename, a link fails if there is one already.
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
    sync(path.parent)
    return True


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Put a file in place of what is there."""
    with _written(path, content, mode) as temporary:
        temporary.replace(path)
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder for the user alone, unless there is one; `SecurityError` if it is open to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.check_directory(folder)


def sync(folder: Path) -> None:
    """Make the entries durable: a certificate without its key would be worth nothing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until nobody else edits this file. The lock is a file beside it, which stays."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path.with_name(f".{path.name}.lock"), flags, SECRET)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which ends the lock


@contextlib.contextmanager
def failing_as_security_error(folder: Path) -> Iterator[None]:
    """Say of what the operating system refuses where it was."""
    try:
        yield
    except OSError as error:
        raise SecurityError(f"{folder}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _written(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """A file beside the one that is meant, complete and on disk; it goes if anything fails."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
