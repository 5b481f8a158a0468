"""The moments that the fields of a crontab mean in a time zone, and whole units of the wall clock.

Pure functions of moments in UTC. `cardoon.schedules` says in words what holds where clocks are changed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from cardoon.cronfields import CronFields, expand
from cardoon.wallclock import MINUTE, find_shift, moment_of, wall_of, whole_minute

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


def next_named(fields: CronFields, after: datetime, zone: tzinfo) -> datetime:
    """Each time that is named counts once, whatever is done to clocks."""
    wall, is_second_time = wall_of(after, zone)
    start = wall.replace(second=0, microsecond=0) + MINUTE
    shift = find_shift(wall, zone) if is_second_time else None
    if shift is not None:  # what is shown again now has had its turn
        start = max(start, whole_minute(shift.end))
    return moment_of(fields.first_from(start), zone)


def next_shown(fields: CronFields, after: datetime, zone: tzinfo) -> datetime:
    """Each time counts as often as clocks show it."""
    wall, is_second_time = wall_of(after, zone)
    start = wall.replace(second=0, microsecond=0) + MINUTE
    shift = find_shift(wall, zone)
    if shift is not None:
        passes = [(start, shift.before), (whole_minute(shift.begin), shift.after)]
        if is_second_time:
            passes = [(start, shift.after)]
        for begin, offset in passes:
            found = fields.first_from(begin)
            if found < shift.end:
                return (found - offset).replace(tzinfo=UTC)
        start = max(start, whole_minute(shift.end))
    while True:
        found = fields.first_from(start)
        shift = find_shift(found, zone)
        if shift is None or not shift.is_forward:
            return moment_of(found, zone)
        start = whole_minute(shift.end)


def whole_unit(after: datetime, period: timedelta, zone: tzinfo) -> datetime:
    """The whole unit at which a period ends that is counted in days, hours, minutes or seconds.

    In whichever is the largest within the period: of `n` of them it is the `n`th that begins behind `after`. A day
    begins when its midnight is shown first, or would have been; the others whenever clocks show it.
    """
    if period < timedelta(seconds=1):
        return after + period
    if period < MINUTE:
        return (after + period).replace(microsecond=0)  # no zone is a part of a second off
    if period >= _DAY:
        return _whole_day(after, period // _DAY, zone)
    unit, fields = (_HOUR, _HOURS) if period >= _HOUR else (MINUTE, _MINUTES)
    for _ in range(period // unit):
        after = next_shown(fields, after, zone)
    return after


def _whole_day(after: datetime, days: int, zone: tzinfo) -> datetime:
    wall, _ = wall_of(after, zone)
    day = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    while (found := moment_of(day + days * _DAY, zone)) <= after:
        days += 1  # midnight is shown again, and has had its turn
    return found


def _fields(**given: str) -> CronFields:
    names = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
    return CronFields(**{name: tuple(sorted(expand(name, given.get(name, "*")))) for name in names})


_MINUTES = _fields()
_HOURS = _fields(minute="0")
