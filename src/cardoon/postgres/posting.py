"""The calls on frames on channels, and on records."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

from cardoon.clock import SystemClock
from cardoon.postgres.database import Database
from cardoon.postgres.wakeups import Bell, hints
from cardoon.posting import (
    EVENTS,
    MAX_BYTES_AT_ONCE,
    MAX_LIFE_SECONDS,
    REMEMBERED_SECONDS,
    check_channel,
    check_post,
    check_reading,
)
from cardoon.records import MAX_RECORDS, Record, check_kind, check_record, check_room

_LOOK_AGAIN_SECONDS = 1.0
"""Hints may be lost, so whoever waits looks at the tables this often."""

_REAL_TIME = SystemClock()


class Posts:
    """A driver on a database as one that is `Posting`."""

    _database: Database

    def post(self, channel: str, frames: Sequence[bytes], *, expires_at: float, keep: int) -> None:
        """Append frames; the channel keeps the newest `keep`."""
        check_post(channel, frames, expires_at=expires_at, keep=keep)
        if not frames:
            return
        now = self._database.now
        rest = ([*frames], expires_at, keep, REMEMBERED_SECONDS, MAX_LIFE_SECONDS)
        then = hints(self._database.location.schema, Bell.POSTS, [channel])
        # Some may post events and nothing else.
        if channel == EVENTS:
            self._database.call("post_event", now, *rest, then=then)
        else:
            self._database.call("post", now, channel, *rest, then=then)

    def posted(
        self, channel: str, after: int, *, limit: int, timeout: float
    ) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order; waits for the first."""
        limit = check_reading(channel, limit=limit)
        if timeout <= 0:
            return self._look(channel, after, limit)
        deadline = _REAL_TIME.monotonic() + timeout
        with self._database.wakeups.listen(Bell.POSTS, frozenset({channel})) as ear:
            while True:
                found = self._look(channel, after, limit)
                remaining = deadline - _REAL_TIME.monotonic()
                if found or remaining <= 0:
                    return found
                ear.wait(min(remaining, _LOOK_AGAIN_SECONDS))

    def position(self, channel: str) -> int:
        """The number of the newest frame so far."""
        check_channel(channel)
        [(newest,)] = self._database.call("newest_post", self._database.now, channel)
        return int(newest)

    def _look(self, channel: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        wanted = (channel, after, limit, MAX_BYTES_AT_ONCE)
        rows = self._database.call("posted", self._database.now, *wanted)
        return [(number, frame) for number, frame in rows]


class Records:
    """A driver on a database as one that is `Recording`."""

    _database: Database

    def records(self, kind: str) -> Mapping[str, Record]:
        """All records of a kind, by name."""
        check_kind(kind)
        rows = self._database.call("records", kind)
        return {name: Record(revision, frame) for name, revision, frame in rows}

    def put_record(self, kind: str, name: str, frame: bytes, *, revision: int) -> bool:
        """Write if the record's revision is still this one."""
        check_record(kind, name, frame, revision=revision)
        token = int.from_bytes(os.urandom(7), "big")
        wanted = (kind, name, frame, revision, token, MAX_RECORDS)
        [(written,)] = self._database.call("put_record", *wanted)
        if written < 0:
            check_room(kind, name, MAX_RECORDS)
        return bool(written)

    def drop_record(self, kind: str, name: str, *, revision: int) -> bool:
        """Delete the record if its revision is still this one."""
        check_record(kind, name, revision=revision)
        tries = itertools.count()
        [(dropped,)] = self._database.attempt(
            lambda session: session.call("drop_record", kind, name, revision, next(tries) > 0)
        )
        return bool(dropped)
