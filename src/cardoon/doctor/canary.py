"""Tells what a canary finds: once of each thing, again after an hour, and that it still looks."""

from __future__ import annotations

import logging

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.doctor.exposure import Round, Verdict

logger = logging.getLogger(__name__)

EXPOSED = "firewall.port_exposed"
FILTERED = "firewall.port_filtered"
BLIND = "firewall.canary_blind"
LOOKS = "firewall.canary"
"""Events of the audit trail."""
SECONDS_BETWEEN_TELLINGS = 3600.0
"""Of what stays as it is."""


class Canary:
    """Takes one round after the other."""

    def __init__(self, *, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}
        self._exposed: frozenset[str] = frozenset()

    def take(self, found: Round) -> bool:
        """Tell what is new of it; whether anything is."""
        is_news = self._tell_exposed(found)
        if found.doubt and self._is_due(BLIND, found.doubt):
            is_news = True
            logger.error("canary: %s", found.doubt)
            self._audit.record(BLIND, host=found.host, detail=found.doubt)
        if not found.doubt:
            self._forget(BLIND)
        if self._is_due(LOOKS, found.verdict.value):
            is_news = True
            self._audit.record(
                LOOKS,
                host=found.host,
                verdict=found.verdict.value,
                targets=len(found.targets),
                exposed=len(found.exposed),
            )
        return is_news

    def _tell_exposed(self, found: Round) -> bool:
        now = {one.place: one.answer for one in found.exposed}
        due = [place for place in now if self._is_due(EXPOSED, place)]
        for place in due:
            logger.critical("canary: %s is %s from here", place, now[place].value)
            self._audit.record(EXPOSED, host=found.host, target=place, detail=now[place].value)
        # Of what is in doubt nobody knows that it is mended.
        mended = (
            self._exposed - now.keys() if found.verdict is not Verdict.UNCHECKED else frozenset()
        )
        for place in sorted(mended):
            self._forget(EXPOSED, place)
            self._audit.record(FILTERED, host=found.host, target=place)
        self._exposed = (self._exposed - mended) | now.keys()
        return bool(due or mended)

    def _is_due(self, event: str, detail: str) -> bool:
        now = self._clock.monotonic()
        said = self._told.get((event, detail))
        if said is not None and now - said < SECONDS_BETWEEN_TELLINGS:
            return False
        self._told[event, detail] = now
        return True

    def _forget(self, event: str, detail: str = "") -> None:
        """What comes again is news again."""
        for one in [one for one in self._told if one[0] == event and detail in {"", one[1]}]:
            del self._told[one]
