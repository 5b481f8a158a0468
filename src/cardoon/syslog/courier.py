"""The courier: what the thread of a sender does. It connects, sends, notices that a server has gone, and begins again."""

from __future__ import annotations

import logging
import random
import select
import socket
from collections.abc import Callable

from cardoon.clock import Clock
from cardoon.syslog.backlog import Backlog
from cardoon.syslog.intake import Gap, Intake
from cardoon.syslog.links import Link, PeerClosedError, Wait
from cardoon.syslog.messages import Frame

logger = logging.getLogger(__name__)

READ_WITHIN = 60.0
"""Seconds in which a server has put away what it has read, if it then hangs up in order."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0
"""Seconds between attempts to connect: doubled each time, and less by chance, so that not all come at once."""
STEADY_SECONDS = 5.0
"""How long a connection has to hold until the next failure counts as the first."""
GAP_PAUSE = 1.0
"""Seconds from one message about dropped messages to the next."""
_STOCK = 500
_MOST_STOCKS = 20


class EndingError(Exception):
    """The time to end has come while something was waited for."""


class Courier:
    """Carries messages from an intake to a server. `run` is for one thread."""

    def __init__(
        self,
        name: str,
        intake: Intake,
        *,
        open_link: Callable[[Wait], Link],
        make_gap: Callable[[Gap], Frame],
        is_lasting: bool,
        batch_bytes: int,
        clock: Clock,
    ) -> None:
        self._name = name
        self._intake = intake
        self._link = open_link(self._wait)
        self._make_gap = make_gap
        self._is_lasting = is_lasting
        self._batch_bytes = batch_bytes
        self._clock = clock
        self._ends_at: float | None = None
        self._opened_at: float | None = None
        self._pause = FIRST_PAUSE
        self._gap_at = clock.monotonic()
        self.sent = 0
        self.failure = ""
        self.has_told_all = False

    def end_by(self, moment: float) -> None:
        """Return from `run` once all is sent, and by this moment at the latest."""
        self._ends_at = moment
        self._intake.rouse()

    def abandon(self) -> None:
        """Let go of what a fork has copied; the other process goes on with it."""
        self._link.close()

    @property
    def is_ending(self) -> bool:
        """Whether `end_by` was called."""
        return self._ends_at is not None

    def run(self, backlog: Backlog) -> None:
        """Send what comes until it is to end. Raises `EndingError` if something is left."""
        self._backlog = backlog
        try:
            self._open()  # at once, so that what is wrong is said at the start
            while self._has_work():
                self._note_steady()
                self._stock()
                if backlog.is_sent():
                    self._rest()
                elif self._opened_at is not None or self._open():
                    self._send()
            self._finish()
        except BaseException:
            backlog.rewind(None)
            raise
        finally:
            self._link.close()

    def _has_work(self) -> bool:
        return self._ends_at is None or len(self._intake) > 0 or not self._backlog.is_sent()

    def _stock(self) -> None:
        """Bring what has come to the backlog, which may be a disk."""
        for _ in range(_MOST_STOCKS):
            frames = self._intake.take(_STOCK) if self._backlog.has_room() else []
            if not frames:
                break
            self._backlog.add(frames)
        now = self._clock.monotonic()
        if now >= self._gap_at and self._backlog.has_room():
            gap = self._intake.take_gap()
            if gap is not None:
                self._gap_at = now + GAP_PAUSE
                self._backlog.add([self._make_gap(gap)])
                logger.warning("syslog %s: %d messages had no room", self._name, gap.count)

    def _open(self) -> bool:
        """Connect; or, if that fails, pause. Whether it is open."""
        try:
            self._link.open()
        except OSError as error:
            self._lose(error)
            return False
        self._opened_at = self._clock.monotonic()
        return True

    def _note_steady(self) -> None:
        """A connection is good once it has lasted: a server may refuse us after the handshake, each time."""
        if self.failure and self._opened_at is not None:
            if self._clock.monotonic() - self._opened_at < STEADY_SECONDS:
                return
            logger.warning("syslog %s: reached again", self._name)
            self.failure = ""

    def _send(self) -> None:
        messages = self._backlog.take(self._batch_bytes, self._clock.monotonic())
        try:
            self._link.send(messages)
        except OSError as error:
            self._lose(error)
        else:
            self.sent += len(messages)

    def _rest(self) -> None:
        """Wait until something comes, or the server goes."""
        self._intake.is_awaited = True
        if not len(self._intake) and not self.is_ending:
            watched = self._link.watched if self._opened_at is not None else None
            seconds = STEADY_SECONDS if self.failure else None
            if self._poll(watched, wants_write=False, seconds=seconds) and watched is not None:
                try:
                    self._link.check()
                except OSError as error:
                    self._lose(error)
        self._intake.is_awaited = False

    def _lose(self, error: OSError) -> None:
        """The server has gone: what it may not have is to be sent again, after a pause."""
        now = self._clock.monotonic()
        is_orderly = isinstance(error, PeerClosedError)
        self._backlog.rewind(now - READ_WITHIN if is_orderly else None)
        self._link.close()
        if self._opened_at is not None and now - self._opened_at >= STEADY_SECONDS:
            self._pause = FIRST_PAUSE
        self._opened_at = None
        if not self.failure and not (is_orderly and self._backlog.is_sent()):
            logger.warning("syslog %s: %s; messages wait", self._name, error)
            self.failure = str(error) or type(error).__name__
        if self._is_lasting and self.is_ending:
            raise EndingError
        self._sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311  # no secret
        self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def _finish(self) -> None:
        """All is sent: have the server say that it has read it, by hanging up."""
        if self._opened_at is not None:
            try:
                self._link.end()
            except OSError as error:
                self.failure = str(error) or type(error).__name__
                self._backlog.rewind(None)
                return
            self.failure = ""
        self.has_told_all = not self._intake.dropped and not self.failure

    def _sleep(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while self._has_work() and (left := until - self._clock.monotonic()) > 0:
            self._intake.is_awaited = self._backlog.has_room()
            self._stock()
            self._poll(None, wants_write=False, seconds=left)

    def _wait(self, awaited: socket.socket, wants_write: bool, seconds: float | None) -> None:  # noqa: FBT001  # a Wait
        """Wait for a socket, and go on taking what comes."""
        until = None if seconds is None else self._clock.monotonic() + seconds
        while True:
            left = None if until is None else until - self._clock.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("no answer in time")
            # What came before it was awaited has woken nobody; where there is no room, nobody need wake.
            self._intake.is_awaited = self._backlog.has_room()
            self._stock()
            if self._poll(awaited, wants_write=wants_write, seconds=left):
                return

    def _poll(
        self, awaited: socket.socket | None, *, wants_write: bool, seconds: float | None
    ) -> bool:
        """Wait for a socket or the intake, whichever is first; whether the socket is ready."""
        left = seconds
        if self._ends_at is not None:
            until_end = self._ends_at - self._clock.monotonic()
            if until_end <= 0:
                raise EndingError
            left = until_end if seconds is None else min(seconds, until_end)
        poll = select.poll()
        poll.register(self._intake.woken, select.POLLIN)
        if awaited is not None:
            poll.register(awaited, select.POLLIN | (select.POLLOUT if wants_write else 0))
        ready = {number for number, _ in poll.poll(None if left is None else left * 1000)}
        if self._intake.woken in ready:
            self._intake.drain()
        return awaited is not None and awaited.fileno() in ready
