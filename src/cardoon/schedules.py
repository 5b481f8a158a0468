"""When periodic tasks are due: `crontab`, `schedule`, and what Celery has beside them.

A schedule does no waiting: `next_after(moment)` is a pure function, and the methods that need to know
what time it is ask the clock of the app, or `nowfun`.

A crontab names times on the wall. Where clocks are changed:

- one that names hours is due **once for each time that it names**: one that is skipped (02:30 on a day
  that has none) at the first moment after, one that is shown twice the first time;
- one for every hour (`hour="*"`) is due **whenever clocks show such a minute**, both times in a
  repeated hour and not for one that is skipped, so that what runs every ten minutes goes on doing so.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple, Protocol

from cardoon.clock import Clock, SystemClock
from cardoon.cronfields import (
    PARSERS,
    CronFields,
    ParseException,
    crontab_parser,
    expand,
)
from cardoon.crontimes import next_named, next_shown, whole_unit
from cardoon.exceptions import ImproperlyConfigured

__all__ = [
    "SOLAR_EVENTS",
    "BaseSchedule",
    "Cronspec",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "schedule_from_json",
    "schedule_to_json",
    "solar",
]

Cronspec = int | str | Iterable[int]
"""What a field may be given as: a number, text in crontab's syntax, or several numbers."""

_MOST_SECONDS = 100 * 366 * 86400.0
"""A century: no period is longer."""
_UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))
SOLAR_EVENTS = (
    *("dawn_astronomical", "dawn_nautical", "dawn_civil", "sunrise", "solar_noon"),
    *("sunset", "dusk_civil", "dusk_nautical", "dusk_astronomical"),
)
"""What `solar` can be due at, in the order of a day."""
_ORDER = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
"""Of the fields in a line of crontab(5)."""


class schedstate(NamedTuple):  # noqa: N801  # Celery's name
    """The answer of `is_due`."""

    is_due: bool
    next: float
    """Seconds until it is worth asking again: until it is due, or due once more."""


class _Settings(Protocol):
    @property
    def timezone(self) -> str: ...


class Timekeeper(Protocol):
    """What a schedule needs of the app: its clock and its time zone."""

    clock: Clock

    @property
    def settings(self) -> _Settings:
        """The settings of this moment."""
        ...


class BaseSchedule:
    """What is due again and again. A subclass has `next_after`, or Celery's `remaining_estimate`.

    `tz`, a name of the tz database or a `tzinfo`, is whose wall clock counts; without it the app's
    setting `timezone`. `nowfun` returns the time where the app's clock is not to be asked.
    """

    def __init__(
        self,
        nowfun: Callable[[], datetime] | None = None,
        app: Timekeeper | None = None,
        *,
        tz: str | tzinfo | None = None,
    ) -> None:
        self.nowfun = nowfun
        self.app = app
        self.own_tz = _zone(tz) if isinstance(tz, str) else tz

    @property
    def tz(self) -> tzinfo:
        """Its time zone: its own, else the app's, else UTC."""
        if self.own_tz is not None:
            return self.own_tz
        return UTC if self.app is None else _zone(self.app.settings.timezone)

    def now(self) -> datetime:
        """The time in its zone."""
        if self.nowfun is not None:
            return _aware(self.nowfun(), self.tz)
        clock = SystemClock() if self.app is None else self.app.clock
        return datetime.fromtimestamp(clock.now(), self.tz)

    def next_after(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """The first time later than `moment` at which it is due, given that it was due then.

        `zone` counts where the schedule has none of its own. A naive `moment` is read in the zone.
        """
        if type(self).remaining_estimate is BaseSchedule.remaining_estimate:
            raise NotImplementedError(f"{type(self).__name__} has no next_after")
        return (_utc(self.now()) + self.remaining_estimate(moment)).astimezone(zone or self.tz)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """The time from now until it is due; less than nothing if that has passed."""
        return _utc(self.next_after(last_run_at)) - _utc(self.now())

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether it is due, when it last ran at `last_run_at`, and when to ask again."""
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(is_due=False, next=left)
        return schedstate(is_due=True, next=self.remaining_estimate(self.now()).total_seconds())

    def maybe_make_aware(self, dt: datetime) -> datetime:
        """The time as one with a zone; a naive one is read in the schedule's."""
        return _aware(dt, self.tz)

    def to_local(self, dt: datetime) -> datetime:
        """The time in the schedule's zone."""
        return _aware(dt, self.tz).astimezone(self.tz)


class schedule(BaseSchedule):  # noqa: N801  # Celery's name
    """Due every `run_every` seconds (or `timedelta`), counted from the last time.

    With `relative` at whole days, hours, minutes or seconds, whichever is the largest that fits into
    the period: every two hours at the full hour. A day of 25 hours is a whole one, too.
    """

    relative: bool = False

    def __init__(
        self,
        run_every: float | timedelta,
        relative: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        nowfun: Callable[[], datetime] | None = None,
        app: Timekeeper | None = None,
        *,
        tz: str | tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, tz=tz)
        self.run_every = _period(run_every)
        self.relative = relative

    def next_after(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """One period later, or the whole unit before that; see `BaseSchedule.next_after`."""
        zone = self.own_tz or zone or self.tz
        after = _utc(_aware(moment, zone))
        if self.relative:
            return whole_unit(after, self.run_every, zone).astimezone(zone)
        return (after + self.run_every).astimezone(zone)

    @property
    def seconds(self) -> float:
        """The period."""
        return self.run_every.total_seconds()

    @property
    def human_seconds(self) -> str:
        """The period in words: `1.50 minutes`."""
        for length, unit in _UNITS:
            if self.seconds >= length:
                count = self.seconds / length
                return f"{count:.2f} {unit}{'' if count == 1 else 's'}"
        return f"{self.seconds:.2f} seconds"

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            mine, others = (self.run_every, self.relative), (other.run_every, other.relative)
            return mine == others and self.own_tz == other.own_tz
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.run_every, self.relative))


