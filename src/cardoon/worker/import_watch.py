"""The worker's end of its import guards: has them stand, and puts on record what they stop.

The guards stand before the app is imported, so what is wanted of them is known from the command line and the
environment. What they say before the worker is built is kept until there is an audit log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from cardoon.audit import AuditLog
from cardoon.clock import Clock, SystemClock
from cardoon.config import Settings, find_state_directory
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError, DriftError, ImproperlyConfigured
from cardoon.integrity.approved import make_place
from cardoon.integrity.findings import escape
from cardoon.integrity.importing import Blocked, BlockedImportError, Mode
from cardoon.syslog.service import sending
from cardoon.worker.import_guard import stand, tell_guard

if TYPE_CHECKING:
    from cardoon.worker.drift import DriftWatch

logger = logging.getLogger(__name__)

EVENT = "integrity.import_blocked"
MOST_TOLD = 20
"""Files that have a record within an hour."""
_HOUR = 3600.0
_NAMES = ("integrity_imports", "integrity_baseline", "integrity_key")


class ImportWatch:
    """Of one worker. A chore; `take` is for any thread."""

    def __init__(self, draft: Settings, *, clock: Clock | None = None) -> None:
        if not draft.integrity_baseline:
            raise ImproperlyConfigured(
                f"integrity_imports is {draft.integrity_imports!r}, and integrity_baseline is not set; the app is not "
                "imported yet, so name it with --integrity-baseline or CARDOON_INTEGRITY_BASELINE"
            )
        self._draft = draft
        self._clock = clock or SystemClock()
        self._mode = Mode(draft.integrity_imports)
        self._place = make_place(
            draft.integrity_baseline, draft.integrity_key, find_state_directory(draft)
        )
        self._lock = threading.Lock()
        self._begun = self._clock.monotonic()
        self._told: set[Blocked] = set()
        self._waiting: list[tuple[Blocked, bool]] = []
        self._audit: AuditLog | None = None
        self._react: Callable[[], None] = lambda: None
        self._drift: DriftWatch | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the guards go by, for the worker to go by as well, whatever the app says."""
        return {name: getattr(self._draft, name) for name in _NAMES}

    def tell(self) -> dict[str, Any]:
        """What a process is told that is to import the app; `SecurityError` where no baseline counts."""
        return tell_guard(self._place, self._mode)

    @contextlib.contextmanager
    def beginning(self) -> Iterator[None]:
        """Around the start of a worker: guard the imports of this process; what was found is on record if it fails."""
        try:
            stand(self.tell(), self.take)
            yield
        except BlockedImportError as error:
            self._record_failure()
            raise DriftError(str(error)) from error
        except CardoonError:
            self._record_failure()
            raise

    def join(self, audit: AuditLog, react: Callable[[], None], drift: DriftWatch) -> None:
        """The worker is built: record there, and react so."""
        self._audit, self._react, self._drift = audit, react, drift

    def take(self, found: Blocked, *, is_certain: bool = True) -> None:
        """Hear of a file. What a task process says is not certain: then the files themselves are looked at."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._begun > _HOUR:
                self._begun = now
                self._told.clear()
            if found not in self._told and len(self._told) < MOST_TOLD:
                self._told.add(found)
                self._waiting.append((found, is_certain))

    # A Chore

    def look(self) -> None:
        """Record what was heard of, and react."""
        if self._audit is None:
            return
        for found, is_certain in self._record(self._audit):
            if is_certain:
                self._react()
            elif self._drift is not None:
                logger.warning("%s, a task process says; all files are checked", found)
                self._drift.want(full=True)

    def end(self) -> None:
        """Record the last."""
        if self._audit is not None:
            self._record(self._audit)

    def _record(self, audit: AuditLog) -> list[tuple[Blocked, bool]]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for found, _ in waiting:
            logger.critical("%s; see `cardoon integrity check`, and find out who changed it", found)
            audit.record(
                EVENT,
                module=escape(found.module),
                path=escape(found.path),
                expected=escape(found.expected),
                found=escape(found.found),
                refused=self._mode is not Mode.RECORD,
            )
        return waiting

    def _record_failure(self) -> None:
        """The worker does not start, and the app's settings are not known: go by those that are."""
        deployment = Deployment(self._draft, clock=self._clock, role="worker")
        audit = deployment.audit()
        with sending(audit, self._draft, clock=self._clock):
            self._record(audit)


def watch_imports(draft: Settings) -> ImportWatch | None:
    """What the settings ask for that are known before the app is imported; None for nothing."""
    return None if draft.integrity_imports == Mode.OFF else ImportWatch(draft)


def refuse_late(settings: Settings, imports: ImportWatch | None) -> None:
    """Raise `ImproperlyConfigured` where the app asks for a guard, for then it is imported without one."""
    if imports is None and settings.integrity_imports != Mode.OFF:
        raise ImproperlyConfigured(
            f"integrity_imports is {settings.integrity_imports!r} in the app's own settings, which are read when it is "
            "imported already; say it with --integrity-imports or CARDOON_INTEGRITY_IMPORTS"
        )
