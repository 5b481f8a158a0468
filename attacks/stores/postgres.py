"""Raw SQL on the tables of the postgres drivers, as their owner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg

_FOR_LONG = 86_400.0


class PostgresStore:
    """The database, to its owner."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(
            url, autocommit=True, options="-c search_path=cardoon -c lock_timeout=20s"
        )

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run any statement."""
        cursor = self._connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def offer(self, id: str, frame: bytes, *, queue: str, priority: int = 0) -> None:
        """See `Store`."""
        self.offer_row(id=id, frame=frame, queue=queue, priority=priority)

    def offer_row(self, *, frame: bytes | None, **columns: Any) -> None:
        """A message, with any values in its columns."""
        row = {"state": 1, "due": time.time(), "size": 100, "queue": "celery", "priority": 0}
        row |= columns
        names = ", ".join(row)
        marks = ", ".join("%s" for _ in row)
        with self._connection.transaction():
            [(number,)] = self.sql("SELECT nextval('message_number')")
            if frame is not None:
                self.sql("INSERT INTO frame (number, frame) VALUES (%s, %s)", number, frame)
            self.sql(
                f"INSERT INTO message (number, {names}) VALUES (%s, {marks})",
                *(number, *row.values()),
            )

    def waiting(self, id: str) -> bytes | None:
        """See `Store`."""
        found = self.sql("SELECT frame FROM frame JOIN message USING (number) WHERE id = %s", id)
        return bytes(found[0][0]) if found else None

    def alter(self, id: str, frame: bytes) -> None:
        """See `Store`."""
        number = "(SELECT number FROM message WHERE id = %s)"
        self.sql(f"UPDATE frame SET frame = %s WHERE number = {number}", frame, id)

    def remove(self, id: str) -> None:
        """See `Store`."""
        self.sql(
            "DELETE FROM frame USING message WHERE frame.number = message.number AND id = %s", id
        )
        self.sql("DELETE FROM message WHERE id = %s", id)

    def result(self, id: str) -> bytes | None:
        """See `Answers`."""
        found = self.sql("SELECT frame FROM result WHERE task_id = %s", id)
        return bytes(found[0][0]) if found else None

    def lay_result(self, id: str, frame: bytes) -> None:
        """See `Answers`."""
        self.sql(
            "INSERT INTO result (task_id, final, expires_at, written_by, frame) "
            "VALUES (%s, true, %s, pg_current_xact_id()::text::bigint, %s) "
            "ON CONFLICT (task_id) DO UPDATE SET final = true, frame = excluded.frame, "
            "written_by = excluded.written_by",
            *(id, time.time() + _FOR_LONG, frame),
        )

    def command(self, frame: bytes) -> None:
        """See `Answers`."""
        until = time.time() + _FOR_LONG
        self.sql("INSERT INTO broadcast (expires_at, frame) VALUES (%s, %s)", until, frame)

    def inputs(self, id: str) -> list[tuple[str, bytes]]:
        """See `Answers`."""
        found = self.sql(
            "SELECT predecessor, request FROM input JOIN message ON number = message "
            "WHERE id = %s ORDER BY position",
            id,
        )
        return [(name, bytes(request)) for name, request in found]

    def set_inputs(self, id: str, inputs: Sequence[tuple[str, bytes]]) -> None:
        """See `Answers`."""
        [(number,)] = self.sql("SELECT number FROM message WHERE id = %s", id)
        with self._connection.transaction():
            self.sql("DELETE FROM input WHERE message = %s", number)
            for place, (name, request) in enumerate(inputs):
                self.sql("INSERT INTO input VALUES (%s, %s, %s, %s)", number, place, name, request)
            self.sql("UPDATE message SET inputs = %s WHERE number = %s", len(inputs), number)

    def lay_outcome(self, predecessor: str, frame: bytes) -> None:
        """See `Answers`."""
        self.sql(
            "INSERT INTO outcome VALUES (%s, true, false, %s) "
            "ON CONFLICT (predecessor) DO UPDATE SET frame = excluded.frame",
            *(predecessor, frame),
        )

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()
