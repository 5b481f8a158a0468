"""Has the store, and the other workers, know how far each audit log was: so none is set back or written anew unseen.

A worker testifies to its own log, holds it against what was testified before, and remembers the testimonies of the
others' logs, in a file as well, so that whoever has the store cannot have all of them forget.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cardoon.attesting import make_witness
from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.exceptions import CardoonError, OperationalError, SecurityError
from cardoon.records import Record, Recording
from cardoon.transparency.archive import MAX_LOGS, Archive
from cardoon.transparency.places import Places, open_guarded
from cardoon.transparency.testimony import Testimony, name_of
from cardoon.worker.testifying import YOUNG_LOOKS, Alarm, OwnTestimony

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker

logger = logging.getLogger(__name__)

MAX_REFUSED = 50
"""Names in the store under which nothing lies that is believed, of which there are records."""
MAX_MEMORY_BYTES = 64 * 2**20
"""Of the file with what was seen."""


class Witnesses:
    """A chore: testifies to our own log, and looks at what others testify to theirs. For one thread.

    The first look raises `OperationalError` while the store is away: nothing is signed before it.
    """

    def __init__(
        self, archive: Archive, *, audit: AuditLog, clock: Clock, interval: float, memory: Path
    ) -> None:
        self._archive = archive
        self._alarm = Alarm(archive, audit)
        self._own = OwnTestimony(archive, self._alarm, audit=audit, interval=interval)
        self._audit = audit
        self._clock = clock
        self._interval = interval
        self._next = clock.monotonic()
        self._has_looked = False
        self._had_checkpoint = False
        """Whether there was one, of this process, at the last look."""
        self._is_away = False
        self._memory = memory
        self._records: dict[str, Record] = {}
        """As they were judged last: one that was dropped and made anew may have the same revision."""
        self._seen: dict[str, Testimony] = {}
        """What was testified last of each log."""
        self._watched: set[str] = set()
        """Logs at which this process has looked all the time since: the next testimony must lead from that one."""
        self._looked_at = clock.monotonic()
        self._refused: set[str] = set()

    def look(self) -> None:
        """Look, if it is time; at once when there is a first checkpoint to tell of."""
        now = self._clock.monotonic()
        has_checkpoint = self._audit.last_note is not None
        if now < self._next and has_checkpoint == self._had_checkpoint:
            return
        if not self._has_looked:
            self._remember()
        try:
            self._look(now)
        except OperationalError as error:
            if not self._has_looked:
                raise
            if not self._is_away:
                logger.warning("audit log: nobody can be told of checkpoints: %s", error)
            self._is_away = True
        except CardoonError as error:
            logger.error("audit log: nobody can be told of checkpoints: %s", error)  # noqa: TRY400
        else:
            self._is_away = False
        self._next = now + self._interval
        self._has_looked, self._had_checkpoint = True, has_checkpoint

    def end(self) -> None:
        """Testify to all that was recorded; what cannot be told is logged."""
        if not self._has_looked:
            return
        try:
            self._audit.checkpoint()
            self._own.compare(self._archive.read().get(name_of(self._own.origin)))
            if self._own.testify(now=self._clock.now(), is_last=True):
                self._store()
        except (OSError, CardoonError) as error:
            logger.warning("audit log: nobody was told of the last checkpoint: %s", error)

    def _look(self, now: float) -> None:
        records = self._archive.read()
        if now - self._looked_at >= (YOUNG_LOOKS - 1) * self._interval:
            self._watched.clear()
        self._looked_at = now
        own = name_of(self._own.origin)
        self._own.compare(records.get(own))
        is_news = self._own.testify(now=self._clock.now())
        if is_news:
            self._archive.drop_oldest(records)
        for name, record in records.items():
            if name != own:
                is_news |= self._look_at(name, record)
        for name in self._records.keys() - records.keys():
            del self._records[name]
        if is_news:
            self._store()

    def _look_at(self, name: str, record: Record) -> bool:
        """Judge the testimony of another's log; whether there was a new one."""
        if self._records.get(name) == record:
            return False
        self._records[name] = record
        try:
            told = self._archive.open(name, record.frame)
        except ValueError as error:
            if name not in self._refused and len(self._refused) < MAX_REFUSED:
                self._refused.add(name)
                self._alarm.refused(name, error)
            return False
        self._refused.discard(name)
        seen = self._seen.pop(name, None)
        if seen is not None:
            conflict = seen.find_conflict(told, is_recent=name in self._watched)
            if conflict is not None:
                self._alarm.contradicted(seen, told.size, conflict)
        self._seen[name] = told
        self._watched.add(name)
        while len(self._seen) > MAX_LOGS:
            oldest = next(iter(self._seen))  # of which nothing was heard for longest
            del self._seen[oldest]
            self._watched.discard(oldest)
        return True

    def _remember(self) -> None:
        """Read what a process before this one has seen."""
        own = name_of(self._own.origin)
        try:
            with self._memory.open("rb") as file:
                told = json.loads(file.read(MAX_MEMORY_BYTES))
            for name, frame in told.items():
                with contextlib.suppress(ValueError):
                    testimony = self._archive.open(name, base64.b64decode(frame))
                    if name == own:
                        self._own.recall(testimony)
                    else:
                        self._seen[name] = testimony
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            logger.warning(
                "%s: what other logs were is not known any more: %s", self._memory, error
            )

    def _store(self) -> None:
        known = [*self._seen.values()]
        if self._own.testimony is not None:
            known.append(self._own.testimony)
        told = {name_of(one.origin): base64.b64encode(one.encode()).decode() for one in known}
        beside = self._memory.with_name(f"{self._memory.name}.new")
        try:
            descriptor = open_guarded(beside, os.O_WRONLY | os.O_TRUNC)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(told).encode())
            beside.replace(self._memory)
        except (OSError, SecurityError) as error:
            logger.warning("%s: what other logs are is not noted: %s", self._memory, error)


def make_witnesses(worker: Worker) -> list[Witnesses]:
    """The chore of a worker; none where nothing is signed, or where no store keeps records."""
    interval = worker.settings.security_audit_witness_interval
    stores: tuple[object, ...] = (worker.broker, worker.backend)
    store = next((one for one in stores if isinstance(one, Recording)), None)
    if not interval or store is None or not worker.deployment.signs or worker.audit.path is None:
        return []
    archive = Archive(store, make_witness(worker.deployment))
    return [
        Witnesses(
            archive,
            audit=worker.audit,
            clock=worker.clock,
            interval=interval,
            memory=Places(worker.audit.path).beside("seen"),
        )
    ]
