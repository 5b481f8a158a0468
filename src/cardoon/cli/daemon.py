"""Background processes, as init systems of old want them."""

from __future__ import annotations

import atexit
import fcntl
import grp
import os
import pwd
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured


def become_daemon(logfile: Path) -> None:
    """Leave the terminal: fork twice. What is printed from now on, errors above all, goes to the log."""
    try:
        log = os.open(logfile, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ImproperlyConfigured(
            f"logfile {str(logfile)!r} cannot be opened: {error.strerror}"
        ) from error
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    if os.fork() > 0:  # no longer a session leader, so no terminal can become ours again
        os._exit(0)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)


def drop_privileges(user: str | None, group: str | None) -> None:
    """Become another user and group, for good."""
    try:
        account = pwd.getpwnam(user) if user else None
        gid = grp.getgrnam(group).gr_gid if group else account.pw_gid if account else os.getgid()
        os.setgroups([gid])
        os.setgid(gid)
        if account is not None:
            os.setuid(account.pw_uid)
    except (KeyError, PermissionError) as error:
        raise ImproperlyConfigured(f"--uid {user} --gid {group}: {error}") from error


def lock_pidfile(path: Path) -> int:
    """Open and lock a file for `write_pidfile`. A child keeps the lock when its parent ends."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ImproperlyConfigured(f"pidfile {path}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise ImproperlyConfigured(
            f"pidfile {path}: process {pid} is running; stop it, or name another file"
        ) from None
    return descriptor


def write_pidfile(descriptor: int, path: Path) -> None:
    """Write our id to the locked file, which stays so while we live; it is removed at the end."""
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    atexit.register(path.unlink, missing_ok=True)
