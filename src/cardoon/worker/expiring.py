"""Warns of certificates that end soon: at a worker's start, and about once an hour."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cardoon.audit import AuditLog
from cardoon.certificates import find_certificates
from cardoon.clock import Clock
from cardoon.config import Settings, content_kind
from cardoon.security.expiry import Finding, State, describe, judge_all

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 3600.0
SECONDS_BETWEEN_WARNINGS = 86_400.0
"""Of one certificate in one state: a log that repeats itself is not read."""
EVENT = "certificate.expiring"
"""In the audit trail; its `state` says whether it has ended already."""


class ExpiryWatch:
    """Looks at every certificate that the worker signs with or trusts. For one thread."""

    def __init__(self, settings: Settings, *, audit: AuditLog, clock: Clock) -> None:
        self._settings = settings
        self._audit = audit
        self._clock = clock
        accepts = {content_kind(name) for name in settings.accept_content}
        self._is_needed = "auth" in accepts or content_kind(settings.result_serializer) == "auth"
        self._next_look = clock.monotonic()
        self._told: dict[tuple[str, str, State], float] = {}
        self.findings: Sequence[Finding] = ()
        """Of the last look."""

    def look(self) -> None:
        """Warn of what needs attention, if it is time to look again; cheap if it is not."""
        now = self._clock.monotonic()
        if not self._is_needed or now < self._next_look:
            return
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        self.findings = findings = judge_all(
            find_certificates(self._settings, role="worker"),
            now=self._clock.now(),
            warning=self._settings.security_expiry_warning,
        )
        told: dict[tuple[str, str, State], float] = {}
        for finding in findings:
            if finding.needs_attention:
                key = (finding.path, finding.fingerprint, finding.state)
                told[key] = self._tell_once_a_day(finding, self._told.get(key), now)
        # What was mended is forgotten, so this grows with the files and not with time.
        self._told = told

    def end(self) -> None:
        """Nothing is left to tell."""

    def _tell_once_a_day(self, finding: Finding, told_at: float | None, now: float) -> float:
        if told_at is not None and now - told_at < SECONDS_BETWEEN_WARNINGS:
            return told_at
        logger.warning("%s", describe(finding))
        self._audit.record(
            EVENT,
            state=finding.state.value,
            part=finding.part.value,
            path=finding.path,
            name=finding.name or None,
            fingerprint=finding.fingerprint or None,
            seconds_left=round(finding.seconds_left) if finding.not_after else None,
            detail=finding.detail or None,
        )
        return now
