"""A thread that does a beat's rounds, until it is told to stop."""

from __future__ import annotations

import logging
import threading

from cardoon.beat.rounds import Rounds
from cardoon.clock import Clock
from cardoon.exceptions import OperationalError, SecurityError

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
"""Seconds until it is tried again where a store does not answer; doubled each time."""


class Loop:
    """Does rounds when they are due. Safe from threads.

    Whatever goes wrong in a round is logged, and the next one is done all the same: what was due is still due.
    """

    def __init__(self, rounds: Rounds, *, clock: Clock) -> None:
        self.rounds = rounds
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.done_at = clock.monotonic()
        """When the last round without an error was done, by the monotonic clock: a sign of life."""

    def start(self) -> None:
        """Begin, in a thread of its own; a second time changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.run, name="beat", daemon=True)
            self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Finish the round that is being done, and do no more; waits for it. Safe twice."""
        self._stopping.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def request_stop(self) -> None:
        """The same without waiting: for handlers of signals."""
        self._stopping.set()
        self._wake.set()

    def wake(self) -> None:
        """Do a round now."""
        self._wake.set()

    def run(self) -> None:
        """Do rounds in this thread, until `stop`."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                wait = self.rounds.step()
                self.done_at = self._clock.monotonic()
                pause = _FIRST_PAUSE
            except (OperationalError, SecurityError) as error:
                logger.warning("beat: %s; trying again in %g s", error, pause)
                wait, pause = pause, min(_LONGEST_PAUSE, pause * 2)
            except Exception:  # the loop must outlive any one round; what was due is still due
                logger.exception("beat")
                wait, pause = pause, min(_LONGEST_PAUSE, pause * 2)
            self._wake.wait(wait)
            self._wake.clear()
