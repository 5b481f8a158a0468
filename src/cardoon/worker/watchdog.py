"""The watchdog: looks every second whether each loop of the worker still turns.

One that does not for half a minute is told of, and the connections are torn down, so that whatever waits for a server
wakes. If that does not help, the process ends with 70: what it held runs elsewhere when its leases are over. What was
not looked at does not count: a host that slept, or a process that was stopped, has done nothing wrong.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.sdnotify import Notifier
from cardoon.worker.health import Health
from cardoon.worker.vitals import LOOP_SECONDS, Loop, Vitals

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_STATUS_SECONDS = 10.0
EXIT_STUCK = 70


class Watchdog:
    """Looks, in a thread of its own. It writes nothing that could wait, and takes no lock of others."""

    def __init__(
        self,
        vitals: Vitals,
        *,
        health: Health,
        notifier: Notifier,
        audit: AuditLog,
        clock: Clock,
        on_stuck: Callable[[int], None],
        rebuild: Callable[[], object],
    ) -> None:
        self._vitals = vitals
        self._health = health
        self._notifier = notifier
        self._audit = audit
        self._clock = clock
        self._on_stuck = on_stuck
        self._rebuild = rebuild
        self._turns = dict(vitals.turns)
        self._still: dict[Loop, float] = {}
        self._warned: set[Loop] = set()
        self._looked_at = clock.monotonic()
        self._alive_at = self._status_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; safe twice, and before `start`."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(2 * LOOK_SECONDS)

    def look(self) -> None:
        """See which loops have turned since the last look, and act on those that have not."""
        now = self._clock.monotonic()
        elapsed, self._looked_at = min(now - self._looked_at, 2 * LOOK_SECONDS), now
        expected = dict(self._vitals.stalled())
        for loop, turns in dict(self._vitals.turns).items():
            is_over = loop is Loop.CONSUMER and self._health.is_stopping
            if turns != self._turns.get(loop) or loop not in expected or is_over:
                self._turns[loop] = turns
                self._still[loop] = 0.0
                self._warned.discard(loop)
                continue
            self._still[loop] = self._still.get(loop, 0.0) + elapsed
            if self._still[loop] >= LOOP_SECONDS:
                self._act(loop)
        self._tell(now)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # what watches must outlive what it finds
                logger.exception("watchdog")

    def _act(self, loop: Loop) -> None:
        self._still[loop] = 0.0
        is_second = loop in self._warned
        self._warned.add(loop)
        self._audit.record("worker.stuck", loop=loop.value, exits=is_second)
        if is_second:
            logger.critical(
                "the %s has not turned for %.0f s, and new connections did not help: the worker ends with %d; its tasks "
                "run elsewhere",
                loop,
                2 * LOOP_SECONDS,
                EXIT_STUCK,
            )
            self._on_stuck(EXIT_STUCK)
            return
        logger.critical(
            "the %s has not turned for %.0f s; connections are made anew", loop, LOOP_SECONDS
        )
        self._rebuild()

    def _tell(self, now: float) -> None:
        """Tell the service manager that there is progress, where there is."""
        notifier = self._notifier
        if not notifier.is_heard:
            return
        every = notifier.watchdog_seconds
        if every is not None and now - self._alive_at >= min(every / 3, 10.0):
            verdict = self._health.live()
            if verdict.is_good:
                self._alive_at = now
                notifier.alive()
        if now - self._status_at >= _STATUS_SECONDS and not self._health.is_stopping:
            self._status_at = now
            verdict = self._health.ready()
            notifier.status("ready" if verdict.is_good else "; ".join(verdict.reasons))
