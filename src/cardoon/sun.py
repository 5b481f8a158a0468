"""When the sun rises, sets, and stands highest at a place. Pure, but that it needs the library `ephem`.

Where the sun stands is the library's to say; which moments count is decided here, so that the same place and
event have the same moments whichever one they are looked for from. Moments are whole seconds, in UTC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import ephem

SOLAR_NOON = "solar_noon"


class _Crossing(NamedTuple):
    """The sun going through a height."""

    degrees: float
    """Above the horizon of a place without air and hills."""
    upwards: bool
    by_limb: bool = False
    """Whether its upper edge counts, and not its centre."""


_REFRACTION = -34 / 60
"""At the horizon air lifts what is seen by this much; what almanacs reckon with."""

_CROSSINGS: Mapping[str, _Crossing] = {
    "dawn_astronomical": _Crossing(-18.0, upwards=True),
    "dawn_nautical": _Crossing(-12.0, upwards=True),
    "dawn_civil": _Crossing(-6.0, upwards=True),
    "sunrise": _Crossing(_REFRACTION, upwards=True, by_limb=True),
    "sunset": _Crossing(_REFRACTION, upwards=False, by_limb=True),
    "dusk_civil": _Crossing(-6.0, upwards=False),
    "dusk_nautical": _Crossing(-12.0, upwards=False),
    "dusk_astronomical": _Crossing(-18.0, upwards=False),
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIBRARY_EPOCH = 25567.5
"""That moment in the library's count of days."""
_DAY = 86400
_CELL = 600
"""Seconds. The sun is looked at that often at most: it grazes a horizon for less now and then, within some
hundred kilometres of a polar circle, and that is no day and no night."""
_TURNING = 15.05
"""Degrees in an hour by which the sky turns, with some room."""
_DRIFTING = 0.02
"""Degrees in an hour by which the sun's height changes besides, with some room."""
_MOST_DAYS = 800
"""Each height that is asked for is gone through at least once a year wherever one is."""


def next_event(event: str, *, lat: float, lon: float, after: datetime) -> datetime:
    """The first moment of an event that is later than `after`, at a place given in degrees.

    Days without it are passed over, as in a polar night.
    """
    moment = after.astimezone(UTC)
    since = (moment - _EPOCH) // timedelta(seconds=1)
    height = _noon(lon) if event == SOLAR_NOON else _height(_CROSSINGS[event], lat, lon)
    fastest = _TURNING if event == SOLAR_NOON else _speed(lat)
    for found in _upward_crossings(height, fastest, since):
        then = _EPOCH + timedelta(seconds=found)
        if then > moment:
            return then
    raise AssertionError(f"no {event} at {lat}, {lon} after {after}")


def _upward_crossings(
    height: Callable[[float], float], fastest: float, since: int
) -> Iterator[int]:
    """The first whole seconds at which a height is no longer below 0, from the cell of `since` on.

    Cells begin at fixed moments, so where one begins to look changes nothing.
    """
    at = since - since % _CELL
    end = at + _MOST_DAYS * _DAY
    here = height(at)
    while at < end:
        # What is further from 0 than it can come meanwhile is passed over.
        cells = max(1, int(abs(here) / fastest * 3600 / _CELL))
        then = at + cells * _CELL
        there = height(then)
        if cells == 1 and here < 0 <= there:
            yield _bisect(height, at, then)
        at, here = then, there


def _bisect(height: Callable[[float], float], below: int, above: int) -> int:
    while above - below > 1:
        middle = (below + above) // 2
        if height(middle) < 0:
            below = middle
        else:
            above = middle
    return above


def _height(crossing: _Crossing, lat: float, lon: float) -> Callable[[float], float]:
    """How many degrees the sun is above what it crosses; below, if it does so downwards."""
    place, sun = _place(lat, lon), ephem.Sun()
    sign = 1 if crossing.upwards else -1

    def measure(seconds: float) -> float:
        place.date = _LIBRARY_EPOCH + seconds / _DAY
        sun.compute(place)
        found = float(sun.alt) + (float(sun.radius) if crossing.by_limb else 0.0)
        return sign * (math.degrees(found) - crossing.degrees)

    return measure


def _noon(lon: float) -> Callable[[float], float]:
    """How many degrees the sun is past the meridian, from -180 on. It comes back to that by a leap."""
    place, sun = _place(0.0, lon), ephem.Sun()

    def measure(seconds: float) -> float:
        place.date = _LIBRARY_EPOCH + seconds / _DAY
        sun.compute(place)
        past = math.degrees(float(place.sidereal_time()) - float(sun.ra))
        past = (past + 180) % 360 - 180
        # The leap is half a turn away; from behind it, what is to come is the next crossing.
        return past if past <= 90 else past - 360

    return measure


def _speed(lat: float) -> float:
    """Degrees in an hour by which the sun's height changes at most."""
    return _TURNING * math.cos(math.radians(lat)) + _DRIFTING


def _place(lat: float, lon: float) -> ephem.Observer:
    place = ephem.Observer()
    place.lat, place.lon = math.radians(lat), math.radians(lon)
    place.elevation = place.pressure = 0  # refraction is in the heights above
    return place
