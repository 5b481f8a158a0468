"""One round of a beat: take in what has changed, send what is due, note how far it was sent.

    sources -> Agenda (decides) -> sending (ids, nonces) -> Sender -> Notes

The order is what makes it safe: a tick is noted right after it was sent. Killed in between, the next beat sends
it once more, with the same id and nonce, so that the store or else a worker drops the copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cardoon.audit import AuditLog
from cardoon.beat.agenda import Agenda, Due, Round, timing_of
from cardoon.beat.notes import Notes
from cardoon.beat.sending import SendCalls, Sending, Terms, mark, send
from cardoon.beat.sources import EntrySource, gather
from cardoon.beat.ticks import Name, note_name
from cardoon.clock import Clock
from cardoon.exceptions import CardoonError, ImproperlyConfigured, OperationalError
from cardoon.sender import Call, Duplicate, Receipt
from cardoon.timetable import PeriodicTask

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 5.0
"""How soon a change of a source is seen; `beat_max_loop_interval` changes it."""
STANDBY_SECONDS = 0.5
"""How long whoever was behind another beat lets it go first."""
BATCH = 256
"""Ticks that are sent in one transaction."""
_FORGET_DAYS = 400
"""After which a note is deleted that no entry has: longer than from one year's tick to the next."""
_REMEMBERED_FAULTS = 10_000

MakeCalls = Callable[[PeriodicTask, Name], list[Call]]
"""The calls of a tick, by whoever knows the app."""


@dataclass(slots=True)
class Tally:
    """What a beat has done since it began."""

    sent: int = 0
    copies: int = 0
    """Ticks that another beat, or this one before, had sent."""
    skipped: int = 0
    """Ticks that were not sent because an earlier one's task had not ended (`overlap`)."""
    missed: int = 0
    """Ticks that came too late to be sent, at least."""
    failed: int = 0
    """Ticks that could not be sent as their entry says."""


