"""Frames on channels, and records, of a store."""

from __future__ import annotations

import os
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
from cardoon.records import MAX_RECORDS, Record, check_kind, check_record, check_room
from cardoon.redis.failures import understood
from cardoon.redis.packing import read_count
from cardoon.redis.store import Follow, Store

_LOOK_AGAIN_SECONDS = 5.0
"""A stream that was deleted meanwhile wakes nobody, so whoever waits looks at it this often."""

_REAL_TIME = SystemClock()


class Posts:
    """A driver on a store as one that is `Posting`."""

    _store: Store

    def post(self, channel: str, frames: Sequence[bytes], *, expires_at: float, keep: int) -> None:
        """Append frames; the channel keeps the newest `keep`."""
        check_post(channel, frames, expires_at=expires_at, keep=keep)
        if frames:
            head = (channel, repr(float(expires_at)), keep, repr(REMEMBERED_SECONDS))
            self._store.run("post", (*head, repr(MAX_LIFE_SECONDS), *frames))

    def posted(
        self, channel: str, after: int, *, limit: int, timeout: float
    ) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order; waits for the first."""
        limit = check_reading(channel, limit=limit)
        deadline = _REAL_TIME.monotonic() + timeout
        follow = None
        while True:
            newest, found = self._look(channel, after, limit, follow)
            remaining = deadline - _REAL_TIME.monotonic()
            if found or remaining <= 0:
                return found
            seconds = min(remaining, _LOOK_AGAIN_SECONDS)
            follow = Follow(self._store.key("posts", channel), newest, seconds)

    def position(self, channel: str) -> int:
        """The number of the newest frame so far."""
        check_channel(channel)
        newest, _ = self._look(channel, 0, 0, None)
        return newest

    def _look(
        self, channel: str, after: int, limit: int, follow: Follow | None
    ) -> tuple[int, list[tuple[int, bytes]]]:
        """The newest number, and frames; after waiting for one that is newer, if told to."""
        arguments = (channel, after, limit, MAX_BYTES_AT_ONCE)
        told = self._store.run("posted", arguments, after=follow)
        with understood(self._store.place):
            newest, *rest = told
            numbers = map(int, rest[::2])
            return int(newest), list(zip(numbers, rest[1::2], strict=True))


class Records:
    """A driver on a store as one that is `Recording`."""

    _store: Store

    def records(self, kind: str) -> Mapping[str, Record]:
        """All records of a kind, by name."""
        check_kind(kind)
        (told,) = self._store.ask_many([("HGETALL", self._store.key("records", kind))])
        pairs = zip(told[::2], told[1::2], strict=True)
        return {name.decode(errors="backslashreplace"): _unpack(value) for name, value in pairs}

    def put_record(self, kind: str, name: str, frame: bytes, *, revision: int) -> bool:
        """Write if the record's revision is still this one."""
        check_record(kind, name, frame, revision=revision)
        token = os.urandom(8).hex()
        arguments = (kind, name, frame, revision, token, MAX_RECORDS)
        written = self._store.run("put_record", arguments, durably=True)
        if written < 0:
            check_room(kind, name, MAX_RECORDS)
        return bool(written)

    def drop_record(self, kind: str, name: str, *, revision: int) -> bool:
        """Delete the record if its revision is still this one."""
        check_record(kind, name, revision=revision)
        arguments = (kind, name, revision, "0")
        return bool(self._store.run("drop_record", arguments, again=3, durably=True))


def _unpack(value: bytes) -> Record:
    """A record; what nobody of ours has written is one as well, and hides nothing beside it."""
    head, _, frame = value.partition(b"\n")
    return Record(read_count(head.partition(b" ")[0]), frame)
