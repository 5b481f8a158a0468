"""The sender: one thread that brings messages to one server. Who has something to tell never waits for it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cardoon.clock import Clock
from cardoon.syslog.backlog import Backlog
from cardoon.syslog.courier import Courier, EndingError
from cardoon.syslog.intake import Gap, Intake
from cardoon.syslog.links import Link, Wait
from cardoon.syslog.messages import Frame

logger = logging.getLogger(__name__)

_NAME_SECONDS = 1.0
"""For a name that is being looked up, which cannot be interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How messages get to one server."""

    name: str
    """The server's address, for people."""
    open_link: Callable[[Wait], Link]
    make_backlog: Callable[[], Backlog]
    is_lasting: bool = False
    """Whether the backlog outlives this process, so that nothing is lost with it."""
    batch_bytes: int = 64 << 10
    """Of messages that are sent together; 1 for one at a time."""


class Sender:
    """Brings messages to one server, from any thread, also from within a signal handler.

    Nothing is raised, and nobody waits: what there is no room for is counted, and told in its place by
    `make_gap`. In a process that was forked, it begins anew, without the messages of the other.
    """

    def __init__(
        self, route: Route, *, make_gap: Callable[[Gap], Frame], size: int, clock: Clock
    ) -> None:
        self.route = route
        self._make_gap = make_gap
        self._size = size
        self._clock = clock
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._start_lock = threading.RLock()  # so that one thread is started
        self._thread: threading.Thread | None = None
        self._intake = Intake(self._size)
        self._courier = Courier(
            self.route.name,
            self._intake,
            open_link=self.route.open_link,
            make_gap=self._make_gap,
            is_lasting=self.route.is_lasting,
            batch_bytes=self.route.batch_bytes,
            clock=self._clock,
        )

    def put(self, frame: Frame) -> None:
        """Have a message sent. Takes microseconds, whatever the server does."""
        if os.getpid() != self._pid:
            self._courier.abandon()
            self._begin_anew()
        self._intake.put(frame)
        if self._thread is None:
            self.start()

    def start(self) -> None:
        """Start the thread; safe twice."""
        with self._start_lock, contextlib.suppress(RuntimeError):  # the interpreter is ending
            if self._thread is None and not self._courier.is_ending:
                thread = threading.Thread(
                    target=self._run, name=f"syslog {self.route.name}", daemon=True
                )
                thread.start()
                self._thread = thread

    def end_by(self, moment: float) -> None:
        """Begin to end, by this moment of the monotonic clock; `close` waits for it."""
        if os.getpid() == self._pid:
            self._courier.end_by(moment)

    def close(self, timeout: float) -> bool:
        """Bring away what is there, in at most so many seconds; whether the server has all of it. Safe twice."""
        if os.getpid() != self._pid:
            return True
        self._courier.end_by(self._clock.monotonic() + timeout)
        if self._thread is not None:
            self._thread.join(max(0.0, timeout) + _NAME_SECONDS)
        elif len(self._intake):
            self._run()
        else:
            return not self.dropped
        return self._courier.has_told_all

    @property
    def is_one_way(self) -> bool:
        """Whether nobody can say that a message came."""
        return self.route.batch_bytes == 1

    @property
    def sent(self) -> int:
        """Messages that were handed over, those included that were sent again."""
        return self._courier.sent

    @property
    def dropped(self) -> int:
        """Messages for which there was no room."""
        return self._intake.dropped

    @property
    def failure(self) -> str:
        """Why the server cannot be reached; empty while nothing is known against it."""
        return self._courier.failure

    def _run(self) -> None:
        try:
            backlog = self.route.make_backlog()
            try:
                self._courier.run(backlog)
            finally:
                backlog.close()
        except EndingError:
            pass
        except (
            Exception
        ):  # a thread that nobody joins would end in silence, and tasks go on without it
            logger.exception("syslog %s: nothing more is sent there", self.route.name)