class crontab(BaseSchedule):  # noqa: N801  # Celery's name
    """Due at times on the wall, as cron has them.

    Each field takes a number, text (`"*/15"`, `"1-5"`, `"mon-fri"`, `"0,30"`) or several numbers. A
    day has to fit `day_of_week` **and** `day_of_month`, as in Celery. Sunday is 0 or 7. A field that
    cannot be read is a `ParseException`, which is a `ValueError`. See the module for days on which
    clocks are changed.
    """

    def __init__(
        self,
        minute: Cronspec = "*",
        hour: Cronspec = "*",
        day_of_week: Cronspec = "*",
        day_of_month: Cronspec = "*",
        month_of_year: Cronspec = "*",
        nowfun: Callable[[], datetime] | None = None,
        app: Timekeeper | None = None,
        *,
        tz: str | tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, tz=tz)
        given = {
            "minute": minute,
            "hour": hour,
            "day_of_week": day_of_week,
            "day_of_month": day_of_month,
            "month_of_year": month_of_year,
        }
        self.given: Mapping[str, str] = {name: _as_text(spec) for name, spec in given.items()}
        found = {name: expand(name, text) for name, text in self.given.items()}
        self.minute, self.hour = found["minute"], found["hour"]
        self.day_of_week = found["day_of_week"]
        self.day_of_month, self.month_of_year = found["day_of_month"], found["month_of_year"]
        self.fields = CronFields(**{name: tuple(sorted(found[name])) for name in found})
        self.fields.check_possible()

    @classmethod
    def from_string(cls, crontab: str, *, tz: str | tzinfo | None = None) -> crontab:
        """A line of crontab(5): minute, hour, day of month, month, day of week."""
        parts = crontab.split()
        if len(parts) != len(_ORDER):
            raise ParseException(
                f"crontab: {crontab!r} has {len(parts)} fields; write five: minute, hour, day of "
                "month, month, day of week"
            )
        minute, hour, day_of_month, month_of_year, day_of_week = parts
        return cls(minute, hour, day_of_week, day_of_month, month_of_year, tz=tz)

    def next_after(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """The first time later than `moment` that fits; see `BaseSchedule.next_after`."""
        zone = self.own_tz or zone or self.tz
        after = _utc(_aware(moment, zone))
        find = next_shown if self.fields.is_hourly else next_named
        return find(self.fields, after, zone).astimezone(zone)

    def remaining_delta(
        self, last_run_at: datetime, tz: tzinfo | None = None
    ) -> tuple[datetime, timedelta, datetime]:
        """The last time, the time from then until it is due, and now; all in one zone."""
        zone = tz or self.tz
        last = _aware(last_run_at, zone).astimezone(zone)
        return last, _utc(self.next_after(last, zone)) - _utc(last), self.now().astimezone(zone)

    @property
    def line(self) -> str:
        """Its fields as a line of crontab(5) has them, which `from_string` reads."""
        return " ".join(self.given[name].replace(" ", "") for name in _ORDER)

    def __repr__(self) -> str:
        return f"<crontab: {self.line} (m/h/dM/MY/d)>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, crontab):
            return (self.fields, self.own_tz) == (other.fields, other.own_tz)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.fields)


