"""The intake of one server: a bounded queue that never makes anybody wait, and counts what it could not hold."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from dataclasses import dataclass

from cardoon.syslog.messages import Frame

SECURITY_SHARE = 2
"""What it holds where messages are about security, as a multiple of its size for all others."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that were dropped, by their numbers in the stream."""

    count: int
    first: int
    last: int


class Intake:
    """Takes messages from any thread, also from within a signal handler: it has no lock.

    It holds `size` messages, and twice as many where they are about security.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # Bare tuples, which the garbage collector stops looking at. It would go through a long queue of
        # frames again and again, and whoever logs just then waits for that.
        self._queue: deque[tuple[int, bool, bytes]] = deque()
        self.woken, self._wake = os.pipe()
        for one in (self.woken, self._wake):
            os.set_blocking(one, False)
        # Whoever puts last may do so when all has ended, so nobody knows when to close them.
        weakref.finalize(self, _close, self.woken, self._wake).atexit = False
        self.is_awaited = False
        """Set by whoever is about to wait for `woken`."""
        self._gap: Gap | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, frame: Frame) -> None:
        """Take a message, or drop and count it where there is no room."""
        if len(self._queue) >= self._size * (SECURITY_SHARE if frame.is_security else 1):
            self.dropped += 1
            gap = self._gap or Gap(0, frame.number, frame.number)
            self._gap = Gap(gap.count + 1, gap.first, frame.number)
            return
        self._queue.append((frame.number, frame.is_security, frame.octets))
        if self.is_awaited:
            self.is_awaited = False
            self.rouse()

    def take(self, most: int) -> list[Frame]:
        """The next messages; for one thread."""
        return [Frame._make(self._queue.popleft()) for _ in range(min(most, len(self._queue)))]

    def take_gap(self) -> Gap | None:
        """What was dropped since this was asked last; None for nothing, or while there is no room."""
        if self._gap is None or len(self._queue) >= self._size:
            return None
        gap, self._gap = self._gap, None
        return gap

    def rouse(self) -> None:
        """Wake whoever waits for `woken`."""
        with contextlib.suppress(OSError):  # full, so it is awake; or closed
            os.write(self._wake, b"\0")

    def drain(self) -> None:
        """Take back what `rouse` has written."""
        with contextlib.suppress(OSError):
            os.read(self.woken, 65_536)


def _close(*descriptors: int) -> None:
    for one in descriptors:
        os.close(one)
