"""Has the doctor look at a worker's host: before it starts, where that is asked for, and from time to time."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.doctor.catalogue import select
from cardoon.doctor.check import Severity, State, Verdict
from cardoon.doctor.examining import count, examine
from cardoon.doctor.looking import look
from cardoon.doctor.waivers import Book, waive
from cardoon.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)

FOUND = "doctor.finding"
MENDED_EVENT = "doctor.mended"
"""Events of the audit trail."""
_MOST_NAMED = 10

Examine = Callable[[], Sequence[Verdict]]


class Checkup:
    """Looks, and tells of what is found: once of each finding, until it is mended. A chore."""

    def __init__(
        self, settings: Settings, *, examine: Examine, audit: AuditLog, clock: Clock, worker: str
    ) -> None:
        self._settings = settings
        self._examine = examine
        self._audit = audit
        self._clock = clock
        self._worker = worker
        self._next_look = clock.monotonic()
        self._thread: threading.Thread | None = None
        self._told: frozenset[str] = frozenset()
        self.counts: Mapping[str, int] = {}
        """How much was found open when it looked last, by severity; empty before the first look."""

    def require(self) -> None:
        """Look now, where `doctor_require` asks for it; `ImproperlyConfigured` if that finds too much.

        What could not be checked is logged, and keeps no worker from starting: a broker may be away.
        """
        if not self._settings.doctor_require:
            return
        least = Severity.parse(self._settings.doctor_require)
        verdicts = self.look_now()
        unchecked = [one.check.id for one in verdicts if one.state is State.UNCHECKED]
        if unchecked:
            logger.warning("doctor: could not check %s", ", ".join(unchecked))
        found = [one.check.id for one in verdicts if one.is_open and one.check.severity >= least]
        if found:
            raise ImproperlyConfigured(
                f"doctor_require={self._settings.doctor_require!r}, and {', '.join(found[:_MOST_NAMED])} "
                "are open; run `cardoon doctor --deploy --fix-hints` as this user, and mend or waive them"
            )

    def look(self) -> None:
        """Have somebody look, if it is time; waits for nothing."""
        interval, now = self._settings.doctor_interval, self._clock.monotonic()
        if not interval or now < self._next_look:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._next_look = now + interval
        # Leases are renewed by the thread that comes here, and servers may take seconds to answer.
        self._thread = threading.Thread(target=self._look_apart, name="doctor", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Nothing is left to tell."""

    def wait(self, seconds: float) -> None:
        """Wait for a look that is under way."""
        if self._thread is not None:
            self._thread.join(seconds)

    def look_now(self) -> Sequence[Verdict]:
        """Look, and tell what has been found and what has been mended."""
        self._next_look = self._clock.monotonic() + self._settings.doctor_interval
        verdicts = self._examine()
        self.counts = {one.text: number for one, number in count(verdicts).items()}
        found = {one.check.id: one for one in verdicts if one.is_open}
        for one in found.keys() - self._told:
            self._tell(found[one])
        for one in self._told - found.keys():
            self._audit.record(MENDED_EVENT, id=one, worker=self._worker)
        self._told = frozenset(found)
        return verdicts

    def _tell(self, verdict: Verdict) -> None:
        check = verdict.check
        if check.severity is Severity.INFO:
            return
        logger.warning("doctor: %s %s: %s", check.severity.text, check.id, verdict.evidence[0])
        self._audit.record(
            FOUND,
            id=check.id,
            severity=check.severity.text,
            title=check.title,
            detail=verdict.evidence[0],
            worker=self._worker,
        )

    def _look_apart(self) -> None:
        try:
            self.look_now()
        except Exception:  # what the doctor falls over must not stop the worker
            logger.exception("the doctor could not look")


def make_checkup(deployment: Deployment, *, worker: str) -> Checkup:
    """The doctor of one worker, who looks at everything."""
    settings, clock = deployment.settings, deployment.clock

    def examine_host() -> Sequence[Verdict]:
        book = Book(deployment, clock=clock)
        waivers = book.read()
        scene = look(
            settings,
            clock=clock,
            environ=os.environ,
            folder=str(Path.cwd()),
            complaints=book.complaints,
        )
        return waive(examine(scene, select(deploy=True)), waivers)

    return Checkup(
        settings, examine=examine_host, audit=deployment.audit(), clock=clock, worker=worker
    )
