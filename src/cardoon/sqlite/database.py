"""Connections, transactions and durability: the only module that begins and commits.

One connection writes and one reads, each behind a lock, so that reading never waits for writing.

Durable on return. SQLite is told not to wait for the disk (`synchronous = NORMAL`, which keeps the
file sound), and a transaction that promises something flushes the write-ahead log itself after the
commit. That makes all earlier commits durable too, as `FULL` does, but it happens outside of every
lock: what one process waits for, others need not. Before the flush others may see the commit; they
are on this host, and forget it with the host.

One writer at a time, checkpoint included: a lock file is held from begin to commit. SQLite's own
lock ends before its checkpoint does, and up to version 3.51.2 a second checkpoint beside a commit
could damage the file in rare cases (sqlite.org/wal.html, "The WAL-Reset Bug").
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cardoon.clock import Clock, SystemClock
from cardoon.exceptions import OperationalError
from cardoon.sqlite import forks, schema
from cardoon.sqlite.failures import explained, is_busy
from cardoon.sqlite.location import check_file_system, create_private, make_private_directory
from cardoon.sqlite.presence import Presence
from cardoon.sqlite.statements import sql
from cardoon.sqlite.wakeups import Bell, Listener, Wakeups, choose_directory

_MIN_PAUSE_SECONDS = 0.0001
_MAX_PAUSE_SECONDS = 0.002
"""How long to stand back from a lock that another process has: about a transaction."""

_REAL_TIME = SystemClock()
"""Callers wait in real time, whatever clock they inject for the life of messages."""


def flush_to_disk(descriptor: int) -> None:
    """Return when what was written to the file is on the disk."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync there leaves it in the drive's cache
    else:
        os.fdatasync(descriptor)


