"""Exit codes of every command; docs/cli.md tells people, and a test holds the page to it."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """What a command's exit code says."""

    OK = 0
    """Done; or: the answer is yes."""
    ERROR = 1
    """An error, said in one line; or: the answer is no, such as a task that failed."""
    USAGE = 2
    """Called wrongly; of `why` and `verify`: nothing is known, it is no message."""
    HIGH = 3
    """Of `doctor`: the worst that is open is of severity high; 1 is for what is less."""
    CRITICAL = 4
    """Of `doctor`: something critical is open."""
    UNCHECKED = 5
    """Of `doctor`: nothing of severity high is open, but something could not be checked."""
    TAMPERED = 6
    """Of `audit verify`: records or checkpoints were changed, removed, inserted or put in another order."""
    CUT = 7
    """Of `audit verify`: the log is older or shorter than what was signed, or another one."""
    INCOMPLETE = 9
    """Of `audit verify`: what there is fits, but something is unproven or was never written."""
    UNAVAILABLE = 69
    """A server did not answer; of commands that ask workers: none did (EX_UNAVAILABLE of sysexits.h)."""
    DRIFTED = 78
    """Of a worker: files are not what their baseline says, and it is to stop then (EX_CONFIG)."""
    WAITED = 75
    """What was waited for did not come in time; it may yet (EX_TEMPFAIL)."""
    UNGUARDED = 77
    """A worker stopped since the firewall of its host is gone or changed (EX_NOPERM)."""
