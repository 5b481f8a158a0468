"""Open the file as SQLite does, and bring its tables to this version."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.sqlite.statements import load_schema, sql

VERSION = 5
"""`PRAGMA user_version` of a file that this version of Cardoon reads and writes."""

APPLICATION_ID = 0x43726477
"""`PRAGMA application_id`, the letters Crdw: what the command `file` and we know a file by."""

_MIN_SQLITE = (3, 35, 0)
"""The first with RETURNING."""

_MAX_IDLE_JOURNAL_BYTES = 64 * 2**20
"""What the write-ahead log may keep on disk after a burst."""


def check_sqlite() -> None:
    """Raise `ImproperlyConfigured` when Python's SQLite lacks something."""
    if sqlite3.sqlite_version_info < _MIN_SQLITE:
        raise ImproperlyConfigured(
            f"SQLite {sqlite3.sqlite_version} is too old for the sqlite broker; it needs 3.35 or"
            " newer, so install a Python that is built with one, or use another broker"
        )
    with contextlib.closing(sqlite3.connect(":memory:")) as probe:
        try:
            probe.execute("SELECT json_array()")
        except sqlite3.OperationalError as error:
            raise ImproperlyConfigured(
                f"SQLite {sqlite3.sqlite_version} was built without JSON, which the sqlite broker"
                " needs; install a Python that is built with it, or use another broker"
            ) from error


def connect_file(path: Path) -> sqlite3.Connection:
    """A connection as all of ours are; raises `sqlite3.Error`.

    Commits do not wait for the disk: `Database` flushes the log itself where a promise needs it.
    """
    connection = sqlite3.connect(
        path,
        timeout=0.0,  # waiting is ours: SQLite's own is too coarse
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute(f"PRAGMA journal_size_limit = {_MAX_IDLE_JOURNAL_BYTES}")
        connection.execute("PRAGMA cache_size = -16000")
        _log_ahead(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: Path, *, now: float) -> None:
    """Create the tables or bring them up to date; a current file is only looked at.

    A file that is new remembers what was carried out since `now`.
    Raises `ImproperlyConfigured` for a newer file, and for a database that is not ours.
    """
    if _read_marks(connection)[:2] == (APPLICATION_ID, VERSION):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster.
        for version in range(_check_marks(connection, path) + 1, VERSION + 1):
            for statement in _split(load_schema(version)):
                connection.execute(statement)
        connection.execute(sql("replay.begin"), {"now": now})
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _log_ahead(connection: sqlite3.Connection, path: Path) -> None:
    """Switch to write-ahead logging, but not the database of another program."""
    connection.execute("BEGIN")
    try:
        _check_marks(connection, path)
    finally:
        connection.execute("ROLLBACK")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise OperationalError(
            f"database {path}: its file system cannot share memory between processes, which"
            " write-ahead logging needs; use a local disk"
        )


def _check_marks(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of a file that may be used; call it inside of a transaction."""
    mark, version, tables = _read_marks(connection)
    if tables and mark != APPLICATION_ID:
        raise ImproperlyConfigured(
            f"database {path} belongs to another program; give Cardoon a file of its own"
        )
    if version > VERSION:
        raise ImproperlyConfigured(
            f"database {path} has schema version {version}, and this Cardoon knows {VERSION};"
            " upgrade Cardoon, or use another file"
        )
    return version


def _read_marks(connection: sqlite3.Connection) -> tuple[int, int, int]:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return mark, version, tables


def _split(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit what was begun."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