class Transaction:
    """Statements in one transaction, by name, and whom to tell after the commit."""

    __slots__ = ("_connection", "bells")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.bells: set[Bell] = set()

    def run(self, statement: str, **parameters: Any) -> int:
        """Execute; return how many rows it changed."""
        return self._connection.execute(sql(statement), parameters).rowcount

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Execute what yields a few rows; many should come as one."""
        return self._connection.execute(sql(statement), parameters).fetchall()

    def row(self, statement: str, **parameters: Any) -> Any:
        """Execute what yields one row."""
        (row,) = self._connection.execute(sql(statement), parameters).fetchall()
        return row


class Database:
    """One file and this process's connections to it, opened when first needed.

    Safe from threads, and over forks: no connection is carried into a child. Every method raises
    `OperationalError` for what the store could not do within `timeout` seconds, and
    `ImproperlyConfigured` for a file that it must not use.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        timeout: float = 10.0,
        random: Callable[[int], bytes] = os.urandom,
        flush: Callable[[int], None] = flush_to_disk,
    ) -> None:
        schema.check_sqlite()
        # SQLite puts its log beside what a link points to, and so must we look for it.
        self.path = path.resolve()
        self.clock = clock
        self.timeout = timeout
        self._random = random
        self._flush = flush
        self._side = self.path.with_name(self.path.name + "-wake")
        self.wakeups = Wakeups(choose_directory(self._side), random=random)
        self.presence = Presence(self._side, random=random)
        self._write_lock = threading.Lock()  # guards the next three; taken before the read lock
        self._writer: sqlite3.Connection | None = None
        self._gate: int | None = None
        self._log: int | None = None
        self._read_lock = threading.Lock()  # guards the next
        self._reader: sqlite3.Connection | None = None
        self._forking = False
        forks.watch(self)

    @contextlib.contextmanager
    def write(self, *, durable: bool, timeout: float | None = None) -> Iterator[Transaction]:
        """All or nothing; on disk afterwards if `durable`. Rolls back when the block raises."""
        deadline = _REAL_TIME.monotonic() + (self.timeout if timeout is None else timeout)
        with explained(self.path):
            with self._locked(self._write_lock, deadline):
                connection = self._begin(deadline)
                try:
                    transaction = Transaction(connection)
                    yield transaction
                    connection.execute("COMMIT")
                except BaseException as error:
                    self._roll_back(connection, error)
                    raise
                finally:
                    self._leave_gate()
                # A copy, because another thread may close the original before the flush.
                log = os.dup(self._log_descriptor()) if durable else None
            for bell in transaction.bells:
                self.wakeups.ring(bell)
            if log is not None:
                try:
                    self._flush(log)
                finally:
                    os.close(log)

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Execute one statement that only reads, beside any writer."""
        deadline = _REAL_TIME.monotonic() + self.timeout
        with explained(self.path), self._locked(self._read_lock, deadline):
            while True:
                try:
                    if self._reader is None:
                        self._reader = self._open(deadline)
                        self._reader.execute("PRAGMA query_only = ON")
                    return self._reader.execute(sql(statement), parameters).fetchall()
                except sqlite3.Error as error:
                    if not is_busy(error) or not self._pause(deadline):
                        self._close_reader()
                        raise

    def row(self, statement: str, **parameters: Any) -> Any:
        """Execute one statement that only reads and yields one row."""
        (row,) = self.rows(statement, **parameters)
        return row

    def listen(self, bell: Bell) -> contextlib.AbstractContextManager[Listener]:
        """An ear for hints. Open it, drain it, look at the database, and only then wait."""
        with explained(self.path):
            self._prepare_side()
        return self.wakeups.listen(bell)

    def show_life(self) -> str:
        """Show from now on that this process lives; return the name under which it does."""
        with explained(self.path):
            self._prepare_side()
            return self.presence.hold()

    def close(self) -> None:
        """Let go of every connection; safe twice. The next use opens them again."""
        with self._write_lock, self._read_lock:
            self._close_connections()
        self.wakeups.close()
        self.presence.release()

    def before_fork(self) -> None:
        """Close the connections, and keep other threads from opening them again."""
        # A thread that forks in the middle of its own transaction waits here in vain. Its child
        # inherits the connection, and must not use this database.
        if not self._write_lock.acquire(timeout=self.timeout):
            return
        self._read_lock.acquire()
        self._forking = True
        self._close_connections()

    def after_fork_in_parent(self) -> None:
        """Go on; connections are opened when next needed."""
        if self._forking:
            self._forking = False
            self._read_lock.release()
            self._write_lock.release()

    def after_fork_in_child(self) -> None:
        """Go on as a process of one's own."""
        self.wakeups.abandon()
        self.presence.abandon()
        self.after_fork_in_parent()

    @contextlib.contextmanager
    def _locked(self, lock: threading.Lock, deadline: float) -> Iterator[None]:
        remaining = max(0.0, deadline - _REAL_TIME.monotonic())
        if not lock.acquire(timeout=remaining):
            raise OperationalError(
                f"database {self.path}: other threads of this process did not finish in time;"
                " raise the timeout, or send less at once"
            )
        try:
            yield
        finally:
            lock.release()

    def _begin(self, deadline: float) -> sqlite3.Connection:
        """Pass the gate, then begin; the caller leaves the gate after the end."""
        self._enter_gate(deadline)
        try:
            if self._writer is None:
                self._writer = self._open(deadline)
            while True:
                try:
                    self._writer.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if not is_busy(error) or not self._pause(deadline):
                        raise
                else:
                    return self._writer
        except BaseException:
            self._close_writer()
            self._leave_gate()
            raise

    def _roll_back(self, connection: sqlite3.Connection, error: BaseException) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._close_writer()
        # Whatever state a failed connection is in, a new one is not.
        if isinstance(error, sqlite3.Error):
            self._close_writer()

    def _enter_gate(self, deadline: float) -> None:
        if self._gate is None:
            self._prepare_side()
            flags = os.O_CREAT | os.O_RDWR
            self._gate = os.open(self._side / "writer", flags, 0o600)
        while True:
            try:
                fcntl.flock(self._gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self._pause(deadline):
                    raise OperationalError(
                        f"database {self.path}: locked by another process for too long; find who"
                        f" holds {self._side / 'writer'}"
                    ) from None
            else:
                return

    def _leave_gate(self) -> None:
        if self._gate is not None:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def _prepare_side(self) -> None:
        if not self._side.is_dir():
            check_file_system(self.path)
            make_private_directory(self._side)

    def _open(self, deadline: float) -> sqlite3.Connection:
        check_file_system(self.path)
        create_private(self.path)
        while True:
            try:
                connection = schema.connect_file(self.path)
                try:
                    schema.migrate(connection, self.path, now=self.clock.now())
                except BaseException:
                    connection.close()
                    raise
            except sqlite3.OperationalError as error:
                if not is_busy(error) or not self._pause(deadline):
                    raise
            else:
                return connection

    def _log_descriptor(self) -> int:
        if self._log is None:
            self._log = os.open(f"{self.path}-wal", os.O_RDONLY)
        return self._log

    def _pause(self, deadline: float) -> bool:
        """Stand back for a moment; False when the time is up."""
        remaining = deadline - _REAL_TIME.monotonic()
        if remaining <= 0:
            return False
        share = int.from_bytes(self._random(1), "big") / 255
        pause = _MIN_PAUSE_SECONDS + share * (_MAX_PAUSE_SECONDS - _MIN_PAUSE_SECONDS)
        time.sleep(min(remaining, pause))
        return True

    def _close_connections(self) -> None:
        self._close_reader()
        self._close_writer()
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None

    def _close_reader(self) -> None:
        if self._reader is not None:
            with contextlib.suppress(sqlite3.Error):
                self._reader.close()
            self._reader = None

    def _close_writer(self) -> None:
        if self._log is not None:
            os.close(self._log)
            self._log = None
        if self._writer is not None:
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None


@runtime_checkable
class SharesDatabase(Protocol):
    """A driver whose database another driver may use as well."""

    @property
    def database(self) -> Database:
        """The database it works on."""
        ...
