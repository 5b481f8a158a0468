"""Background processes, as init systems of old want them."""

from __future__ import annotations

import atexit
import fcntl
import grp
import os
import pwd
import sys
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured


def become_daemon() -> None:
    """Leave the terminal: fork twice, and let go of standard input and output."""
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    if os.fork() > 0:  # no longer a session leader, so no terminal can become ours again
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


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


def hold_pidfile(path: Path) -> None:
    """Write our id to a file, held locked while we live; it is removed at the end."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode(errors="replace").strip()
        raise ImproperlyConfigured(f"pidfile {path}: process {pid} is running") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    atexit.register(path.unlink, missing_ok=True)
    sys.stdout.flush()
