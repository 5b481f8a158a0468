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
    UNAVAILABLE = 69
    """A server did not answer; of commands that ask workers: none did (EX_UNAVAILABLE of sysexits.h)."""
    WAITED = 75
    """What was waited for did not come in time; it may yet (EX_TEMPFAIL)."""
