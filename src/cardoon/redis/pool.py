"""Connections that threads borrow, and that a forked child leaves to its parent."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator

from cardoon.clock import SystemClock
from cardoon.redis.connection import Connection
from cardoon.redis.failures import ConnectionLostError

_MOST_IDLE = 8
"""More than a process of Cardoon's uses at the same time, but for one with many threads."""


_REAL_TIME = SystemClock()


class Pool:
    """Keeps connections that are idle; one with an error never comes back. Safe from threads."""

    def __init__(self, connect: Callable[[float], Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._generation = 0
        _alive.add(self)

    @contextlib.contextmanager
    def borrow(self, deadline: float) -> Iterator[Connection]:
        """A connection, for as long as the block lasts; closed if that raises anything."""
        with self._lock:
            generation = self._generation
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self.connect(deadline)
        with self._lock:
            self._lent.add(connection)
        is_sound = False
        try:
            yield connection
            is_sound = True
        finally:
            with self._lock:
                self._lent.discard(connection)
                is_kept = (
                    is_sound and generation == self._generation and len(self._idle) < _MOST_IDLE
                )
                if is_kept:
                    self._idle.append(connection)
            if not is_kept:
                connection.close()

    def connect(self, deadline: float) -> Connection:
        """A connection that is not the pool's; one thread at a time makes one."""
        if not self._connecting.acquire(timeout=max(0.0, deadline - _REAL_TIME.monotonic())):
            raise ConnectionLostError("the time is up")
        try:
            return self._connect(deadline)
        finally:
            self._connecting.release()

    def clear(self) -> None:
        """Close what is idle, and what is lent as soon as it comes back."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Start afresh: the other threads are gone, and the connections are the parent's."""
        # Closing ends only the child's hold on them; nothing is said on the wire.
        for connection in (*self._idle, *self._lent):
            connection.close()
        self._lock, self._connecting = threading.Lock(), threading.Lock()
        self._idle, self._lent = [], set()
        self._generation += 1


# Hooks cannot be taken back, so there is one, for whatever is alive when it runs.
_alive: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_in_child() -> None:
    for pool in list(_alive):
        pool.after_fork_in_child()


os.register_at_fork(after_in_child=_after_in_child)
