"""The spool: a backlog on disk, which outlives its process. Append-only files, bounded together, for one server.

Each process has files of its own, and holds a lock on them. What a dead process has left is sent first by
whoever comes next, to the same server. A record that was torn as it was written is left out.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured
from cardoon.syslog.messages import MAX_BYTES, Frame

logger = logging.getLogger(__name__)

SEGMENTS = 8
"""Files that a full spool consists of."""
MAX_REPLAY_BYTES = 16 << 20
_HEAD = struct.Struct(">II")


class _Segment:
    """One file. Its records have a length and a checksum before them."""

    def __init__(self, path: Path, *, is_ours: bool) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_APPEND
        self._descriptor = os.open(path, flags | (os.O_CREAT | os.O_EXCL if is_ours else 0), 0o600)
        self.size = os.fstat(self._descriptor).st_size
        self.read_to = 0

    def append(self, octets: bytes) -> None:
        """Write, whole or not at all."""
        written = os.write(self._descriptor, octets)
        if written < len(octets):
            os.ftruncate(self._descriptor, self.size)
            raise OSError(28, "the disk has no room")
        self.size += written

    def sync(self) -> None:
        """Have the disk keep it."""
        os.fdatasync(self._descriptor)

    def next(self) -> bytes | None:
        """The record at `read_to`, which then is behind it; None at the end, or where it is torn."""
        head = os.pread(self._descriptor, _HEAD.size, self.read_to)
        if len(head) < _HEAD.size:
            self.read_to = self.size
            return None
        length, checksum = _HEAD.unpack(head)
        octets = b""
        if length <= MAX_BYTES:
            octets = os.pread(self._descriptor, length, self.read_to + _HEAD.size)
        if len(octets) < length or zlib.crc32(octets) != checksum:
            self.read_to = self.size
            return None
        self.read_to += _HEAD.size + length
        return octets

    def close(self, *, is_done: bool) -> None:
        """Close the file, and delete it if nothing of it is needed."""
        os.close(self._descriptor)
        if is_done:
            self.path.unlink(missing_ok=True)


class SpoolBacklog:
    """A backlog in files. At most `most_bytes` of them, those apart that dead processes have left."""

    def __init__(self, folder: Path, *, server: str, stream: str, most_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = max(most_bytes // SEGMENTS, 4 * MAX_BYTES)
        self._most_bytes = max(most_bytes, 2 * self._segment_bytes)
        self._replay_bytes = min(MAX_REPLAY_BYTES, most_bytes // 2)
        self._label = hashlib.sha256(server.encode()).hexdigest()[:16]
        self._stem = f"{self._label}-{stream}"
        self._locks: list[tuple[Path, int]] = []
        self._unwritten: deque[Frame] = deque()
        self._is_told = False
        self._number = 0
        self._sent: deque[tuple[float, int, int]] = deque()
        """When, in which segment and to which place of it something was sent."""
        make_folder(folder)
        self._lock(folder / f"{self._stem}.lock", make=True)
        self._segments = [_Segment(path, is_ours=False) for path in self._adopt()]
        self._first = 0
        """How many segments were deleted before the first of those that are left."""
        self._at = 0
        """The segment that is read, counted like that."""

    def has_room(self) -> bool:
        """Whether more may be added: the disk takes it, and the bound is not reached."""
        self._write_again()
        return not self._unwritten and sum(one.size for one in self._segments) < self._most_bytes

    def add(self, frames: Sequence[Frame]) -> None:
        """Keep these behind all others; what the disk does not take stays in memory until it does."""
        self._unwritten.extend(frames)
        self._write_again()

    def take(self, most: int, now: float) -> list[bytes]:
        """The next messages, of about so many bytes, noted as sent now."""
        found: list[bytes] = []
        size = 0
        while size < most and (octets := self._next()) is not None:
            found.append(octets)
            size += len(octets)
        if not found and self._unwritten:  # the disk does not take them: they are sent all the same
            found = [frame.octets for frame in self._unwritten]
            self._unwritten.clear()
        if found:
            self._sent.append((now, self._at, self._place()))
            self._forget()
        return found

    def rewind(self, since: float | None) -> None:
        """Send again what was sent after this moment; None for all that is still kept."""
        if since is not None and not self._sent:
            return
        kept: tuple[int, int] | None = None
        while self._sent and since is not None and self._sent[0][0] < since:
            _, *place = self._sent.popleft()
            kept = place[0], place[1]
        self._sent.clear()
        first, offset = kept if kept is not None else (self._first, 0)
        for index, segment in enumerate(self._segments, self._first):
            segment.read_to = segment.read_to if index < first else 0
        self._at = max(first, self._first)
        if kept is not None and self._first <= first < self._first + len(self._segments):
            self._segments[first - self._first].read_to = offset

    def is_sent(self) -> bool:
        """Whether nothing waits."""
        return not self._unwritten and all(one.read_to >= one.size for one in self._segments)

    def close(self) -> None:
        """Delete what was sent, and leave what was not to the next run."""
        is_done = self.is_sent()
        for segment in self._segments:
            segment.close(is_done=is_done)
        for path, descriptor in self._locks:
            if is_done:
                path.unlink(missing_ok=True)
            os.close(descriptor)
        self._segments, self._locks = [], []

    def _next(self) -> bytes | None:
        while self._at < self._first + len(self._segments):
            octets = self._segments[self._at - self._first].next()
            if octets is not None:
                return octets
            if self._at == self._first + len(self._segments) - 1:
                return None
            self._at += 1
        return None

    def _place(self) -> int:
        return self._segments[self._at - self._first].read_to if self._segments else 0

    def _forget(self) -> None:
        """Delete segments that were sent so long ago that nobody will want them again."""
        while len(self._segments) > 1 and self._first < self._at:
            behind = sum(one.read_to for one in self._segments[1 : self._at - self._first + 1])
            if behind < self._replay_bytes:
                break
            self._segments.pop(0).close(is_done=True)
            self._first += 1
        while self._sent and self._sent[0][1] < self._first:
            self._sent.popleft()

    def _write_again(self) -> None:
        if not self._unwritten:
            return
        packed = b"".join(
            _HEAD.pack(len(one.octets), zlib.crc32(one.octets)) + one.octets
            for one in self._unwritten
        )
        try:
            segment = self._writable()
            segment.append(packed)
            if any(one.is_security for one in self._unwritten):
                segment.sync()
        except OSError as error:
            if not self._is_told:
                logger.error("syslog spool %s: %s; messages stay in memory", self._folder, error)  # noqa: TRY400
            self._is_told = True
            return
        self._is_told = False
        self._unwritten.clear()

    def _writable(self) -> _Segment:
        if not self._number or self._segments[-1].size >= self._segment_bytes:
            path = self._folder / f"{self._stem}.{self._number + 1:06}"
            self._segments.append(_Segment(path, is_ours=True))
            self._number += 1
        return self._segments[-1]

    def _adopt(self) -> Iterator[Path]:
        """The files of those that have died, oldest first."""
        for lock in sorted(self._folder.glob(f"{self._label}-*.lock"), key=_age):
            if lock.stem != self._stem and self._lock(lock, make=False):
                yield from sorted(self._folder.glob(f"{lock.stem}.[0-9]*"))

    def _lock(self, path: Path, *, make: bool) -> bool:
        """Take the lock of a process's files; whether nobody else has it."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locks.append((path, descriptor))
        return True


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def make_folder(folder: Path) -> None:
    """Make the folder of a spool; `ImproperlyConfigured` where that cannot be, or others may write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise ImproperlyConfigured(
            f"syslog_spool {str(folder)!r} cannot be made: {error}"
        ) from error
    if mode & 0o022:
        raise ImproperlyConfigured(
            f"syslog_spool {str(folder)!r} is writable by others, who could tell anything there; "
            "chmod 700 it"
        )
