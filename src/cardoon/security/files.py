"""Reading the files that trust rests on.

Who can write a certificate store decides whom we trust, and who can read a key is us. So nothing is
read from such a file before its owner and mode have been looked at, on the open file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cardoon.exceptions import SecurityError

MAX_CERTIFICATE_FILE = 64 * 1024
"""Bytes; some thirty certificates."""
_GROUP_OR_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_GROUP_OR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_guarded(path: Path, *, max_bytes: int = MAX_CERTIFICATE_FILE) -> bytes:
    """Read a file that nobody but its owner may write; `SecurityError` if anybody else may."""
    _check_parents(path)
    return _load(path, forbidden=_GROUP_OR_OTHERS_WRITE, remedy="chmod go-w", max_bytes=max_bytes)


def load_secret(path: Path) -> bytes:
    """Read a file that nobody but its owner may read or write; `SecurityError` if others may.

    A file of root's may be readable for its group, if we are not root: so systemd hands credentials to a
    service (an access list shows as a group), and Kubernetes a secret to a pod with an `fsGroup`. PostgreSQL
    judges its keys alike.
    """
    _check_parents(path)
    return _load(
        path, forbidden=_GROUP_OR_OTHERS, remedy="chmod 600", max_bytes=MAX_CERTIFICATE_FILE
    )


def check_library(path: Path) -> None:
    """Raise `SecurityError` unless nobody but its owner or root may change code that we load or run."""
    _check_parents(path)
    status = _stat(path)
    _check_owner(path, status)
    if not stat.S_ISREG(status.st_mode):
        raise SecurityError(f"{path}: no regular file; name a file here")
    if status.st_mode & _GROUP_OR_OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        raise SecurityError(f"{path}: open to others (mode {mode:04o}); chmod go-w {path}")


def check_program(path: Path) -> None:
    """`check_library`, and `SecurityError` unless we may run it."""
    check_library(path)
    if not os.access(path, os.X_OK):
        raise SecurityError(f"{path}: no program that we may run; name one, or chmod +x {path}")


def stamp_of(path: Path) -> tuple[int, ...]:
    """What changes when a file does, without reading it; nothing where there is none to see."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (
        status.st_mode,
        status.st_uid,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def check_directory(path: Path) -> None:
    """Raise `SecurityError` if anybody but its owner may put files into a directory."""
    _check_owner_and_mode(path, _stat(path), sticky_is_enough=False)


def _check_parents(path: Path) -> None:
    """Whoever may rename files in a directory can replace them, unless it is sticky like /tmp."""
    # A link may lead from a guarded directory into one that is not.
    for directory in {path.absolute().parent, Path(os.path.realpath(path)).parent}:
        _check_owner_and_mode(directory, _stat(directory), sticky_is_enough=True)


def _check_owner_and_mode(path: Path, status: os.stat_result, *, sticky_is_enough: bool) -> None:
    _check_owner(path, status)
    if sticky_is_enough and status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & _GROUP_OR_OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        raise SecurityError(
            f"{path}: others may write into this directory (mode {mode:04o}); chmod go-w {path}"
        )


def _check_owner(path: Path, status: os.stat_result) -> None:
    # As OpenSSH does it: the owner of a file can always change it, so it must be root or us.
    if status.st_uid not in {0, os.geteuid()}:
        raise SecurityError(
            f"{path}: belongs to user {status.st_uid}, not to us or root; "
            f"chown {os.geteuid()} {path}"
        )


def _load(path: Path, *, forbidden: int, remedy: str, max_bytes: int) -> bytes:
    try:
        # O_NONBLOCK, because to open a named pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SecurityError(f"{path}: no regular file; name a file here")
            _check_owner(path, status)
            if status.st_mode & (forbidden & ~_lent(status)):
                mode = stat.S_IMODE(status.st_mode)
                raise SecurityError(f"{path}: open to others (mode {mode:04o}); {remedy} {path}")
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise SecurityError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise SecurityError(f"{path}: more than {max_bytes} bytes; is it the right file?")
    return content


def _lent(status: os.stat_result) -> int:
    """What a group may do with a secret because root has lent it to us: read it, and no more."""
    return stat.S_IRGRP if status.st_uid == 0 and os.geteuid() != 0 else 0


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise SecurityError(f"{path}: cannot be looked at: {error.strerror}") from error
