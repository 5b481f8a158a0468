"""What SQLite says, as an `OperationalError` that names the file and the remedy."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cardoon.exceptions import OperationalError

_PRIMARY = 0xFF
"""The low byte of an extended result code is the primary one (sqlite.org/rescode.html)."""

_MEANINGS = {
    sqlite3.SQLITE_BUSY: "locked by another process; find who holds it open for writing",
    sqlite3.SQLITE_LOCKED: "locked by another connection; find who holds it open for writing",
    sqlite3.SQLITE_FULL: "disk full; free space and send again",
    sqlite3.SQLITE_READONLY: "read-only; make the file and its directory writable for this user",
    sqlite3.SQLITE_PERM: "not permitted; make the file and its directory writable for this user",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that its directory exists and is writable",
    sqlite3.SQLITE_IOERR: "input or output error; check the disk and the system's log",
    sqlite3.SQLITE_CORRUPT: "damaged; stop all processes and restore it, or run `.recover` on it",
    sqlite3.SQLITE_NOTADB: "not a database; set another path, or move this file away",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_TOOBIG: "given more than one value may hold; send less at once",
}


def explain(error: Exception, path: Path) -> OperationalError:
    """The same failure in our words; SQLite's own stand at the end."""
    meaning = _MEANINGS.get(primary_code(error), "failed")
    return OperationalError(f"database {path}: {meaning} ({error})")


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection is in the way, so that trying again may help."""
    return primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def primary_code(error: Exception) -> int:
    """SQLite's result code; 0 when the error came from Python's wrapper."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Let nothing of the store's out but `OperationalError`.

    Values that cannot be bound (a lone surrogate, an integer of more than 64 bits) and the file
    system's own errors count as the store's.
    """
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeError, OSError) as error:
        raise explain(error, path) from error
