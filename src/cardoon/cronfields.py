"""The five fields of a crontab: from text to sets of numbers, and to the next time that fits them.

Pure; knows times on the wall only. `cardoon.schedules` says what they mean in a time zone.
"""

from __future__ import annotations

import bisect
import calendar
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from cardoon.exceptions import CardoonError

_WEEKDAYS = {
    name: number
    for number, name in enumerate(
        ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
    )
}
_MONTHS = {
    name: number
    for number, name in enumerate(
        (
            *("january", "february", "march", "april", "may", "june", "july"),
            *("august", "september", "october", "november", "december"),
        ),
        start=1,
    )
}
_SYNTAX = "write a number, a range as in 1-5, a step as in */15 or 0-30/10, or a list with commas"
_RANGE = re.compile(r"(?P<first>\w+)-(?P<last>\w+)(/(?P<step>\w*))?")
_STAR = re.compile(r"\*(/(?P<step>\w*))?")
_LONGEST_WAIT_YEARS = 41
"""A 29th of February that has to be a certain weekday comes after 40 years at the latest."""
_WEEK = 7


class ParseException(CardoonError, ValueError):  # noqa: N818  # Celery's name
    """A field of a crontab cannot be read."""


class crontab_parser:  # noqa: N801  # Celery's name
    """Reads one field. `max_` is how many values it has, `min_` the first of them.

        >>> sorted(crontab_parser(60).parse("*/15"))
        [0, 15, 30, 45]

    Ranges may wrap around (`fri-mon`). Fields of 7 values from 0, and of 12 from 1, take the names of
    weekdays and months, three letters of them or all.
    """

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.min_, self.max_ = min_, max_
        self._values = range(min_, min_ + max_)
        self._names: Mapping[str, int] = {}
        if (max_, min_) == (_WEEK, 0):
            self._names = _WEEKDAYS
        elif (max_, min_) == (12, 1):
            self._names = _MONTHS
        self._highest = self._values[-1] + (self._names is _WEEKDAYS)
        """Sunday is 7 as well as 0."""

    def parse(self, spec: str) -> set[int]:
        """The numbers that a field means; `ParseException` names the wrong part and a remedy."""
        found: set[int] = set()
        for part in str(spec).split(","):
            found.update(self._parse_part(part.strip().lower()))
        return found

    def number(self, text: str) -> int:
        """One number or name."""
        if re.fullmatch(r"[0-9]{1,4}", text):
            return self.check(int(text))
        for name, number in self._names.items():
            if text in {name, name[:3]}:
                return number
        shown = f"{text!r} is not a number from {self.min_} to {self._highest}"
        if self._names:
            shown += f" or a name such as {next(iter(self._names))[:3]!r}"
            short = [name[:3] for name in self._names]
            if close := difflib.get_close_matches(text[:3], short, n=1, cutoff=0.5):
                raise ParseException(f"{shown}; did you mean {close[0]!r}?")
        raise ParseException(f"{shown}; {_SYNTAX}")

    def check(self, number: int) -> int:
        """The number, if the field can have it."""
        if not self.min_ <= number <= self._highest:
            raise ParseException(f"{number} is not between {self.min_} and {self._highest}")
        return self.min_ if number > self._values[-1] else number

    def _parse_part(self, part: str) -> list[int]:
        if not part:
            raise ParseException(f"a part is empty; {_SYNTAX}")
        if star := _STAR.fullmatch(part):
            return list(self._values)[:: self._step(star["step"], part)]
        if span := _RANGE.fullmatch(part):
            step = self._step(span["step"], part)
            return self._span(span["first"], span["last"])[::step]
        return [self.number(part)]

    def _span(self, first: str, last: str) -> list[int]:
        begin, end = self.number(first), self.number(last)
        if end == self.min_ and last.isdecimal() and int(last) == self._highest != end:
            return [*range(begin, self._values.stop), end]  # Sunday as the last day of a week
        if begin <= end:
            return list(range(begin, end + 1))
        return [*range(begin, self._values.stop), *range(self.min_, end + 1)]

    def _step(self, text: str | None, part: str) -> int:
        if text is None:
            return 1
        if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) == 0:
            raise ParseException(f"{part!r} has no whole number above 0 behind the slash")
        return int(text)


PARSERS: Mapping[str, crontab_parser] = {
    "minute": crontab_parser(60),
    "hour": crontab_parser(24),
    "day_of_week": crontab_parser(_WEEK),
    "day_of_month": crontab_parser(31, 1),
    "month_of_year": crontab_parser(12, 1),
}
"""By the names of `crontab`'s arguments."""


def expand(field: str, text: str) -> frozenset[int]:
    """The numbers that an argument of `crontab` means; the error names it."""
    try:
        return frozenset(PARSERS[field].parse(text))
    except ParseException as error:
        raise ParseException(f"crontab: {field}={text!r}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CronFields:
    """What all five fields allow, each sorted. A day has to fit all three fields of days."""

    minute: tuple[int, ...]
    hour: tuple[int, ...]
    day_of_week: tuple[int, ...]
    """Sunday is 0."""
    day_of_month: tuple[int, ...]
    month_of_year: tuple[int, ...]

    @property
    def is_hourly(self) -> bool:
        """Whether every hour of a day will do."""
        return len(self.hour) == 24

    def check_possible(self) -> None:
        """`ParseException` if no day is like that."""
        longest = max(calendar.monthrange(2000, month)[1] for month in self.month_of_year)
        if self.day_of_month[0] > longest:
            raise ParseException(
                f"crontab: day_of_month={self.day_of_month[0]} comes in none of the months "
                f"{', '.join(map(str, self.month_of_year))}; it would never be due"
            )

    def first_from(self, wall: datetime) -> datetime:
        """The first time that fits, from `wall`, a whole minute, on."""
        if self._has(wall.date()):
            minute_at = bisect.bisect_left(self.minute, wall.minute)
            if wall.hour in self.hour and minute_at < len(self.minute):
                return wall.replace(minute=self.minute[minute_at])
            hour_at = bisect.bisect_right(self.hour, wall.hour)
            if hour_at < len(self.hour):
                return wall.replace(hour=self.hour[hour_at], minute=self.minute[0])
        day = self._first_day(wall.date() + timedelta(days=1))
        return datetime(day.year, day.month, day.day, self.hour[0], self.minute[0])  # noqa: DTZ001  # what clocks show

    def _has(self, day: date) -> bool:
        return (
            day.month in self.month_of_year
            and day.day in self.day_of_month
            and day.isoweekday() % _WEEK in self.day_of_week
        )

    def _first_day(self, start: date) -> date:
        months = (
            (year, month)
            for year in range(start.year, start.year + _LONGEST_WAIT_YEARS)
            for month in self.month_of_year
            if (year, month) >= (start.year, start.month)
        )
        for year, month in months:
            length = calendar.monthrange(year, month)[1]
            for number in self.day_of_month[: bisect.bisect_right(self.day_of_month, length)]:
                day = date(year, month, number)
                if day >= start and day.isoweekday() % _WEEK in self.day_of_week:
                    return day
        raise AssertionError(f"{self} fits no day")  # `check_possible` saw to it
