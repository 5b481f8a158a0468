"""Schedules over changes of clocks, against going through all minutes: `python -m tests.properties.dst --all`.

For each change, crontabs that name hours, crontabs for every hour, and periods are followed over some hours
around it, and asked from moments in between. The rules are those of docs/schedules.md.
"""

from __future__ import annotations

import argparse
import bisect
import multiprocessing
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cardoon.schedules import BaseSchedule, crontab, schedule
from tests.properties.clocks import EPOCH, Change, Shown, all_zones, changes_of, minutes_around

ODD_ZONES = (
    "Australia/Lord_Howe",  # half an hour
    "Antarctica/Troll",  # two hours
    "Pacific/Apia",  # left out a day
    "Pacific/Kwajalein",  # and another one
    "America/Juneau",  # had a day twice
    "Asia/Manila",
    "Africa/Casablanca",  # back for a month
    "Europe/Dublin",  # winter is what deviates
    "Africa/Monrovia",  # 44 minutes and a half
    "America/Asuncion",  # at midnight
    "Asia/Gaza",  # by decree
    "Africa/Cairo",
    "Europe/Amsterdam",
)
_SECOND = timedelta(seconds=1)
_PROBES = 6
"""Moments in between, for each schedule."""


class Result(NamedTuple):
    """What was found at some changes."""

    changes: int
    ticks: int
    wrong: list[str]


def check(change: Change) -> Result:
    """Follow schedules over one change."""
    minutes = minutes_around(change)
    hint = random.Random(f"{change}")
    tz = ZoneInfo(change.zone)
    ticks, wrong = 0, []
    for due in _crontabs(change, hint):
        expected = _expected(due, minutes)
        found = list(_follow(due, minutes, tz))
        ticks += len(expected)
        wrong += _compare(change, due, expected, found)
        wrong += _probe(change, due, expected, minutes, hint)
    for unit in (3600, 86400):
        due = schedule(unit, relative=True)
        expected = _expected_units(unit, minutes)
        found = list(_follow(due, minutes, tz))
        ticks += len(expected)
        wrong += _compare(change, due, expected, found)
    seconds = hint.choice((7, 90, 600, 1800, 3600, 5400))
    wrong += _check_period(change, seconds, tz)
    return Result(1, ticks, wrong)


def check_all(changes: Iterable[Change]) -> Result:
    """Follow schedules over several changes."""
    results = [check(one) for one in changes]
    return Result(
        sum(one.changes for one in results),
        sum(one.ticks for one in results),
        [wrong for one in results for wrong in one.wrong],
    )


def sample(count: int, seed: int) -> list[Change]:
    """Some changes of any zones, and the latest ones of odd zones with their oddest."""
    hint = random.Random(seed)
    found = []
    for zone in ODD_ZONES:
        changes = changes_of(zone)
        odd = [one for one in changes if abs(one.after - one.before) not in {1800, 3600}]
        found += [*odd[-3:], *(one for one in changes[-4:] if one not in odd[-3:])]
    zones = sorted(all_of("Africa", "America", "Antarctica", "Asia", "Atlantic", "Europe"))
    while len(found) < count:
        changes = changes_of(hint.choice(zones))
        found += hint.sample(changes, min(4, len(changes)))
    return found


def all_of(*regions: str) -> list[str]:
    """The zones of some regions."""
    return [one for one in available_timezones() if one.partition("/")[0] in regions]


def _crontabs(change: Change, hint: random.Random) -> list[crontab]:
    """Such as name the hours that are left out, repeated or beside those; and such as name none."""
    wall = EPOCH + timedelta(seconds=change.at + min(change.before, change.after))
    hour, minute = wall.hour, hint.randrange(60)
    around = ",".join(str((hour + one) % 24) for one in (-1, 0, 1))
    day = (wall.isoweekday()) % 7
    return [
        crontab(minute, hour),
        crontab("*/10", around),
        crontab((wall.minute, (wall.minute + 1) % 60), (hour, (hour + 1) % 24)),
        crontab(0, 0),
        crontab(hint.randrange(60), "*/2", day),
        crontab("*/5", "0-22"),
        crontab(minute),
        crontab("*/10"),
        crontab(f"{hint.randrange(60)},59", "*", day),
    ]


