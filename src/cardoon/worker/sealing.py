"""Has a worker's audit log signed: a checkpoint in time, and a new key for each epoch."""

from __future__ import annotations

import logging

from cardoon.attesting import certifier_of
from cardoon.audit import AuditLog, keeping_of
from cardoon.clock import Clock
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""Until an epoch is tried again that could not begin; what was signed with is signed with meanwhile."""


class AuditKeeper:
    """A chore: begins an epoch at the worker's start and each time one has lasted, and signs between. For one thread."""

    def __init__(self, deployment: Deployment, *, audit: AuditLog, clock: Clock) -> None:
        self._deployment = deployment
        self._audit = audit
        self._clock = clock
        self._seconds = keeping_of(deployment.settings).seconds
        self._epoch_seconds = deployment.settings.security_audit_epoch_seconds
        self._ends_at = clock.monotonic()
        self._next = clock.monotonic()
        self._is_paused = False

    def look(self) -> None:
        """Sign, or hand over, if it is time; cheap if it is not."""
        now = self._clock.monotonic()
        self._tell_pause()
        if now >= self._ends_at:
            self._ends_at = now + self._epoch_seconds
            self._next = now + self._seconds
            if not self._begin_epoch():
                self._ends_at = now + min(RETRY_SECONDS, self._epoch_seconds)
        elif now >= self._next:
            self._next = now + self._seconds
            self._audit.checkpoint()

    def end(self) -> None:
        """Nothing is left to do: closing the log signs what there is."""

    def _tell_pause(self) -> None:
        if self._audit.must_pause:
            self._audit.retry()
        if self._audit.must_pause == self._is_paused:
            return
        self._is_paused = not self._is_paused
        if self._is_paused:
            logger.critical(
                "audit log %s cannot be written (%s), and security_audit_required is set: this worker takes no task "
                "until it can; make room, or mend its folder",
                self._audit.path,
                self._audit.failure,
            )
        else:
            logger.warning("audit log %s is written again, and tasks are taken", self._audit.path)

    def _begin_epoch(self) -> bool:
        """Whether one has begun, where there is a log."""
        try:
            certifier = certifier_of(self._deployment)
        except CardoonError:
            logger.exception("audit log: no identity certifies this epoch")
            certifier = None
        begun = self._audit.begin_epoch(certifier)
        return begun is not None or self._audit.path is None
