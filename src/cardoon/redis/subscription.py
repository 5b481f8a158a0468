"""Hints that a result has become final, by pub/sub: one connection for one caller that waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from cardoon.clock import SystemClock
from cardoon.redis.connection import ANSWER_SECONDS, Connection, pack
from cardoon.redis.failures import ConnectionLostError, ServerError
from cardoon.redis.store import Store

_MOST_IDLE = 4

_REAL_TIME = SystemClock()


class Subscription:
    """Listens to channels; a connection that fails is a hint that everything may have happened."""

    def __init__(self, subscriptions: Subscriptions, channels: Sequence[str]) -> None:
        self._subscriptions = subscriptions
        self._channels = list(channels)
        self._connection: Connection | None = None
        self._heard_at = 0.0

    def listen(self) -> bool:
        """Make sure that from now on nothing is missed; False where that was already so."""
        if self._connection is not None:
            return False
        try:
            connection = self._subscriptions.lend()
        except (ConnectionLostError, ServerError):
            return True  # the look that follows says what there is to say
        deadline = _REAL_TIME.monotonic() + self._subscriptions.store.timeout
        try:
            packed = pack(("SUBSCRIBE", *self._channels))
            connection.send(packed, deadline=deadline)
            missing = {channel.encode() for channel in self._channels}
            while missing:
                words = connection.read(deadline=deadline)  # and what was left by the last one
                if words[0] == b"subscribe":
                    missing.discard(words[1])
        except (ConnectionLostError, ServerError):
            connection.close()
            self._subscriptions.close()
            return True
        except BaseException:
            connection.close()
            raise
        self._connection, self._heard_at = connection, _REAL_TIME.monotonic()
        return True

    def wait(self, seconds: float) -> list[bytes] | None:
        """What channels told within some seconds; None where that is not known."""
        connection = self._connection
        if connection is None:
            threading.Event().wait(min(seconds, 0.1))
            return None
        deadline = _REAL_TIME.monotonic() + seconds
        try:
            while (remaining := deadline - _REAL_TIME.monotonic()) > 0:
                if told := connection.read_many(remaining):
                    self._heard_at = _REAL_TIME.monotonic()
                if news := [words[2] for words in told if words[0] == b"message"]:
                    return news
            self._ask_whether_it_lives(connection)
        except (ConnectionLostError, ServerError):
            self._drop()
            self._subscriptions.close()  # the others had the same server
            return None
        return []

    def end(self) -> None:
        """Listen no more; the connection may serve the next."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.send(pack(("UNSUBSCRIBE",)), deadline=_REAL_TIME.monotonic() + 1)
        except ConnectionLostError:
            connection.close()
        else:
            self._subscriptions.take_back(connection)

    def _ask_whether_it_lives(self, connection: Connection) -> None:
        # What comes next is read by the next wait; a link that leads nowhere brings nothing at all.
        now = _REAL_TIME.monotonic()
        if now - self._heard_at > ANSWER_SECONDS:
            raise ConnectionLostError("the server is silent")
        connection.send(pack(("PING",)), deadline=now + ANSWER_SECONDS)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Subscriptions:
    """Connections that serve one subscription after the other. Safe from threads and forks."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def subscribe(self, channels: Sequence[str]) -> Subscription:
        """A subscription to channels, which begins to `listen` when it is told to."""
        return Subscription(self, channels)

    def lend(self) -> Connection:
        """A connection that listens to nothing, but may have old news; raises `ConnectionLostError`."""
        self._check_process()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self.store.open()

    def take_back(self, connection: Connection) -> None:
        """Keep a connection for the next one."""
        self._check_process()
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; safe twice."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            # A child lets go of its hold on what is its parent's.
            self._lock, self._process = threading.Lock(), os.getpid()
            self.close()
