"""What the memory broker posts and records."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from cardoon.clock import Clock, SystemClock
from cardoon.posting import (
    MAX_BYTES_AT_ONCE,
    MAX_LIFE_SECONDS,
    REMEMBERED_SECONDS,
    check_channel,
    check_post,
    check_reading,
)
from cardoon.records import Record, check_kind, check_record, check_room

_REAL_TIME = SystemClock()


class _Post(NamedTuple):
    number: int
    expires_at: float
    frame: bytes


@dataclass
class _Channel:
    newest: int = 0
    remembered_until: float = 0.0
    posts: deque[_Post] = field(default_factory=deque)


class Board:
    """The memory broker as one that is `Posting` and `Recording`."""

    _clock: Clock

    def __init__(self) -> None:
        self._posted = (
            threading.Condition()
        )  # guards everything below; taken after the broker's own
        self._channels: dict[str, _Channel] = {}
        self._records: dict[str, dict[str, Record]] = {}

    def post(self, channel: str, frames: Sequence[bytes], *, expires_at: float, keep: int) -> None:
        """Append frames; the channel keeps the newest `keep`."""
        check_post(channel, frames, expires_at=expires_at, keep=keep)
        if not frames:
            return
        now = self._clock.now()
        until = min(expires_at, now + MAX_LIFE_SECONDS)
        with self._posted:
            self._forget_channels(now)
            there = self._channels.setdefault(channel, _Channel())
            there.remembered_until = max(
                there.remembered_until, max(now, until) + REMEMBERED_SECONDS
            )
            for frame in frames:
                there.newest += 1
                there.posts.append(_Post(there.newest, until, frame))
            while len(there.posts) > keep:
                there.posts.popleft()
            self._posted.notify_all()

    def posted(
        self, channel: str, after: int, *, limit: int, timeout: float
    ) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order; waits for the first."""
        limit = check_reading(channel, limit=limit)
        deadline = _REAL_TIME.monotonic() + timeout
        with self._posted:
            while not (found := self._read(channel, after, limit)):
                remaining = deadline - _REAL_TIME.monotonic()
                if remaining <= 0:
                    break
                self._posted.wait(remaining)
            return found

    def position(self, channel: str) -> int:
        """The number of the newest frame so far."""
        check_channel(channel)
        with self._posted:
            self._forget_channels(self._clock.now())
            there = self._channels.get(channel)
            return there.newest if there else 0

    def records(self, kind: str) -> Mapping[str, Record]:
        """All records of a kind, by name."""
        check_kind(kind)
        with self._posted:
            return dict(self._records.get(kind, {}))

    def put_record(self, kind: str, name: str, frame: bytes, *, revision: int) -> bool:
        """Write if the record's revision is still this one."""
        check_record(kind, name, frame, revision=revision)
        with self._posted:
            there = self._records.setdefault(kind, {})
            if self._revision(kind, name) != revision:
                return False
            if revision == 0:
                check_room(kind, name, len(there))
            there[name] = Record(revision + 1, frame)
            return True

    def drop_record(self, kind: str, name: str, *, revision: int) -> bool:
        """Delete the record if its revision is still this one."""
        check_record(kind, name, revision=revision)
        with self._posted:
            is_this = revision > 0 and self._revision(kind, name) == revision
            if is_this:
                del self._records[kind][name]
            return is_this

    def purge_posts(self) -> None:
        """Delete what has expired."""
        now = self._clock.now()
        with self._posted:
            self._forget_channels(now)
            for there in self._channels.values():
                there.posts = deque(post for post in there.posts if post.expires_at > now)

    def _read(self, channel: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        now = self._clock.now()
        self._forget_channels(now)
        there = self._channels.get(channel)
        if there is None:
            return []
        first = after if after <= there.newest else 0
        due = (post for post in there.posts if post.number > first and post.expires_at > now)
        found: list[tuple[int, bytes]] = []
        room = MAX_BYTES_AT_ONCE
        for post in islice(due, limit):
            room -= len(post.frame)
            if found and room < 0:
                break
            found.append((post.number, post.frame))
        return found

    def _revision(self, kind: str, name: str) -> int:
        there = self._records.get(kind, {}).get(name)
        return there.revision if there else 0

    def _forget_channels(self, now: float) -> None:
        for name in [n for n, each in self._channels.items() if each.remembered_until <= now]:
            del self._channels[name]