class Rounds:
    """Does one round after the other, for one thread at a time. Neither waits nor has a thread of its own.

    Without `notes` nothing outlives it, and it must be the only one. If it `is_strict`, it raises what is wrong
    with an entry, instead of going on with the others.
    """

    def __init__(
        self,
        sources: Sequence[EntrySource],
        *,
        make_calls: MakeCalls,
        send_calls: SendCalls,
        notes: Notes | None,
        terms: Terms,
        agenda: Agenda,
        audit: AuditLog,
        clock: Clock,
        timeout: float = 10.0,
        max_interval: float = LOOK_AGAIN_SECONDS,
        is_strict: bool = False,
    ) -> None:
        self.tally = Tally()
        self.agenda = agenda
        self._sources = sources
        self._make_calls = make_calls
        self._send_calls = send_calls
        self._notes = notes
        self._terms = terms
        self._audit = audit
        self._clock = clock
        self._timeout = timeout
        self._max_interval = max_interval
        self._is_strict = is_strict
        self._signer = b"" if notes is None else notes.signer
        self._revisions: list[object] = []
        self._entries: dict[str, PeriodicTask] = {}
        self._unknown: list[str] = []
        self._unnoted: dict[str, datetime] = {}
        self._faults: dict[str, str] = {}
        self.stands_by = False
        """Whether another beat was faster the last time, and is let go first."""

    @property
    def entries(self) -> dict[str, PeriodicTask]:
        """The entries as they were seen last, by name."""
        return self._entries

    def step(self) -> float:
        """Do what is due; returns in how many seconds to come again, at the latest.

        Raises `OperationalError` where the store does not answer: nothing is lost, come again later.
        """
        self._note()
        self.follow()
        now = self._now()
        found = self.agenda.look(now)
        if self.stands_by and found.ticks:
            wait = STANDBY_SECONDS - (now - found.ticks[0].due).total_seconds()
            if wait > 0:
                return wait
            self._catch_up_with_others()
            found = self.agenda.look(now)
        self._send(found)
        return self._until_next()

    def _until_next(self) -> float:
        due = self.agenda.next_due()
        if due is None:
            return self._max_interval
        return min(self._max_interval, max(0.0, (due - self._now()).total_seconds()))

    def follow(self) -> None:
        """Take in what the sources have now."""
        revisions = [source.revision() for source in self._sources]
        if revisions != self._revisions:
            self._entries = gather(self._sources)
            self._unknown = self.agenda.follow(self._entries)
            self._revisions = revisions
        if self._unknown:
            self._begin(self._unknown)
            self._unknown = []
        if self._notes is not None and self._signer != self._notes.signer:
            # Notes by a certificate that ends are believed no longer than that.
            self._signer = self._notes.signer
            for name in self._entries:
                self._unnoted.setdefault(name, self.agenda.last(name))

    def _begin(self, names: Sequence[str]) -> None:
        """Have entries begin where they were left, or now."""
        notes, now = self._notes, self._now()
        if notes is None:
            for name in names:
                self.agenda.begin(name, self._entries[name], now)
            return
        notes.read()
        taken = []
        for name in names:
            entry = self._entries[name]
            found = notes.find(self._note_of(name), entry.task)
            # Of several beats that begin an entry at once, one says when that was.
            if found is None and not self._write_note(name, start := _beginning(entry, now)):
                taken.append(name)
            elif found is None:
                self.agenda.begin(name, entry, start)
            else:
                self._go_on(name, entry, found.last, found.signer)
        if taken:
            notes.read()
        for name in taken:
            entry = self._entries[name]
            found = notes.find(self._note_of(name), entry.task)
            start = _beginning(entry, now) if found is None else found.last
            self.agenda.begin(name, entry, start)
        self._tidy_up(now)

    def _go_on(self, name: str, entry: PeriodicTask, last: datetime, signer: bytes) -> None:
        self.agenda.begin(name, entry, last)
        if signer != self._signer:  # which may be of a certificate that ends
            self._unnoted.setdefault(name, last)

    def _catch_up_with_others(self) -> None:
        """Read how far other beats have come."""
        if self._notes is None:
            return
        self._notes.read()
        for name, entry in self._entries.items():
            found = self._notes.find(self._note_of(name), entry.task)
            if found is not None:
                self.agenda.advance(name, found.last)

    def _send(self, found: Round) -> None:
        here = {tick.name for tick in found.ticks}
        self._tell_missed({n: count for n, count in found.missed.items() if n not in here})
        for start in range(0, len(found.ticks), BATCH):
            batch = found.ticks[start : start + BATCH]
            failed = self._send_batch(batch)
            for tick in batch:
                self.agenda.advance(tick.name, tick.due)
                if tick not in failed:
                    self._unnoted[tick.name] = tick.due
            self._note()
        self._tell_missed({n: count for n, count in found.missed.items() if n in here})
        for name, told in self.agenda.take_broken().items():
            self._complain(name, self._entries[name], told)

    def _send_batch(self, batch: Sequence[Due]) -> list[Due]:
        """Send those that are to be sent; returns those that cannot be."""
        failed = []
        ready: list[tuple[Due, Sending]] = []
        for tick in batch:
            if not tick.is_sent:
                continue
            entry, name = tick.entry, self._name_of(tick)
            try:
                calls = self._make_calls(entry, name)
                ready.append((tick, mark(calls, entry, name, self._terms, now=self._clock.now())))
            except Exception as error:  # noqa: BLE001  # of an app's routes, serializers and receivers
                self._fail(tick, error)
                failed.append(tick)
        return failed + self._send_together(ready)

    def _send_together(self, ready: Sequence[tuple[Due, Sending]]) -> list[Due]:
        """All in one transaction; one by one, where something about one of them is wrong."""
        if not ready:
            return []
        try:
            receipts = send(self._send_calls, [one for _, one in ready], timeout=self._timeout)
        except OperationalError:
            raise
        except CardoonError as error:
            if len(ready) > 1:
                return [failed for one in ready for failed in self._send_together([one])]
            tick = ready[0][0]
            self._fail(tick, error)
            return [tick]
        for (tick, sending), receipt in zip(ready, receipts, strict=True):
            self._tell_sent(tick, sending, receipt)
        return []

    def _tell_sent(self, tick: Due, sending: Sending, receipt: Receipt) -> None:
        told = (shown(tick.name, tick.entry), tick.due.isoformat())
        if not isinstance(receipt, Duplicate):
            self.tally.sent += 1
            self._faults.pop(tick.name, None)
            logger.info("beat: %s: sent what was due at %s", *told)
        elif receipt.id == sending.name.task_id:
            self.tally.copies += 1
            logger.debug("beat: %s: what was due at %s had been sent", *told)
        else:
            self.tally.skipped += 1
            logger.info("beat: %s: nothing sent at %s, %s has not ended", *told, receipt.id)

    def _tell_missed(self, missed: Mapping[str, int]) -> None:
        for name, count in missed.items():
            self.tally.missed += count
            entry = self._entries[name]
            logger.warning(
                "beat: %s: at least %d came too late to be sent", shown(name, entry), count
            )
            self._audit.record("beat.missed", task=entry.task, count=count)

    def _fail(self, tick: Due, error: Exception) -> None:
        self.tally.failed += 1
        if self._is_strict:
            raise error
        self._complain(tick.name, tick.entry, f"{type(error).__name__}: {error}")

    def _complain(self, name: str, entry: PeriodicTask, told: str) -> None:
        """Say what is wrong with an entry; once, for as long as it is the same."""
        if self._faults.get(name) == told:
            return
        if len(self._faults) >= _REMEMBERED_FAULTS:
            self._faults.clear()
        self._faults[name] = told
        logger.error("beat: %s cannot be sent: %s", shown(name, entry), told)
        self._audit.record("beat.failed", task=entry.task, detail=told)

    def _note(self) -> None:
        """Write down how far entries were sent."""
        if self._notes is None:
            self._unnoted.clear()
        lost = []
        while self._unnoted:
            name, last = next(iter(self._unnoted.items()))
            if name in self._entries:
                was_written = self._write_note(name, last)
                self.stands_by = not was_written
                if not was_written:
                    lost.append(name)
            del self._unnoted[name]
        if not lost:
            return
        self._catch_up_with_others()
        assert self._notes is not None
        for name in lost:
            found = self._notes.find(self._note_of(name), self._entries[name].task)
            if found is None or found.last < self.agenda.last(name):
                self._unnoted[name] = self.agenda.last(name)

    def _write_note(self, name: str, last: datetime) -> bool:
        assert self._notes is not None
        try:
            return self._notes.write(self._note_of(name), self._entries[name].task, last)
        except ImproperlyConfigured as error:  # there are too many notes
            logger.error("beat: %s", error)  # noqa: TRY400
            return True

    def _tidy_up(self, now: datetime) -> None:
        """Delete the notes of entries that were long ago."""
        assert self._notes is not None
        known = {self._note_of(name) for name in self._entries}
        for name in self._notes.older_than(now - timedelta(days=_FORGET_DAYS)):
            if name not in known:
                self._notes.forget(name)

    def _note_of(self, name: str) -> str:
        entry = self._entries[name]
        timing = timing_of(entry, self.agenda.zone)
        return note_name(self._terms.domain, entry.task, name, timing)

    def _name_of(self, tick: Due) -> Name:
        return Name(self._terms.domain, tick.entry.task, tick.name, tick.due)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)


def shown(name: str, entry: PeriodicTask) -> str:
    """What people are told of an entry: not a name that was made of its arguments."""
    return entry.task if name.startswith(f"{entry.task}(") else f"{name} ({entry.task})"


def _beginning(entry: PeriodicTask, now: datetime) -> datetime:
    """When an entry begins, in whole seconds where its period has them: so its ticks are, too."""
    period = getattr(entry.schedule, "run_every", timedelta(seconds=1))
    if period % timedelta(seconds=1):
        return now.replace(microsecond=now.microsecond // 1000 * 1000)
    return now.replace(microsecond=0)