def _fits(due: crontab, wall: int) -> bool:
    minutes, day = wall // 60, wall // 86400
    return (
        minutes % 60 in due.minute
        and minutes // 60 % 24 in due.hour
        and (day + 4) % 7 in due.day_of_week  # the epoch was a Thursday
    )


def _expected(due: crontab, minutes: Sequence[Shown]) -> list[int]:
    """When it is due: as often as it is shown or, if it names hours, once for each time on the wall."""
    fitting = [one for one in minutes if _fits(due, one.wall)]
    if len(due.hour) == 24:
        return [one.at for one in fitting if not one.is_missing]
    first: dict[int, int] = {}
    for one in fitting:
        first.setdefault(one.wall, one.at)
    return sorted(set(first.values()))


def _expected_units(unit: int, minutes: Sequence[Shown]) -> list[int]:
    """Ends of periods of one whole unit."""
    if unit == 86400:
        return _expected(crontab(0, 0), minutes)
    return [one.at for one in minutes if one.wall % unit == 0 and not one.is_missing]


def _follow(due: BaseSchedule, minutes: Sequence[Shown], tz: ZoneInfo) -> Iterator[int]:
    moment = EPOCH + timedelta(seconds=minutes[0].at - 1)
    end = EPOCH + timedelta(seconds=minutes[-1].at)
    for _ in range(10_000):
        moment = due.next_after(moment, tz).astimezone(UTC)
        if moment > end:
            return
        yield (moment - EPOCH) // _SECOND
    yield -1  # it goes on for ever


def _compare(
    change: Change, due: BaseSchedule, expected: Sequence[int], found: Sequence[int]
) -> list[str]:
    if list(expected) == list(found):
        return []
    lost = [_when(one) for one in expected if one not in found]
    more = [_when(one) for one in found if one not in expected]
    return [f"{change}: {due!r}: skipped {lost[:4]}, not due {more[:4]}"]


def _probe(
    change: Change,
    due: crontab,
    expected: Sequence[int],
    minutes: Sequence[Shown],
    hint: random.Random,
) -> Iterator[str]:
    """Whoever asks from a moment in between, as after a restart, is told the same."""
    if not expected:
        return
    tz = ZoneInfo(change.zone)
    for _ in range(_PROBES):
        asked = hint.uniform(minutes[0].at - 1, expected[-1] - 0.001)
        then = due.next_after(EPOCH + timedelta(seconds=asked), tz).astimezone(UTC)
        wanted = expected[bisect.bisect_right(expected, asked)]
        if (then - EPOCH) != timedelta(seconds=wanted):
            yield f"{change}: {due!r} asked at {_when(asked)}: {then} instead of {_when(wanted)}"


def _check_period(change: Change, seconds: int, tz: ZoneInfo) -> list[str]:
    """Seconds are seconds, whatever clocks show."""
    due = schedule(seconds)
    moment = EPOCH + timedelta(seconds=change.at - 3 * seconds - 1)
    for _ in range(6):
        then = due.next_after(moment, tz).astimezone(UTC)
        if then - moment != timedelta(seconds=seconds):
            return [f"{change}: {due!r} after {moment}: {then}"]
        moment = then
    return []


def _when(at: float) -> str:
    return f"{EPOCH + timedelta(seconds=at):%Y-%m-%d %H:%M:%S}Z"


def _check_zone(zone: str) -> Result:
    return check_all(changes_of(zone))


def main() -> int:
    """Check, and print what is wrong; exits with 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--all", action="store_true", help="every change of every zone; minutes")
    parser.add_argument("--count", type=int, default=300, help="changes, without --all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    begun = time.perf_counter()
    if options.all:
        zones = all_zones()
        print(f"{len(zones)} zones that differ", flush=True)
        with multiprocessing.Pool(options.processes) as pool:
            results = list(pool.imap_unordered(_check_zone, zones))
    else:
        results = [check_all(sample(options.count, options.seed))]
    wrong = [one for result in results for one in result.wrong]
    for one in wrong[:50]:
        print(one)
    print(
        f"{sum(one.changes for one in results)} changes of clocks, {sum(one.ticks for one in results)} ticks, "
        f"{len(wrong)} wrong, in {time.perf_counter() - begun:.0f} s"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
