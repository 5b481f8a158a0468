"""Which ticks are to be sent now, and when to look again: a state machine without clock, store or thread.

An entry is due at moments that follow from the one before: `schedule.next_after`. Where several beats know the
same moment of an entry, they agree on all that follow.
"""

from __future__ import annotations

import json
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from cardoon.schedules import BaseSchedule, schedule, schedule_to_json
from cardoon.timetable import PeriodicTask

LATE_SECONDS = 10.0
"""A tick that is no later than this is in time, and sent, whatever `catch_up` says."""
WINDOW_SECONDS = 3600.0
"""How old a missed tick may be that is still sent; `beat_cron_starting_deadline` changes it."""
MOST_TICKS = 1000
"""Of one entry, at a time; the rest are due when these are sent."""
_NEVER = datetime.max.replace(tzinfo=UTC)
_MOST_STEPS = 20_000
"""Missed ticks of one entry that are looked at, one by one."""


class Due(NamedTuple):
    """A tick that has come."""

    name: str
    entry: PeriodicTask
    due: datetime
    is_sent: bool
    """Whether it is to be sent; False where it is only to be passed over, since the entry is paused."""


@dataclass(slots=True)
class Round:
    """What one look has found."""

    ticks: list[Due] = field(default_factory=list)
    """In the order in which they were due."""
    missed: dict[str, int] = field(default_factory=dict)
    """How many ticks of an entry are not sent any more, by name."""


@dataclass(slots=True)
class _State:
    entry: PeriodicTask
    last: datetime
    """The last tick that was sent, passed over or missed; or when the entry began."""
    next: datetime


class Agenda:
    """The entries, how far each was sent, and what follows. For one thread at a time.

    `zone` counts for entries whose schedule names none. `window` is in seconds.
    """

    def __init__(self, *, zone: str = "UTC", window: float = WINDOW_SECONDS) -> None:
        self.zone = zone
        self._window = timedelta(seconds=max(window, LATE_SECONDS))
        self._late = timedelta(seconds=LATE_SECONDS)
        self._states: dict[str, _State] = {}
        self._broken: dict[str, str] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._states

    def follow(self, entries: Mapping[str, PeriodicTask]) -> list[str]:
        """Forget what is gone, take in what has changed; returns the names whose beginning it must be told.

        An entry that is due at other times now begins anew.
        """
        kept: dict[str, _State] = {}
        unknown = []
        for name, entry in entries.items():
            state = self._states.get(name)
            if state is None or timing_of(state.entry, self.zone) != timing_of(entry, self.zone):
                unknown.append(name)
            else:
                state.entry = entry
                kept[name] = state
        self._states = kept
        return unknown

    def begin(self, name: str, entry: PeriodicTask, last: datetime) -> None:
        """An entry that was sent up to this moment, or begins with it."""
        self._states[name] = _State(entry, last, self._next(name, entry, last))

    def advance(self, name: str, last: datetime) -> None:
        """Up to this moment it was sent, by whomever. Never goes back."""
        state = self._states.get(name)
        if state is not None and last > state.last:
            state.last, state.next = last, self._next(name, state.entry, last)

    def last(self, name: str) -> datetime:
        """How far it was sent."""
        return self._states[name].last

    def next_due(self) -> datetime | None:
        """When the next tick is due, perhaps in the past; None without entries."""
        return min((state.next for state in self._states.values()), default=None)

    def take_broken(self) -> dict[str, str]:
        """Entries whose schedule has failed since the last call, with the error. They are due no more."""
        broken, self._broken = self._broken, {}
        return broken

    def look(self, now: datetime) -> Round:
        """What is due. It stays so until `advance` is told of it; what is missed does not."""
        found = Round()
        for name, state in self._states.items():
            if state.next <= now:
                self._look_at(name, state, now, found)
        found.ticks.sort(key=lambda tick: tick.due)
        return found

    def _look_at(self, name: str, state: _State, now: datetime, found: Round) -> None:
        entry, latest = state.entry, state.last
        in_time: list[datetime] = []
        missed: list[datetime] = []
        dropped = 0
        for due in self._ticks(name, entry, state.last, now):
            latest = due
            if due >= now - self._late:
                in_time.append(due)
            elif entry.paused or entry.catch_up == "skip" or due < now - self._window:
                dropped += 1
            elif entry.catch_up == "one":
                dropped += len(missed)
                missed = [due]
            else:
                missed.append(due)
            if len(in_time) + len(missed) >= MOST_TICKS:
                break
        if in_time and entry.catch_up == "one":
            dropped, missed = dropped + len(missed), []
        ticks = [*missed, *in_time]
        found.ticks += [Due(name, entry, due, not entry.paused) for due in ticks]
        if dropped and not entry.paused:
            found.missed[name] = dropped
        if not ticks:
            self.advance(name, latest)

    def _ticks(
        self, name: str, entry: PeriodicTask, last: datetime, now: datetime
    ) -> Iterator[datetime]:
        """The ticks behind `last`, up to now. Of those before the window the first, as a sign of all."""
        oldest = now - self._window
        due = self._next(name, entry, last)
        if due < oldest:
            yield due
            due = self._next(name, entry, _jump(entry.schedule, due, oldest))
        steps = 0
        while due <= now:
            yield due
            steps += 1
            if steps == _MOST_STEPS:
                due = _jump(entry.schedule, due, now - self._late)
            due = self._next(name, entry, due)

    def _next(self, name: str, entry: PeriodicTask, last: datetime) -> datetime:
        try:
            return _next_of(entry, last, self.zone)
        except Exception as error:  # noqa: BLE001  # a schedule may be a class of the user's
            self._broken[name] = f"{type(error).__name__}: {error}"
            return _NEVER


def _next_of(entry: PeriodicTask, last: datetime, zone: str) -> datetime:
    due = entry.schedule.next_after(last, zone_of(entry.tz or zone)).astimezone(UTC)
    if type(entry.schedule).next_after is BaseSchedule.next_after:
        # It has Celery's `remaining_estimate`, which counts from a now that passes meanwhile.
        due = (due + timedelta(seconds=0.5)).replace(microsecond=0)
        due = max(due, last + timedelta(seconds=1))
    if due <= last:
        raise ValueError(
            f"its schedule says {due.isoformat()}, which is not later than {last.isoformat()}"
        )
    return due


def timing_of(entry: PeriodicTask, zone: str) -> str:
    """When an entry is due, as text: the same in every process. `zone` counts where it names none."""
    own = entry.schedule.own_tz
    where = entry.tz or (zone if own is None else str(own))
    try:
        times = {n: told for n, told in schedule_to_json(entry.schedule).items() if n != "tz"}
        told = json.dumps(times, sort_keys=True)
    except ValueError:  # a class of its own, whose instances nobody can tell apart
        told = f"{type(entry.schedule).__module__}.{type(entry.schedule).__qualname__}"
    return f"{told} {where}"


def zone_of(name: str) -> tzinfo:
    """The time zone of a name that was checked before."""
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def _jump(due: BaseSchedule, last: datetime, to: datetime) -> datetime:
    """A moment up to which nothing is looked at, for ticks behind it to be the same as one by one."""
    if last >= to:
        return last
    if (
        isinstance(due, schedule)
        and type(due).next_after is schedule.next_after
        and not due.relative
    ):
        return last + (to - last) // due.run_every * due.run_every
    return to
