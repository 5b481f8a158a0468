"""Outbox: hands things on in a thread of its own, and drops the newest when too many wait."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_WAITING = 4 << 20
"""Bytes of notices that may wait for receivers which are slower than the messages come."""
_TELL_OF_DROPPED = 1000
"""Things dropped between two lines of the log that say so, the first one included."""


class Outbox(Generic[T]):
    """Whoever puts something in goes on at once; `deliver` is called in order, in one thread.

    With `beat`, that is called every `interval` seconds in between.
    """

    def __init__(
        self,
        deliver: Callable[[T], None],
        *,
        name: str,
        beat: Callable[[], None] | None = None,
        interval: float = 2.0,
    ) -> None:
        self._deliver = deliver
        self._beat = beat
        self._interval = interval
        self._next_beat = float("inf") if beat is None else time.monotonic()
        self._changed = threading.Condition()  # protects the four below
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def put(self, item: T, size: int, *, most: int = MAX_WAITING) -> bool:
        """Have it delivered; False, and it is dropped, when more than `most` bytes wait already."""
        with self._changed:
            if self._closed:
                return False
            if self._bytes > most:
                if self._dropped % _TELL_OF_DROPPED == 0:
                    logger.warning(
                        "receivers of signals are too slow; notices dropped: %d", self._dropped + 1
                    )
                self._dropped += 1
                return False
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify()
            return True

    def close(self) -> None:
        """Deliver nothing more; safe before `start` and twice."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify()

    def join(self, timeout: float) -> None:
        """Wait for the thread."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._items or self._closed):
                    left = self._next_beat - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                if self._closed:
                    return
                item = self._items.popleft() if self._items else None
                if item is not None:
                    self._bytes -= item[1]
            try:
                if item is not None:
                    self._deliver(item[0])
                self._beat_if_due()
            except Exception:  # the thread must outlive any one of them
                logger.exception("a notice could not be delivered")

    def _beat_if_due(self) -> None:
        now = time.monotonic()
        if self._beat is not None and now >= self._next_beat:
            self._next_beat = now + self._interval
            self._beat()
