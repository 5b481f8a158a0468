"""Hints between processes by LISTEN and NOTIFY, so that nobody has to poll fast.

A hint may be lost, and nothing depends on it: whoever waits looks at the tables each second anyhow. One
thread listens for all of a process, on a connection of its own, while somebody waits; and only to what
somebody waits for, since each hint wakes every process that listens to its kind.

The server serializes the commits of transactions that notify, and with them their writes to disk. So
hints are sent in a transaction of their own behind the one they are about, on the same round trip.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import threading
from collections.abc import Callable, Collection, Iterable, Iterator

from cardoon.broker import Outgoing
from cardoon.clock import SystemClock
from cardoon.exceptions import CardoonError
from cardoon.postgres.connection import Call, Connection, sql
from cardoon.postgres.failures import ConnectionLostError, ServerError
from cardoon.postgres.location import quoted

_LINGER_SECONDS = 10.0
"""How long to go on listening after the last one that waited."""

_CONNECT_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
"""How long not to try again after listening has failed."""

_MAX_NAMED = 4
_MAX_NAME_BYTES = 200
"""So many queues are told by name; more, or longer names, are any."""

_REAL_TIME = SystemClock()


class Bell(enum.Enum):
    """What there may be news of."""

    MESSAGES = "messages"
    RESULTS = "results"
    POSTS = "posts"


class Ear:
    """Of one that waits."""

    def __init__(self, bell: Bell, queues: Collection[str] | None = None) -> None:
        self.bell = bell
        self.queues = queues
        """None for any."""
        self._rung = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Wait for a hint; False after `timeout` seconds without one. Hears no older one again."""
        heard = self._rung.wait(timeout)
        self._rung.clear()
        return heard

    def hear(self, queue: str) -> None:
        """There is news of this queue; of any for an empty name."""
        if not queue or self.queues is None or queue in self.queues:
            self._rung.set()


def hints(schema: str, bell: Bell, queues: Collection[str] = ()) -> list[Call]:
    """What tells those who wait; of these queues, or of any, which an empty name among them means too."""
    named = dict.fromkeys(queues)
    if (
        len(named) > _MAX_NAMED
        or "" in named
        or any(len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES for name in named)
    ):
        named = {}
    return [Call("pg_notify", (_channel(schema, bell), name)) for name in named or {"": None}]


def queues_of(outgoing: Iterable[Outgoing]) -> list[str]:
    """The queues of which to tell. For copies that is any: the server alone knows where they go."""
    return ["" if one.fanout else one.queue for one in outgoing]


