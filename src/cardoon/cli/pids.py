"""Processes that hold a pidfile: found, signalled and waited for, and never another one of the same number."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured


def find_holder(path: Path) -> int | None:
    """The process that holds the file: 0 for one that has not written its id yet, None where there is none.

    Whoever wrote it has it locked while it lives (`cli.daemon`), so what a killed process has left behind is
    not taken for one that runs.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImproperlyConfigured(f"pidfile {path}: cannot be read: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return None
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        pid = int(text) if text.isascii() and text.isdecimal() else 0
        if pid:
            _check_owner(path, os.fstat(descriptor).st_uid, pid)
        return pid
    finally:
        os.close(descriptor)


def send_signal(path: Path, number: int) -> int | None:
    """Signal the process that holds the file; returns its id, or None where there is none."""
    pid = find_holder(path)
    if not pid:
        return None
    with contextlib.suppress(ProcessLookupError):
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, number)
            return pid
        descriptor = os.pidfd_open(pid)
        try:
            if find_holder(path) != pid:  # it has ended meanwhile, and its number may be another's
                return None
            signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
        return pid
    return None


def _check_owner(path: Path, owner: int, pid: int) -> None:
    """Who may write the file must not have us, who may be root, signal a process of somebody else."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # it has ended, or this is no Linux
    uids = next((line.split()[1:3] for line in status.splitlines() if line.startswith("Uid:")), [])
    if owner != 0 and uids and str(owner) not in uids:
        raise ImproperlyConfigured(
            f"pidfile {path}: it is user {owner}'s, and names process {pid}, which is user {uids[0]}'s; "
            "nothing is sent to it. Delete the file if no worker of yours is there"
        )
