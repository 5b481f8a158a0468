"""Hints that a result has become final, by pub/sub: one connection for one caller that waits.

Such a connection speaks RESP3, in which one that listens may ask as well. So the look that everybody
who begins to listen has to make is no round trip of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis

from cardoon.clock import SystemClock
from cardoon.redis.connection import ANSWER_SECONDS, Argument, Connection, pack
from cardoon.redis.failures import ConnectionLostError, ServerError
from cardoon.redis.store import Store

_MOST_IDLE = 4

_REAL_TIME = SystemClock()


class News(NamedTuple):
    """What a channel told."""

    channel: str
    text: bytes


class Line(NamedTuple):
    """A connection, and the channels that it was left listening to."""

    connection: Connection
    left: Sequence[str] = ()


class Subscription:
    """Listens to channels; a connection that fails is a hint that everything may have happened.

    Where each channel tells no more than one thing, `is_brief`, nobody is told when the listening ends:
    whoever has the connection next says so.
    """

    def __init__(
        self, subscriptions: Subscriptions, channels: Sequence[str], *, is_brief: bool
    ) -> None:
        self._subscriptions = subscriptions
        self._channels = list(channels)
        self._is_brief = is_brief
        self._connection: Connection | None = None
        self._heard_at = 0.0

    @property
    def listens(self) -> bool:
        """Whether nothing is missed."""
        return self._connection is not None

    def listen(self, look: Sequence[Argument] = ()) -> list[Any] | None:
        """Make sure that from now on nothing is missed; the answer to `look`, as of then.

        `look` is a command that is answered with a list. None without one, and where the connection
        failed: the look that follows says what there is to say.
        """
        try:
            line = self._subscriptions.lend()
        except (ConnectionLostError, ServerError):
            return None
        deadline = _REAL_TIME.monotonic() + self._subscriptions.store.timeout
        try:
            answer = self._begin(line, look, deadline)
        except (ConnectionLostError, ServerError):
            line.connection.close()
            self._subscriptions.close()
            return None
        except BaseException:
            line.connection.close()
            raise
        self._connection, self._heard_at = line.connection, _REAL_TIME.monotonic()
        return answer

    def wait(self, seconds: float) -> list[News] | None:
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
                pushed = [words for words in told if isinstance(words, hiredis.PushNotification)]
                if news := [
                    News(words[1].decode(), words[2]) for words in pushed if words[0] == b"message"
                ]:
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
        if self._is_brief:
            self._subscriptions.take_back(Line(connection, self._channels))
            return
        try:
            connection.send(pack(("UNSUBSCRIBE",)), deadline=_REAL_TIME.monotonic() + 1)
        except ConnectionLostError:
            connection.close()
        else:
            self._subscriptions.take_back(Line(connection))

    def _begin(self, line: Line, look: Sequence[Argument], deadline: float) -> list[Any] | None:
        commands = [("UNSUBSCRIBE", *line.left)] if line.left else []
        commands.append(("SUBSCRIBE", *self._channels))
        packed = [pack(command) for command in (*commands, look) if command]
        line.connection.send(b"".join(packed), deadline=deadline)
        missing = {channel.encode() for channel in self._channels}
        answer: list[Any] | None = None
        while missing or (look and answer is None):
            words = line.connection.read(deadline=deadline)  # and what was left by the last one
            if not isinstance(words, hiredis.PushNotification):
                answer = words if isinstance(words, list) else None  # or of a PING from before
            elif words[0] == b"subscribe":
                missing.discard(words[1])
        return answer

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
        self._idle: list[Line] = []
        self._process = os.getpid()

    def subscribe(self, channels: Sequence[str], *, is_brief: bool) -> Subscription:
        """A subscription to channels, which begins to `listen` when it is told to."""
        return Subscription(self, channels, is_brief=is_brief)

    def lend(self) -> Line:
        """A connection that listens to nothing new, but may have old news; raises `ConnectionLostError`."""
        self._check_process()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = self.store.open()
        try:
            connection.ask("HELLO", "3", deadline=_REAL_TIME.monotonic() + self.store.timeout)
        except BaseException:
            connection.close()
            raise
        return Line(connection)

    def take_back(self, line: Line) -> None:
        """Keep a connection for the next one."""
        self._check_process()
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(line)
                return
        line.connection.close()

    def close(self) -> None:
        """Close what is idle; safe twice."""
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.connection.close()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            # A child lets go of its hold on what is its parent's.
            self._lock, self._process = threading.Lock(), os.getpid()
            self.close()