class Wakeups:
    """The ears of one process. Safe from threads; a forked child makes its own."""

    def __init__(self, connect: Callable[[float], Connection], schema: str) -> None:
        self._connect = connect
        self._schema = schema
        self._bells = {_channel(schema, bell): bell for bell in Bell}
        self._lock = threading.Lock()  # guards the next five
        self._ears: dict[Bell, set[Ear]] = {bell: set() for bell in Bell}
        self._wanted: set[Bell] = set()
        """What the thread is to listen to: all that anybody waited for since it began."""
        self._thread: threading.Thread | None = None
        self._left_at = 0.0
        self._stop: tuple[int, int] | None = None
        self._listening: Connection | None = None

    @contextlib.contextmanager
    def listen(self, bell: Bell, queues: Collection[str] | None = None) -> Iterator[Ear]:
        """An ear for hints. Open it, look at the tables, and only then wait."""
        ear = Ear(bell, queues)
        self.attach(ear)
        try:
            yield ear
        finally:
            self.detach(ear)

    def attach(self, ear: Ear) -> bool:
        """Have an ear hear from now on; False where it did before. Then look at the tables, and only then wait."""
        with self._lock:
            is_new = self._stop is None or ear not in self._ears[ear.bell]
            self._ears[ear.bell].add(ear)
            if self._stop is None:
                self._wanted = {bell for bell, ears in self._ears.items() if ears}
                self._stop = os.pipe()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="cardoon-listen", daemon=True
                )
                self._thread.start()
            elif ear.bell not in self._wanted:
                self._wanted.add(ear.bell)
                os.write(self._stop[1], b"l")
            return is_new

    def detach(self, ear: Ear) -> None:
        """Let an ear hear no more; safe twice."""
        with self._lock:
            self._ears[ear.bell].discard(ear)
            self._left_at = _REAL_TIME.monotonic()

    def close(self) -> None:
        """Stop listening; safe twice. The next ear begins again."""
        with self._lock:
            thread, pipe, self._stop = self._thread, self._stop, None
            if pipe is not None:
                os.write(pipe[1], b"x")
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CONNECT_SECONDS)

    def abandon(self) -> None:
        """In a forked child: let go of what the parent's thread uses."""
        if self._listening is not None:
            self._listening.abandon()
        if self._stop is not None:
            for descriptor in self._stop:
                os.close(descriptor)

    def _run(self, pipe: tuple[int, int]) -> None:
        stop, _ = pipe
        while not self._is_over(pipe):
            with contextlib.suppress(ConnectionLostError, ServerError, CardoonError):
                self._hear(pipe)
            self._ring_all(Bell)  # whoever relies on hints should look now
            if _is_readable(stop, _PAUSE_SECONDS) and self._is_told_to_stop(pipe):
                break
        for descriptor in pipe:
            os.close(descriptor)

    def _hear(self, pipe: tuple[int, int]) -> None:
        """Pass on what comes, until it is time to end."""
        stop, _ = pipe
        deadline = _REAL_TIME.monotonic() + _CONNECT_SECONDS
        self._listening = connection = self._connect(deadline)
        try:
            poll = select.poll()
            poll.register(stop, select.POLLIN)
            poll.register(connection.fileno(), select.POLLIN)
            heard: set[Bell] = set()
            while True:
                heard |= self._listen_to_more(connection, heard)
                for notice in connection.notices():
                    self._ring(self._bells.get(notice.channel), notice.payload)
                ready = [descriptor for descriptor, _ in poll.poll(_LINGER_SECONDS * 1000)]
                if stop in ready and self._is_told_to_stop(pipe):
                    return
                if not ready and self._is_over(pipe):
                    return
        finally:
            self._listening = None
            connection.close()

    def _listen_to_more(self, connection: Connection, heard: set[Bell]) -> set[Bell]:
        """Begin to listen to what is wanted by now; what that was."""
        with self._lock:
            fresh = self._wanted - heard
        if fresh:
            listens = [
                sql(f"LISTEN {quoted(channel)}")
                for channel, bell in self._bells.items()
                if bell in fresh
            ]
            connection.run([listens], deadline=_REAL_TIME.monotonic() + _CONNECT_SECONDS)
            self._ring_all(fresh)  # for what was told before we listened
        return fresh

    def _ring(self, bell: Bell | None, queue: str) -> None:
        if bell is not None:
            with self._lock:
                for ear in self._ears[bell]:
                    ear.hear(queue)

    def _ring_all(self, bells: Iterable[Bell]) -> None:
        for bell in bells:
            self._ring(bell, "")

    def _is_told_to_stop(self, pipe: tuple[int, int]) -> bool:
        """Whether what lies in the pipe says so, and not that there is more to listen to."""
        os.read(pipe[0], 64)
        with self._lock:
            return self._stop is not pipe

    def _is_over(self, pipe: tuple[int, int]) -> bool:
        """Whether nobody has waited for a while; from then on the next ear has a thread of its own."""
        with self._lock:
            if self._stop is not pipe:
                return True
            idle = _REAL_TIME.monotonic() - self._left_at
            if any(self._ears.values()) or idle < _LINGER_SECONDS:
                return False
            self._stop = None
            return True


def _channel(schema: str, bell: Bell) -> str:
    return f"{schema}.{bell.value}"


def _is_readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
