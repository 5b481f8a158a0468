"""Alarms of a worker: many refusals at once, and a clock that jumps. They tell, and do nothing else.

Signatures cannot keep whoever reaches a queue from filling it with what costs a verification each, nor a clock
from being moved; so both are to be loud.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.exceptions import Refusal

logger = logging.getLogger(__name__)

MANY = 100
"""Refusals from one queue within a window, from which on there is an alarm."""
WINDOW_SECONDS = 60.0


class RefusalAlarm:
    """Rings for a queue of which this worker refuses much, once a window. Safe from threads."""

    def __init__(self, *, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()  # protects all below
        self._counts: dict[str, Counter[str]] = {}
        self._told: set[str] = set()
        self.totals: Counter[tuple[str, str]] = Counter()
        """Since the worker began: by queue and reason, of which there are few."""
        self._ends_at = clock.monotonic() + WINDOW_SECONDS

    def note(self, queue: str, reason: Refusal) -> None:
        """One was refused. `queue` is one that the worker consumes, so there are few."""
        with self._lock:
            self._counts.setdefault(queue, Counter())[reason.value] += 1
            self.totals[queue, reason.value] += 1

    def look(self) -> None:
        """Ring for the queues of which it was too much since the window began."""
        with self._lock:
            for queue, reasons in self._counts.items():
                if queue not in self._told and reasons.total() >= MANY:
                    self._told.add(queue)
                    self._ring(queue, reasons)
            if self._clock.monotonic() >= self._ends_at:
                self._ends_at = self._clock.monotonic() + WINDOW_SECONDS
                self._counts.clear()
                self._told.clear()

    def end(self) -> None:
        """Nothing is left to tell: each refusal is on record by itself."""

    def _ring(self, queue: str, reasons: Counter[str]) -> None:
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        logger.critical(
            "queue %s: %d messages refused within %.0f seconds (%s); see `cardoon quarantine list`, and find out who "
            "else writes to the broker",
            queue,
            reasons.total(),
            WINDOW_SECONDS,
            told,
        )
        self._audit.record(
            "messages.refused_often", queue=queue, count=reasons.total(), reasons=told
        )


class ClockAlarm:
    """Rings when the clock of the day has gone otherwise than time, by more than `skew` seconds between two looks."""

    def __init__(self, *, audit: AuditLog, clock: Clock, skew: float) -> None:
        self._audit = audit
        self._clock = clock
        self._skew = skew
        self._difference = clock.now() - clock.monotonic()
        self.jumps = 0

    def look(self) -> None:
        """Compare the two clocks with the last look."""
        difference = self._clock.now() - self._clock.monotonic()
        jump, self._difference = difference - self._difference, difference
        if abs(jump) <= self._skew:
            return
        self.jumps += 1
        logger.critical(
            "the clock was set %s by %.0f seconds (or this host has slept): fresh messages may be refused, and set "
            "back, old ones and certificates that had expired are taken again; check the time of this host",
            "forward" if jump > 0 else "back",
            abs(jump),
        )
        self._audit.record("clock.jumped", seconds=round(jump, 3))

    def end(self) -> None:
        """Nothing is left to tell."""
