"""Raw SQL on the file of the sqlite drivers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_BUSY_SECONDS = 20.0
_FOR_LONG = 86_400.0


class SqliteStore:
    """The file, opened by somebody else."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run any statement."""
        return self._connection.execute(statement, values).fetchall()

    def script(self, *statements: tuple[Any, ...]) -> None:
        """Run several in one transaction."""
        self.sql("BEGIN IMMEDIATE")
        try:
            for statement, *values in statements:
                self.sql(statement, *values)
        except BaseException:
            self.sql("ROLLBACK")
            raise
        self.sql("COMMIT")

    def offer(self, id: str, frame: bytes, *, queue: str, priority: int = 0) -> None:
        """See `Store`."""
        self.offer_row(id=id, frame=frame, queue=queue, priority=priority)

    def offer_row(self, *, frame: Any, **columns: Any) -> None:
        """A message, with any values in its columns."""
        row = {"state": 1, "due": time.time(), "size": 100, "queue": "celery", "priority": 0}
        row |= columns
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        number = "(SELECT value FROM counter)"
        statements: list[tuple[Any, ...]] = [
            ("UPDATE counter SET value = value + 1",),
            (
                f"INSERT INTO message (number, {names}) VALUES ({number}, {marks})",
                *row.values(),
            ),
        ]
        if frame is not None:
            statements.append((f"INSERT INTO frame (number, frame) VALUES ({number}, ?)", frame))
        self.script(*statements)

    def waiting(self, id: str) -> bytes | None:
        """See `Store`."""
        found = self.sql("SELECT frame FROM frame JOIN message USING (number) WHERE id = ?", id)
        return found[0][0] if found else None

    def alter(self, id: str, frame: bytes) -> None:
        """See `Store`."""
        number = "(SELECT number FROM message WHERE id = ?)"
        self.sql(f"UPDATE frame SET frame = ? WHERE number = {number}", frame, id)

    def remove(self, id: str) -> None:
        """See `Store`."""
        self.sql("DELETE FROM message WHERE id = ?", id)

    def result(self, id: str) -> bytes | None:
        """See `Answers`."""
        found = self.sql("SELECT frame FROM result WHERE task_id = ?", id)
        return found[0][0] if found else None

    def lay_result(self, id: str, frame: bytes) -> None:
        """See `Answers`."""
        self.sql(
            "INSERT OR REPLACE INTO result (task_id, final, expires_at, frame) VALUES (?, 1, ?, ?)",
            *(id, time.time() + _FOR_LONG, frame),
        )

    def command(self, frame: bytes) -> None:
        """See `Answers`."""
        until = time.time() + _FOR_LONG
        self.sql("INSERT INTO broadcast (expires_at, frame) VALUES (?, ?)", until, frame)

    def inputs(self, id: str) -> list[tuple[str, bytes]]:
        """See `Answers`."""
        found = self.sql(
            "SELECT predecessor, request FROM input JOIN message ON number = message "
            "WHERE id = ? ORDER BY position",
            id,
        )
        return [(name, bytes.fromhex(request)) for name, request in found]

    def set_inputs(self, id: str, inputs: Sequence[tuple[str, bytes]]) -> None:
        """See `Answers`."""
        [(number,)] = self.sql("SELECT number FROM message WHERE id = ?", id)
        # The trigger would forget outcomes that nobody seems to wait for.
        kept = self.sql("SELECT number, predecessor, succeeded, skipped, frame FROM outcome")
        self.script(
            ("DELETE FROM input WHERE message = ?", number),
            *(
                ("INSERT INTO input VALUES (?, ?, ?, ?)", number, place, name, request.hex())
                for place, (name, request) in enumerate(inputs)
            ),
            *(("INSERT OR IGNORE INTO outcome VALUES (?, ?, ?, ?, ?)", *row) for row in kept),
            ("UPDATE message SET inputs = ? WHERE number = ?", len(inputs), number),
        )

    def lay_outcome(self, predecessor: str, frame: bytes) -> None:
        """See `Answers`."""
        self.sql(
            "INSERT OR REPLACE INTO outcome (predecessor, succeeded, skipped, frame) "
            "VALUES (?, 1, 0, ?)",
            *(predecessor, frame),
        )

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()
