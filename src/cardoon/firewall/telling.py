"""Tells what was found of the firewall: once of each thing, and again after an hour while it stays wrong."""

from __future__ import annotations

import logging
import threading

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.firewall.judging import Finding, Verdict

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_ALARMS = 3600.0
"""While the same is wrong."""
EVENTS = {
    Verdict.OK: "firewall.restored",
    Verdict.ABSENT: "firewall.absent",
    Verdict.CHANGED: "firewall.changed",
    Verdict.UNKNOWN: "firewall.unchecked",
}
"""In the audit trail, when a verdict is another than the last."""


class Teller:
    """Takes one finding after the other, from any thread. `action` is what is done on an alarm, for the records."""

    def __init__(self, *, action: str, audit: AuditLog, clock: Clock) -> None:
        self._action = action
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()  # protects what follows
        self._said: tuple[Verdict, str] | None = None
        self._said_at = 0.0
        self.verdict = Verdict.UNKNOWN
        """Of the last finding; nothing is well before the first."""

    def take(self, finding: Finding) -> bool:
        """Tell it if it is news; whether there is an alarm now: the rules are gone or changed, and that was told."""
        key = (finding.verdict, finding.digest)
        with self._lock:
            before, self.verdict = self._said, finding.verdict
            now = self._clock.monotonic()
            is_old = key == before and now - self._said_at < SECONDS_BETWEEN_ALARMS
            if is_old or (finding.verdict is Verdict.OK and before in {None, key}):
                self._said = key
                return False
            self._said, self._said_at = key, now
        self._tell(finding)
        return finding.verdict in {Verdict.ABSENT, Verdict.CHANGED}

    def _tell(self, finding: Finding) -> None:
        match finding.verdict:
            case Verdict.OK:
                logger.warning("%s again", finding.describe())
            case Verdict.UNKNOWN:
                logger.error("%s", finding.describe())
            case Verdict.ABSENT | Verdict.CHANGED:
                logger.critical("firewall: %s (%s)", finding.describe(), self._action)
        self._audit.record(
            EVENTS[finding.verdict],
            digest=finding.digest or None,
            expected=finding.expected or None,
            differences=len(finding.differences) or None,
            detail=finding.describe(),
            action=self._action if finding.differences else None,
        )
