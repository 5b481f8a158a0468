"""One thread that waits for many descriptors and moments (epoll(7)), and runs what each is for."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable

READ, WRITE, HANGUP = 1, 4, 16
"""EPOLLIN, EPOLLOUT, EPOLLHUP; a hang-up is told without being asked for."""


class Timer:
    """A moment at which something is run, unless it is cancelled before."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Do not run it."""
        self.call = None


class Loop:
    """Runs callbacks one after the other. All but `post` belongs to the thread that turns it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._wake_read, READ, self._woken)

    def watch(self, descriptor: int, events: int, call: Callable[[int], None]) -> None:
        """Run `call` with what happened whenever something does."""
        self._poll.register(descriptor, events)
        self._watched[descriptor] = call

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of a descriptor; 0 waits for its hang-up alone."""
        self._poll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Wait for it no longer; before it is closed. Safe twice."""
        if self._watched.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Run something later."""
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), timer))
        return timer

    def post(self, call: Callable[[], None]) -> None:
        """Run something in the loop's own thread; for other threads."""
        self._posted.append(call)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:  # it has been woken often enough
            return

    def turn(self, timeout: float) -> None:
        """Wait for the next event, at most so many seconds, and run what is due."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if self._timers:
            timeout = max(0.0, min(timeout, self._timers[0][0] - self.now()))
        for descriptor, events in self._poll.poll(timeout):
            call = self._watched.get(descriptor)
            if call is not None:  # what ran before it may have closed it
                call(events)
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()

    def close(self) -> None:
        """Let go of its own descriptors."""
        self._poll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _woken(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._posted:
            self._posted.popleft()()
