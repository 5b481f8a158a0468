"""A worker's word on its own audit log: put into the store, and held against what was said there before."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from cardoon.audit import AuditLog
from cardoon.exceptions import CardoonError, SecurityError
from cardoon.records import Record
from cardoon.transparency.archive import Archive
from cardoon.transparency.epochs import Epoch, load_epoch
from cardoon.transparency.notes import NoteError, SignedNote
from cardoon.transparency.places import Places, notes_of
from cardoon.transparency.reading import LogReader
from cardoon.transparency.testimony import (
    Conflict,
    ForkError,
    Testimony,
    begin_testimony,
    name_of,
)
from cardoon.transparency.verifying import read_notes

logger = logging.getLogger(__name__)

YOUNG_LOOKS = 5
"""Steps stay for so many intervals at least, and whoever has looked within one fewer finds the one it knows."""
_NONE = Record(0, b"")
"""Where there is none."""


class Alarm:
    """Puts on record that a log is not what it was, and keeps what proves it."""

    def __init__(self, archive: Archive, audit: AuditLog) -> None:
        self._archive = archive
        self._audit = audit

    def contradicted(self, seen: Testimony, told: int, conflict: Conflict) -> None:
        """A log of `told` records contradicts a testimony."""
        event = "audit.rollback" if conflict.is_rollback else "audit.fork"
        logger.critical("audit log %s: %s: %s", seen.origin, event, conflict.detail)
        self._audit.record(
            event, log=seen.origin, seen=seen.size, told=told, detail=conflict.detail
        )
        try:
            is_kept = self._archive.dispute(seen)
        except CardoonError as error:
            logger.error("audit log %s: what it contradicts is not kept: %s", seen.origin, error)  # noqa: TRY400
        else:
            if not is_kept:
                logger.error("audit log %s: too many disputes are kept already", seen.origin)

    def refused(self, name: str, error: ValueError) -> None:
        """What lies in the store is nobody's testimony who is trusted."""
        if isinstance(error, ForkError):
            logger.critical("audit log %s: audit.fork: %s", name, error)
            self._audit.record("audit.fork", log=name, detail=str(error))
        else:
            logger.warning("audit log %s: a testimony is not believed: %s", name, error)
            self._audit.record("audit.testimony_refused", log=name, detail=str(error))


