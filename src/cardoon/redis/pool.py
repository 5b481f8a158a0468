"""Connections that threads borrow, and that a forked child leaves to its parent."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

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
        self._lent: dict[Connection, int] = {}
        self._generation = 0
        _alive.add(self)

    def borrow(self, deadline: float) -> Loan:
        """A connection, for as long as a `with` block lasts; closed if that raises anything."""
        return Loan(self, deadline)

    def take(self, deadline: float) -> Connection:
        """A connection that nobody else has until it is given back."""
        with self._lock:
            generation = self._generation
            if self._idle:
                connection = self._idle.pop()
                self._lent[connection] = generation
                return connection
        connection = self.connect(deadline)
        with self._lock:
            self._lent[connection] = generation
        return connection

    def give_back(self, connection: Connection, *, is_sound: bool) -> None:
        """Keep it for the next one, or close it."""
        with self._lock:
            generation = self._lent.pop(connection, None)
            if is_sound and generation == self._generation and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
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
        self._idle, self._lent = [], {}
        self._generation += 1


class Loan:
    """What `Pool.borrow` gives; written out, since a generator would cost each call two microseconds."""

    __slots__ = ("_connection", "_deadline", "_pool")

    def __init__(self, pool: Pool, deadline: float) -> None:
        self._pool = pool
        self._deadline = deadline

    def __enter__(self) -> Connection:
        self._connection = self._pool.take(self._deadline)
        return self._connection

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.give_back(self._connection, is_sound=kind is None)


# Hooks cannot be taken back, so there is one, for whatever is alive when it runs.
_alive: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_in_child() -> None:
    for pool in list(_alive):
        pool.after_fork_in_child()


os.register_at_fork(after_in_child=_after_in_child)
