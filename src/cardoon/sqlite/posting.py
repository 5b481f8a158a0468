"""Frames on channels, and records, of a database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cardoon.clock import SystemClock
from cardoon.posting import (
    MAX_BYTES_AT_ONCE,
    MAX_LIFE_SECONDS,
    REMEMBERED_SECONDS,
    check_channel,
    check_post,
    check_reading,
)
from cardoon.records import Record, check_kind, check_record, check_room
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import batches, cut, document
from cardoon.sqlite.wakeups import Bell

_LOOK_AGAIN_SECONDS = 1.0
"""Hints may be lost, so whoever waits looks at the database this often."""

_REAL_TIME = SystemClock()


class Posts:
    """A driver on a database as one that is `Posting`."""

    _database: Database

    def post(self, channel: str, frames: Sequence[bytes], *, expires_at: float, keep: int) -> None:
        """Append frames; the channel keeps the newest `keep`."""
        check_post(channel, frames, expires_at=expires_at, keep=keep)
        if not frames:
            return
        now = self._database.clock.now()
        until = min(expires_at, now + MAX_LIFE_SECONDS)
        with self._database.write(durable=False) as transaction:
            transaction.run("posting.forget", now=now)
            number, newest = transaction.row(
                "posting.number",
                channel=channel,
                count=len(frames),
                expires_at=max(now, until) + REMEMBERED_SECONDS,
            )
            _append(transaction, number, newest - len(frames) + 1, frames, until)
            transaction.run("posting.drop_oldest", channel=number, last=newest - keep)
            transaction.bells.add(Bell.POSTS)

    def posted(
        self, channel: str, after: int, *, limit: int, timeout: float
    ) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order; waits for the first."""
        limit = check_reading(channel, limit=limit)
        deadline = _REAL_TIME.monotonic() + timeout
        if timeout <= 0:
            return self._look(channel, after, limit)
        with self._database.listen(Bell.POSTS) as listener:
            while True:
                listener.drain()
                found = self._look(channel, after, limit)
                remaining = deadline - _REAL_TIME.monotonic()
                if found or remaining <= 0:
                    return found
                listener.wait(min(remaining, _LOOK_AGAIN_SECONDS))

    def position(self, channel: str) -> int:
        """The number of the newest frame so far."""
        check_channel(channel)
        now = self._database.clock.now()
        (newest,) = self._database.row("posting.newest", channel=channel, now=now)
        return int(newest)

    def _look(self, channel: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        rows, blob = self._database.row(
            "posting.after",
            channel=channel,
            after=after,
            limit=limit,
            bytes=MAX_BYTES_AT_ONCE,
            now=self._database.clock.now(),
        )
        found = []
        start = 0
        for number, size in json.loads(rows):
            found.append((number, blob[start : start + size]))
            start += size
        return found


class Records:
    """A driver on a database as one that is `Recording`."""

    _database: Database

    def records(self, kind: str) -> Mapping[str, Record]:
        """All records of a kind, by name."""
        check_kind(kind)
        rows = self._database.rows("records.all", kind=kind)
        return {name: Record(revision, frame) for name, revision, frame in rows}

    def put_record(self, kind: str, name: str, frame: bytes, *, revision: int) -> bool:
        """Write if the record's revision is still this one."""
        check_record(kind, name, frame, revision=revision)
        with self._database.write(durable=True) as transaction:
            if revision:
                written = transaction.run(
                    "records.write", kind=kind, name=name, frame=frame, revision=revision
                )
                return bool(written)
            made = transaction.run("records.make", kind=kind, name=name, frame=frame)
            if made:
                (count,) = transaction.row("records.count", kind=kind)
                check_room(kind, name, count - 1)  # what raises here is rolled back
            return bool(made)

    def drop_record(self, kind: str, name: str, *, revision: int) -> bool:
        """Delete the record if its revision is still this one."""
        check_record(kind, name, revision=revision)
        with self._database.write(durable=True) as transaction:
            return bool(transaction.run("records.drop", kind=kind, name=name, revision=revision))


def _append(
    transaction: Transaction, channel: int, first: int, frames: Sequence[bytes], until: float
) -> None:
    for some, blob in batches(frames, frames):
        transaction.run(
            "posting.add",
            channel=channel,
            rows=document([*cut(some)]),
            first=first,
            frames=blob,
            expires_at=until,
        )
        first += len(some)
