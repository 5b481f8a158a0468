"""Every change of clocks that the tz database knows, and what clocks show around it.

Made of moments alone: when a zone's offset changes. What `cardoon.wallclock` does, the way from a time on the
wall to a moment, is not used, so that it can be held against this.
"""

from __future__ import annotations

import bisect
import functools
import importlib.resources
import struct
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_YEAR = 2036
"""The next ten years: what rules say that have no end."""
_STEP = 6 * 3600
"""Seconds between two looks for changes that no table lists."""


class Change(NamedTuple):
    """A change of a zone's offset from UTC, in seconds."""

    zone: str
    at: int
    before: int
    after: int

    def __str__(self) -> str:
        when = EPOCH + timedelta(seconds=self.at)
        return f"{self.zone} {when:%Y-%m-%d %H:%M:%S}Z {self.before:+d} -> {self.after:+d}"


class Shown(NamedTuple):
    """A whole minute on the wall, as seconds since an epoch without a zone."""

    at: int
    """When it is due by being shown or, if it is left out, when clocks leap over it."""
    wall: int
    is_missing: bool


@functools.cache
def changes_of(zone: str) -> tuple[Change, ...]:
    """All changes of a zone's offset, until the end of `LAST_YEAR`."""
    tz = zoneinfo.ZoneInfo(zone)

    def offset(at: int) -> int:
        found = (EPOCH + timedelta(seconds=at)).astimezone(tz).utcoffset()
        assert found is not None
        return found.days * 86400 + found.seconds

    listed = [at for at in _listed(zone) if at >= -3_600_000_000]  # of the year 1855, and later
    end = int(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp())
    begin = max([*listed, int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())])
    for start in range(min(begin, end), end, _STEP):
        if offset(start) != offset(start + _STEP):
            low, high = start, start + _STEP
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            listed.append(high)
    # A table also lists changes of names alone.
    found = ((at, offset(at - 1), offset(at)) for at in sorted(set(listed)) if at < end)
    return tuple(Change(zone, *one) for one in found if one[1] != one[2])


def all_zones() -> list[str]:
    """Every name of the tz database, one for each that has the same changes as others."""
    known: dict[tuple[tuple[int, int, int], ...], str] = {}
    for zone in sorted(zoneinfo.available_timezones()):
        known.setdefault(tuple(one[1:] for one in changes_of(zone)), zone)
    return sorted(known.values())


def minutes_around(change: Change, *, hours: float = 3) -> list[Shown]:
    """The whole minutes on the wall from some hours before a change until some hours after, by their times.

    Repeated ones are there as often as they are shown. Other changes in between are gone through as well.
    """
    margin = int(hours * 3600) + abs(change.after - change.before)
    begin, end = change.at - margin, change.at + margin
    changes = changes_of(change.zone)
    here = bisect.bisect_left([one.at for one in changes], begin)
    inside = [one for one in changes[here:] if one.at < end]
    offsets = [inside[0].before, *(one.after for one in inside)]
    bounds = [begin, *(one.at for one in inside), end]
    found: list[Shown] = []
    for number, offset in enumerate(offsets):
        start, stop = bounds[number], bounds[number + 1]
        if number and offset > offsets[number - 1]:
            walls = _whole_minutes(start + offsets[number - 1], start + offset)
            found += [Shown(start, wall, is_missing=True) for wall in walls]
        walls = _whole_minutes(start + offset, stop + offset)
        found += [Shown(wall - offset, wall, is_missing=False) for wall in walls]
    return found


def _whole_minutes(start: int, stop: int) -> range:
    return range(-(-start // 60) * 60, stop, 60)


def _listed(zone: str) -> list[int]:
    """The moments that a zone's file lists (RFC 8536), in its second block, of 64 bits."""
    content = _read(zone)
    at, width = 0, 4
    for _ in range(2):
        head = struct.unpack(">4sc15x6l", content[at : at + 44])
        assert head[0] == b"TZif"
        assert head[1] >= b"2"
        utc, standard, leaps, times, kinds, letters = head[2:]
        begin = at + 44
        if width == 8:
            return list(struct.unpack(f">{times}q", content[begin : begin + times * 8]))
        at = begin + times * 5 + kinds * 6 + letters + leaps * 8 + standard + utc
        width = 8
    raise AssertionError(zone)


def _read(zone: str) -> bytes:
    for root in zoneinfo.TZPATH:
        path = Path(root, zone)
        if path.is_file():
            return path.read_bytes()
    return importlib.resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()
