"""Schedules by the sun: its events, days that have none, and what is refused."""

from __future__ import annotations

import json
import math
import pickle
import sys
from datetime import UTC, datetime, timedelta

import ephem
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardoon import Cardoon
from cardoon.exceptions import ImproperlyConfigured
from cardoon.schedules import SOLAR_EVENTS, schedule_from_json, schedule_to_json, solar
from cardoon.testing import Simulation

BERLIN = (52.52, 13.405)
TROMSO = (69.65, 18.96)
MIDNIGHT = datetime(2024, 3, 20, 23, tzinfo=UTC)


def times(event: str, place: tuple[float, float], after: datetime, count: int = 1) -> list[str]:
    due, found = solar(event, *place, tz="Europe/Berlin"), []
    for _ in range(count):
        after = due.next_after(after)
        found.append(f"{after:%Y-%m-%d %H:%M}")
    return found


def test_the_sun_rises_and_sets_when_almanacs_say():
    solstice = datetime(2024, 6, 20, 22, tzinfo=UTC)

    assert times("sunrise", BERLIN, solstice) == ["2024-06-21 04:43"]
    assert times("sunset", BERLIN, solstice) == ["2024-06-21 21:33"]
    assert times("solar_noon", BERLIN, solstice) == ["2024-06-21 13:08"]


def test_the_events_of_a_day_come_in_their_order():
    moments = [solar(event, *BERLIN).next_after(MIDNIGHT) for event in SOLAR_EVENTS]

    assert len(moments) == 9
    assert moments == sorted(moments)
    assert moments[-1] < MIDNIGHT + timedelta(days=1)


@pytest.mark.parametrize(
    ("event", "horizon", "method", "by_center"),
    [
        ("dawn_astronomical", "-18", "next_rising", True),
        ("dawn_nautical", "-12", "next_rising", True),
        ("dawn_civil", "-6", "next_rising", True),
        ("sunrise", "-0:34", "next_rising", False),
        ("solar_noon", "0", "next_transit", False),
        ("sunset", "-0:34", "next_setting", False),
        ("dusk_civil", "-6", "next_setting", True),
        ("dusk_nautical", "-12", "next_setting", True),
        ("dusk_astronomical", "-18", "next_setting", True),
    ],
)
@settings(deadline=None)
@given(
    lat=st.floats(-45, 45),
    lon=st.floats(-180, 180),
    day=st.integers(-10_000, 30_000),
)
def test_events_are_those_that_the_library_finds_its_own_way(
    event, horizon, method, by_center, lat, lon, day
):
    place = ephem.Observer()
    place.lat, place.lon = math.radians(lat), math.radians(lon)
    place.horizon, place.pressure = horizon, 0
    after = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day)
    place.date = after.replace(tzinfo=None)
    options = {} if method == "next_transit" else {"use_center": by_center}

    found = solar(event, lat, lon).next_after(after)
    wanted = getattr(place, method)(ephem.Sun(), **options).datetime().replace(tzinfo=UTC)

    # A moment on the very edge may be the last of one search and the first of the other.
    if wanted - after > timedelta(seconds=5) and found - after > timedelta(seconds=5):
        assert abs(found - wanted) < timedelta(seconds=5)


def test_days_without_the_event_are_passed_over():
    [back] = times("sunrise", TROMSO, datetime(2024, 11, 28, tzinfo=UTC))
    assert back[:10] == "2025-01-15"
    [first, second] = times("sunset", TROMSO, datetime(2024, 5, 18, 12, tzinfo=UTC), 2)
    assert (first[:10], second[:10]) == ("2024-07-26", "2024-07-27")
    assert times("sunrise", (90, 0), MIDNIGHT)[0][:7] == "2025-03"


@settings(deadline=None)
@given(
    event=st.sampled_from(SOLAR_EVENTS),
    lat=st.one_of(st.floats(-90, 90), st.floats(64, 69)),
    lon=st.floats(-180, 180),
    after=st.datetimes(
        datetime(1950, 1, 1),  # noqa: DTZ001  # hypothesis adds the zone
        datetime(2090, 1, 1),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
    share=st.floats(0, 1),
)
def test_the_next_event_is_the_same_from_any_moment_before_it(event, lat, lon, after, share):
    due = solar(event, lat, lon)

    then = due.next_after(after)

    assert after < then <= after + timedelta(days=800)
    between = after + share * (then - timedelta(microseconds=1) - after)
    assert due.next_after(between) == then
    assert due.next_after(then) > then + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("sunsett", 1, 2), "solar: unknown event 'sunsett'; did you mean 'sunset'"),
        (("noon?", 1, 2), "did you mean 'solar_noon'|use dawn_astronomical, dawn_nautical"),
        ((None, 1, 2), "unknown event None; use dawn_astronomical"),
        (("sunset", 90.1, 2), "lat=90.1 is not a number from -90 to 90, in degrees"),
        (("sunset", "52", 2), "lat='52' is not a number"),
        (("sunset", float("nan"), 2), "lat=nan is not a number"),
        (("sunset", True, 2), "lat=True is not a number"),
        (("sunset", 1, -180.5), "lon=-180.5 is not a number from -180 to 180"),
        (("sunset", 1, float("inf")), "lon=inf is not a number"),
    ],
)
def test_what_no_place_or_event_is_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        solar(*given)


def test_without_the_library_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ephem", None)
    monkeypatch.delitem(sys.modules, "cardoon.sun", raising=False)

    with pytest.raises(
        ImproperlyConfigured, match=r"needs the library ephem; install cardoon\[solar\]"
    ):
        solar("sunset", 1, 2)


def test_a_schedule_by_the_sun_crosses_json_and_compares():
    due = solar("sunset", 52.5, 13, tz="Europe/Berlin")

    assert schedule_from_json(json.loads(json.dumps(schedule_to_json(due)))) == due
    assert pickle.loads(pickle.dumps(due)) == due
    assert due != solar("sunset", 52.5, 13)
    assert due != solar("sunrise", 52.5, 13, tz="Europe/Berlin")
    assert len({due, solar("sunset", 52.5, 13.0, tz="Europe/Berlin")}) == 1
    assert repr(due) == "<solar: sunset at latitude 52.5, longitude 13>"
    for told in ({"event": "sunset"}, {"event": "sunset", "lat": 1, "lon": 2, "alt": 3}):
        with pytest.raises(ValueError, match="is not a schedule as JSON"):
            schedule_from_json({"type": "solar", **told})


def test_an_entry_by_the_sun_is_sent_at_its_time():
    app = Cardoon("lamps", set_as_current=False)
    lit = []

    @app.task
    def light(lamp: str) -> None:
        lit.append((lamp, simulation.now))

    due = solar("sunset", *BERLIN)
    app.add_periodic_task(due, light.s("street"))
    with Simulation(app, start=MIDNIGHT) as simulation:
        simulation.advance(timedelta(days=2))

    first = due.next_after(MIDNIGHT)
    assert lit == [("street", first), ("street", due.next_after(first))]
    assert first.date() == (MIDNIGHT + timedelta(days=1)).date()
