"""Keeps the quarantine within its bounds, and tells what went.

Looked at every few seconds, and at once when this worker alone has put away a tenth of what may lie there. So
between two looks it may hold that much more for each worker.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence

from cardoon.audit import AuditLog
from cardoon.broker import Broker, Completion, Quarantine
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.exceptions import OperationalError
from cardoon.quarantine import Bounds, Fill, Quarantining, find_excess, thin_out, total

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
TELL_SECONDS = 60.0
"""From one record of what went to the next, however much goes."""
_SHARE = 10
"""A tenth is what one worker may put away until it looks."""
_NEARLY_FULL = 0.8


def bounds_of(settings: Settings) -> Bounds:
    """How much may lie there, as the settings say."""
    return Bounds(settings.quarantine_max_messages, settings.quarantine_max_bytes)


class Curator:
    """Thins out the quarantine. Safe from threads."""

    def __init__(self, broker: Broker, bounds: Bounds, *, audit: AuditLog, clock: Clock) -> None:
        self._broker = broker if isinstance(broker, Quarantining) else None
        self._bounds = bounds
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._messages = self._bytes = 0  # put away since the last look
        self._looked_at = self._told_at = -TELL_SECONDS + clock.monotonic()
        self._gone: Counter[str] = Counter()
        self._gone_bytes = 0
        self._is_nearly_full = False
        self.fills: Sequence[Fill] = ()
        """What lay there at the last look, for each reason."""

    def note(self, completions: Sequence[Completion]) -> None:
        """Loans have ended, some of them in the quarantine perhaps. Raises nothing of the store."""
        away = [one.settlement for one in completions if isinstance(one.settlement, Quarantine)]
        if not away or self._broker is None:
            return
        with self._lock:
            self._messages += len(away)
            self._bytes += sum(len(each.delivery.frame) for each in away)
            if (
                self._messages * _SHARE < self._bounds.messages
                and self._bytes * _SHARE < self._bounds.bytes
            ):
                return
            try:
                self._trim(self._broker)
            except OperationalError as error:
                logger.debug("quarantine: %s", error)  # the next look is soon

    def look(self) -> None:
        """Thin out if it is time, and tell."""
        with self._lock:
            now = self._clock.monotonic()
            if self._broker is not None and now - self._looked_at >= LOOK_SECONDS:
                self._trim(self._broker)
            if self._gone and now - self._told_at >= TELL_SECONDS:
                self._tell(now)

    def end(self) -> None:
        """Tell what is not told."""
        with self._lock:
            if self._gone:
                self._tell(self._clock.monotonic())

    def _trim(self, broker: Quarantining) -> None:
        self._looked_at = self._clock.monotonic()
        self.fills = fills = broker.quarantined()
        self._messages = self._bytes = 0
        self._warn(total(fills))
        for fill in thin_out(broker, find_excess(fills, self._bounds)):
            self._gone[fill.reason] += fill.messages
            self._gone_bytes += fill.bytes

    def _warn(self, fill: Fill) -> None:
        """Say once that it is nearly full."""
        share = max(fill.messages / self._bounds.messages, fill.bytes / self._bounds.bytes)
        if share >= _NEARLY_FULL and not self._is_nearly_full:
            logger.warning(
                "quarantine: %d messages of %d bytes lie there, which is %d %% of what may; beyond it the oldest of "
                "the most frequent reason go. See `cardoon quarantine list`",
                fill.messages,
                fill.bytes,
                100 * share,
            )
        self._is_nearly_full = share >= _NEARLY_FULL

    def _tell(self, now: float) -> None:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._gone.most_common())
        logger.warning("quarantine: it was full; deleted %s", reasons)
        self._audit.record(
            "quarantine.overflow",
            messages=self._gone.total(),
            bytes=self._gone_bytes,
            reasons=reasons,
        )
        self._gone.clear()
        self._gone_bytes = 0
        self._told_at = now