class solar(BaseSchedule):  # noqa: N801  # Celery's name
    """Due when the sun does something at a place: `solar("sunset", 52.5, 13.4)`.

    `event` is one of `SOLAR_EVENTS`; `lat` and `lon` are degrees, north and east positive. Sunrise and sunset
    are those of its upper edge over a flat horizon; dawn and dusk are the sun's centre 6, 12 and 18 degrees
    below. A day without the event, as in a polar night, is passed over. Needs `cardoon[solar]`.
    """

    def __init__(
        self,
        event: str,
        lat: float,
        lon: float,
        nowfun: Callable[[], datetime] | None = None,
        app: Timekeeper | None = None,
        *,
        tz: str | tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, tz=tz)
        if event not in SOLAR_EVENTS:
            close = difflib.get_close_matches(str(event), SOLAR_EVENTS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(SOLAR_EVENTS)}"
            raise ValueError(f"solar: unknown event {event!r}; {hint}")
        self.event = event
        self.lat = _degrees("lat", lat, 90)
        self.lon = _degrees("lon", lon, 180)
        _load_sun()

    def next_after(self, moment: datetime, zone: tzinfo | None = None) -> datetime:
        """The first time later than `moment`, in whole seconds; see `BaseSchedule.next_after`."""
        zone = self.own_tz or zone or self.tz
        after = _utc(_aware(moment, zone))
        found = _load_sun()(self.event, lat=self.lat, lon=self.lon, after=after)
        return found.astimezone(zone)

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat:g}, longitude {self.lon:g}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, solar):
            mine, others = (self.event, self.lat, self.lon), (other.event, other.lat, other.lon)
            return mine == others and self.own_tz == other.own_tz
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.event, self.lat, self.lon))


def maybe_schedule(
    s: float | timedelta | BaseSchedule,
    relative: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
    app: Timekeeper | None = None,
) -> BaseSchedule:
    """A schedule: the one given, or one that is due every so many seconds. `ValueError` otherwise."""
    if isinstance(s, BaseSchedule):
        if app is not None and s.app is None:
            s.app = app
        return s
    return schedule(s, relative, app=app)


def schedule_to_json(value: BaseSchedule) -> dict[str, Any]:
    """A `schedule`, `crontab` or `solar` as JSON, its zone included; `ValueError` for any other."""
    match value:
        case crontab():
            told: dict[str, Any] = {"type": "crontab", **value.given}
        case schedule():
            told = {"type": "interval", "seconds": value.seconds, "relative": value.relative}
        case solar():
            told = {"type": "solar", "event": value.event, "lat": value.lat, "lon": value.lon}
        case _:
            raise ValueError(
                f"schedule {value!r} cannot be written as JSON; use crontab, schedule or solar"
            )
    if value.own_tz is not None:
        told["tz"] = str(value.own_tz)
    return told


def schedule_from_json(told: Mapping[str, Any]) -> BaseSchedule:
    """What `schedule_to_json` wrote; `ValueError` for anything else."""
    rest = {name: value for name, value in told.items() if name not in {"type", "tz"}}
    tz = told.get("tz")
    if not isinstance(tz, str | None):
        raise ValueError(f"schedule: tz={tz!r} is not a time zone of the tz database")  # noqa: TRY004
    match told.get("type"):
        case "crontab" if rest.keys() <= PARSERS.keys():
            return crontab(**rest, tz=tz)
        case "interval" if rest.keys() <= {"seconds", "relative"} and "seconds" in rest:
            return schedule(rest["seconds"], bool(rest.get("relative")), tz=tz)
        case "solar" if rest.keys() == {"event", "lat", "lon"}:
            return solar(**rest, tz=tz)
        case _:
            raise ValueError(f"{dict(told)!r} is not a schedule as JSON")


def _period(value: object) -> timedelta:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(  # noqa: TRY004  # one kind of error for all of a schedule
            f"schedule: {value!r} is not a period; use seconds, a timedelta, schedule or crontab"
        )
    if not 0 < seconds <= _MOST_SECONDS:
        raise ValueError(f"schedule: {value!r} is not between 0 and {_MOST_SECONDS:.0f} seconds")
    return timedelta(seconds=seconds)


def _degrees(name: str, value: object, most: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -most <= value <= most:
        raise ValueError(
            f"solar: {name}={value!r} is not a number from -{most} to {most}, in degrees"
        )
    return float(value)


def _load_sun() -> Callable[..., datetime]:
    """What computes the sun; loaded when it is first needed, since few have a use for it."""
    try:
        from cardoon.sun import next_event  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            "solar: computing the sun needs the library ephem; install cardoon[solar]"
        ) from error
    return next_event


def _as_text(spec: object) -> str:
    """A field as text; what is neither text nor numbers is refused when that is read."""
    if isinstance(spec, (set, frozenset, list, tuple, range)):
        return ",".join(map(str, sorted(spec) if isinstance(spec, (set, frozenset)) else spec))
    return str(spec)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # some are folders
        raise ValueError(f"schedule: tz={name!r} is not a time zone of the tz database") from None


def _aware(moment: datetime, zone: tzinfo) -> datetime:
    """The moment with a zone; a naive one is read in this zone."""
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