class OwnTestimony:
    """Testifies to one log, and holds it against what was testified to it before. For one thread."""

    def __init__(self, archive: Archive, alarm: Alarm, *, audit: AuditLog, interval: float) -> None:
        assert audit.path is not None
        self._archive = archive
        self._alarm = alarm
        self._audit = audit
        self._path: Path = audit.path
        self._interval = interval
        self._reader = LogReader(self._path)
        self._mine: Testimony | None = None
        self._recalled: Testimony | None = None
        self._record = _NONE
        """What lies in the store, as it was seen or written last."""
        self._is_compared = False
        self._is_told = False
        self._certificate: SignedNote | None = None
        self._is_changed = False
        self._is_uncertified = False

    @property
    def origin(self) -> str:
        """The log's name; empty before it has one."""
        note = self._audit.last_note
        if note is not None:
            return note.note.origin
        epoch = self._load_epoch()
        return "" if epoch is None else epoch.origin

    def _load_epoch(self) -> Epoch | None:
        with contextlib.suppress(OSError, SecurityError):  # who begins the next one says so
            return load_epoch(Places(self._path).key)
        return None

    def recall(self, testimony: Testimony) -> None:
        """What a process before this one has testified; counts where the store has nothing."""
        self._recalled = testimony

    def compare(self, record: Record | None) -> None:
        """Hold the log against what lies in the store, if that is not what this process put there."""
        if self._is_compared and (record or _NONE) == self._record:
            return
        recalled, self._recalled = self._recalled, None
        told = recalled if record is None else self._open(record)
        self._record, self._is_compared, self._is_told = record or _NONE, True, False
        known = self._mine
        if told is None:
            return
        if known is not None and told.size < known.size:
            logger.warning("audit log %s: the store was set back, and is told again", told.origin)
            return
        conflict = self._find_conflict(told)
        if conflict is not None:
            self._alarm.contradicted(told, self._audit.size, conflict)
        is_linked = conflict is None and self._reader.tree.size == told.size
        self._mine = told if is_linked else None
        self._is_told = is_linked and record is not None

    def _open(self, record: Record) -> Testimony | None:
        try:
            return self._archive.open(name_of(self.origin), record.frame)
        except ValueError as error:
            self._alarm.refused(self.origin, error)
            return None

    def _find_conflict(self, told: Testimony) -> Conflict | None:
        epoch = self._load_epoch()
        if epoch is not None and epoch.number < told.newest.note.epoch:
            was = f"the key of epoch {epoch.number} is here, and epoch {told.newest.note.epoch} has signed"
            return Conflict(True, was)
        reader = self._reader
        if reader.tree.size > told.size or reader.tree.size == 0:
            reader = self._begin_reading(told.size)
        if reader.is_lost:
            return None
        before, good = self._audit.opened_size, reader.tree.size
        for size, root in told.roots.items():
            if size < good:
                continue
            if not reader.read_to(size):
                here = reader.tree.size
                return Conflict(True, f"{here} records are here, and {told.size} were signed")
            if reader.tree.root() != root:
                if before < told.size:
                    was = f"{before} records were here at the start, and {told.size} were signed"
                    return Conflict(True, was)
                was = f"not the records that were signed: one of {good} to {size - 1}"
                return Conflict(False, was)
            good = size
        reader.mark()
        return None

    def testify(self, *, now: float, is_last: bool = False) -> bool:
        """Put the newest checkpoint of this process in the store; whether it was put there."""
        note = self._audit.last_note
        if note is None:
            return False
        known = None if self._mine is None else self._mine.newest.note
        if known is not None:
            is_new = (note.note.size, note.note.epoch) > (known.size, known.epoch)
            if not is_new and (self._is_told or note.note != known):
                return False
            # Steps of a worker that is started again and again would push out those that others know.
            if not is_last and 0 <= now - known.time < self._interval:
                return False
        certificate = self._find_certificate(note)
        if certificate is None:
            return False
        made = self._make(note, certificate, now)
        revision = self._record.revision
        if made is None or not self._archive.put(made, revision=revision):
            return False
        self._record = Record(revision + 1, made.encode())
        self._mine, self._is_told, self._is_changed = made, True, False
        self._reader.mark()
        return True

    @property
    def testimony(self) -> Testimony | None:
        """What lies in the store, as far as is known here."""
        return self._mine

    def _make(self, note: SignedNote, certificate: SignedNote, now: float) -> Testimony | None:
        size = note.note.size
        if self._mine is None or self._reader.tree.size > size:
            self._begin_reading(size)
        if not self._reader.read_to(size) or self._reader.tree.root() != note.note.root:
            self._mine = None
            if not self._is_changed:
                self._is_changed = True
                logger.critical("audit log %s is not what this worker has signed", self._path)
                self._audit.record("audit.chain_broken", log=note.note.origin, size=size)
            return None
        if self._mine is None or self._reader.span.start != self._mine.size:
            return begin_testimony(note, certificate, self._reader.tree)
        young = YOUNG_LOOKS * self._interval
        return self._mine.extend(note, certificate, self._reader.span, now=now, young_seconds=young)

    def _begin_reading(self, size: int) -> LogReader:
        self._reader.close()
        self._reader = LogReader(self._path, size)
        return self._reader

    def _find_certificate(self, note: SignedNote) -> SignedNote | None:
        """The checkpoint that introduced a key, which another process may have made; None if no identity has certified it."""
        known, told = self._certificate, note.note
        if known is None or known.note.epoch != told.epoch:
            known = self._certificate = note if told.key else self._find_first(told.epoch)
        if known is not None and known.note.identity:
            return known
        if not self._is_uncertified:
            self._is_uncertified = True
            logger.warning(
                "audit log %s is another identity's, so nobody is told of its checkpoints; give each role a "
                "log of its own with security_audit_log",
                self._path,
            )
        return None

    def _find_first(self, epoch: int) -> SignedNote | None:
        """The checkpoint with which an epoch began, in this file or the one before."""
        found = None
        for log in [*Places(self._path).earlier()[-1:], self._path]:
            for one in read_notes(notes_of(log)):
                if not isinstance(one, NoteError) and one.note.epoch == epoch and one.note.key:
                    found = one
        return found
