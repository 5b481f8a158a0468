"""The results that a bridge owes to Celery's clients, in a file, so that it survives the bridge."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cardoon.clock import Clock
from cardoon.exceptions import OperationalError


class Owed(NamedTuple):
    """Somebody may wait for the result of this task."""

    id: str
    reply_to: str = ""
    """Of Celery's `rpc://`: the queue of the client."""
    correlation_id: str = ""


class Journal:
    """Who waits, by task id. Safe from threads; several bridges of a host may share the file."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects the connection
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        with self._failing():
            self._database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
            path.chmod(0o600)  # it tells ids, which are half of what it takes to ask for a result
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS owed (id TEXT PRIMARY KEY, reply_to TEXT NOT NULL, "
                "correlation_id TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID"
            )
            self._database.execute("CREATE INDEX IF NOT EXISTS owed_until ON owed (until)")

    def add(self, owed: Sequence[tuple[Owed, float]]) -> None:
        """Note these, durably, each until a time in seconds since the epoch."""
        if owed:
            rows = [(*one, until) for one, until in owed]
            with self._failing(), self._lock, self._database:
                self._database.executemany("INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?)", rows)

    def some(self, *, behind: str, limit: int) -> list[Owed]:
        """Up to `limit` of them by id, from the one behind `behind`; forgets whose time is over."""
        with self._failing(), self._lock, self._database:
            self._database.execute("DELETE FROM owed WHERE until < ?", (self._clock.now(),))
            found = self._database.execute(
                "SELECT id, reply_to, correlation_id FROM owed WHERE id > ? ORDER BY id LIMIT ?",
                (behind, limit),
            )
            return [Owed(*row) for row in found]

    def remove(self, ids: Collection[str]) -> None:
        """These have been told."""
        if ids:
            with self._failing(), self._lock, self._database:
                self._database.executemany("DELETE FROM owed WHERE id = ?", [(one,) for one in ids])

    def close(self) -> None:
        """Let go of the file; safe twice."""
        with self._lock:
            self._database.close()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OperationalError(f"journal {self._path}: {error}") from error
