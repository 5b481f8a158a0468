"""What clocks on the wall show in a time zone, and which moment a shown time means.

Pure functions. Moments are aware and in UTC, since Python subtracts two datetimes of one zone as if
clocks had never been changed; times on the wall are naive.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

MINUTE = timedelta(minutes=1)


class Shift(NamedTuple):
    """A change of the clocks, at `moment`: forward if `after` is more than `before`, else back."""

    moment: datetime
    before: timedelta
    after: timedelta
    """Offsets from UTC."""

    @property
    def is_forward(self) -> bool:
        """Whether times between are never shown; otherwise they are shown twice."""
        return self.after > self.before

    @property
    def begin(self) -> datetime:
        """The first time on the wall that is missing or repeated."""
        return (self.moment + min(self.before, self.after)).replace(tzinfo=None)

    @property
    def end(self) -> datetime:
        """The first time on the wall behind those."""
        return (self.moment + max(self.before, self.after)).replace(tzinfo=None)


def find_shift(wall: datetime, zone: tzinfo) -> Shift | None:
    """The change of clocks that makes a time missing or repeated; None for a usual time."""
    wall = wall.replace(
        microsecond=0
    )  # clocks are changed at whole seconds, and those are tried below
    before, after = _offset(wall, zone, fold=0), _offset(wall, zone, fold=1)
    if before == after:
        return None
    # It is later than the one moment that the time could mean, and not later than the other.
    low = (wall - max(before, after)).replace(tzinfo=UTC, fold=0)
    most = int(abs(after - before).total_seconds())
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        if (low + timedelta(seconds=middle)).astimezone(zone).utcoffset() == before:
            least = middle
        else:
            most = middle
    return Shift(low + timedelta(seconds=most), before, after)


def moment_of(wall: datetime, zone: tzinfo) -> datetime:
    """The moment of a time on the wall.

    Of a repeated time the first one; of a missing one the moment at which clocks jump over it.
    """
    shift = find_shift(wall, zone)
    if shift is not None and shift.is_forward:
        return shift.moment
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def wall_of(moment: datetime, zone: tzinfo) -> tuple[datetime, bool]:
    """What clocks show at a moment, and whether they show it for the second time."""
    local = moment.astimezone(zone)
    return local.replace(tzinfo=None, fold=0), bool(local.fold)


def whole_minute(wall: datetime) -> datetime:
    """The same time, or the first whole minute behind it."""
    floor = wall.replace(second=0, microsecond=0)
    return floor if floor == wall else floor + MINUTE


def _offset(wall: datetime, zone: tzinfo, *, fold: int) -> timedelta:
    offset = wall.replace(tzinfo=zone, fold=fold).utcoffset()
    assert offset is not None, f"{zone!r} has no offset"
    return offset
