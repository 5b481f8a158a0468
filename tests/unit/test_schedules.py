"""When schedules are due: fields, periods, and what happens where clocks are changed."""

from __future__ import annotations

import functools
import json
import pickle
import zoneinfo
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardoon.exceptions import CardoonError
from cardoon.schedules import (
    BaseSchedule,
    ParseException,
    crontab,
    crontab_parser,
    maybe_schedule,
    schedstate,
    schedule,
    schedule_from_json,
    schedule_to_json,
)
from cardoon.testing import FakeClock

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "America/Asuncion",  # at midnight
    "Africa/Cairo",  # at midnight, forward
    "Pacific/Apia",  # left out a whole day
    "Asia/Kolkata",
    "UTC",
]
CHANGES = [
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia
    datetime(2024, 3, 10, 7, tzinfo=UTC),  # New York
    datetime(2024, 3, 24, 3, tzinfo=UTC),  # Asuncion, back
    datetime(2024, 3, 31, 1, tzinfo=UTC),  # Berlin
    datetime(2024, 4, 6, 15, tzinfo=UTC),  # Lord Howe, back
    datetime(2024, 4, 25, 22, tzinfo=UTC),  # Cairo
    datetime(2024, 10, 5, 15, 30, tzinfo=UTC),  # Lord Howe
    datetime(2024, 10, 6, 4, tzinfo=UTC),  # Asuncion
    datetime(2024, 10, 27, 1, tzinfo=UTC),  # Berlin, back
    datetime(2024, 10, 31, 21, tzinfo=UTC),  # Cairo, back
    datetime(2024, 11, 3, 6, tzinfo=UTC),  # New York, back
]
MINUTE = timedelta(minutes=1)


def at(text: str, zone: zoneinfo.ZoneInfo = BERLIN, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def at_wall(year: int) -> datetime:
    """What the calendar shows, without a zone."""
    return datetime(year, 1, 1)  # noqa: DTZ001


def ticks(due: BaseSchedule, start: datetime, count: int) -> list[str]:
    """The next times, as clocks show them, with `'` for the second pass of a repeated hour."""
    found = []
    for _ in range(count):
        start = due.next_after(start)
        found.append(f"{start:%d %H:%M}{chr(39) * start.fold}")
    return found


# Fields


@pytest.mark.parametrize(
    ("parser", "spec", "found"),
    [
        (crontab_parser(60), "*/15", {0, 15, 30, 45}),
        (crontab_parser(60), "1,2, 5-7", {1, 2, 5, 6, 7}),
        (crontab_parser(24), "8-17/3", {8, 11, 14, 17}),
        (crontab_parser(24), "22-2", {22, 23, 0, 1, 2}),
        (crontab_parser(24), "22-4/3", {22, 1, 4}),
        (crontab_parser(31, 1), "*/10", {1, 11, 21, 31}),
        (crontab_parser(7), "mon-fri", {1, 2, 3, 4, 5}),
        (crontab_parser(7), "Fri-Monday", {5, 6, 0, 1}),
        (crontab_parser(7), "7", {0}),
        (crontab_parser(7), "sat-7", {6, 0}),
        (crontab_parser(7), "0-7", set(range(7))),
        (crontab_parser(7), "1-7/2", {1, 3, 5, 0}),
        (crontab_parser(7), "7-2", {0, 1, 2}),
        (crontab_parser(12, 1), "jan,JUNE-aug", {1, 6, 7, 8}),
        (crontab_parser(12, 1), "*", set(range(1, 13))),
    ],
)
def test_a_field_is_read(parser, spec, found):
    assert parser.parse(spec) == found


@pytest.mark.parametrize(
    ("field", "spec", "said"),
    [
        ("minute", "60", "minute='60': 60 is not between 0 and 59"),
        ("minute", 60, "minute='60': 60 is not between 0 and 59"),
        ("minute", "", "minute='': a part is empty; write a number, a range"),
        ("minute", "1,,2", "a part is empty"),
        ("minute", "5/15", "'5/15' is not a number from 0 to 59; write a number, a range"),
        ("minute", "*/0", r"'\*/0' has no whole number above 0 behind the slash"),
        ("minute", "*/", "has no whole number above 0"),
        ("minute", "*/x", "has no whole number above 0"),
        ("minute", "mon", "'mon' is not a number from 0 to 59"),
        ("minute", -1, "'-1' is not a number"),
        ("minute", 1.5, "'1.5' is not a number"),
        ("minute", True, "'true' is not a number"),
        ("minute", None, "'none' is not a number"),
        ("minute", [], "a part is empty"),
        ("minute", "٣", "is not a number"),
        ("hour", {24}, "hour='24': 24 is not between 0 and 23"),
        ("day_of_month", "0", "0 is not between 1 and 31"),
        ("month_of_year", "13", "13 is not between 1 and 12"),
        ("day_of_week", "8", "8 is not between 0 and 7"),
        ("day_of_week", "mom", "or a name such as 'sun'; did you mean 'mon'"),
        ("month_of_year", "febr", "'febr' is not a number from 1 to 12 .*; did you mean 'feb'"),
    ],
)
def test_a_wrong_field_is_named_with_value_and_remedy(field, spec, said):
    with pytest.raises(ParseException, match=said) as caught:
        crontab(**{field: spec})

    assert str(caught.value).startswith(f"crontab: {field}=")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CardoonError)


def test_a_day_that_never_comes_is_refused():
    with pytest.raises(ParseException, match="day_of_month=30 comes in none of the months 2"):
        crontab(day_of_month=30, month_of_year="feb")
    with pytest.raises(ParseException, match=r"31 comes in none of the months 4, 6"):
        crontab(day_of_month=31, month_of_year="apr,jun")

    assert crontab(day_of_month=29, month_of_year=2)
    assert crontab(day_of_month="30-31", month_of_year="2,4")


def test_fields_are_sets_whichever_way_they_are_given():
    due = crontab(minute="0,30", hour=[8, 9], day_of_week={1, 0}, day_of_month=range(1, 3))

    assert due.minute == {0, 30}
    assert due.hour == {8, 9}
    assert due.day_of_week == {0, 1}
    assert due.day_of_month == {1, 2}
    assert due.month_of_year == set(range(1, 13))


def test_a_line_of_crontab_is_read():
    due = crontab.from_string("5 4 1 jan sun")

    assert due == crontab(5, 4, "sun", 1, 1)
    assert crontab.from_string("5 4 1 jan sun", tz="Asia/Tokyo") == crontab(
        5, 4, "sun", 1, 1, tz="Asia/Tokyo"
    )
    assert repr(due) == "<crontab: 5 4 1 jan sun (m/h/dM/MY/d)>"
    with pytest.raises(ParseException, match="has 4 fields; write five"):
        crontab.from_string("* * * *")


def test_crontabs_are_equal_if_they_mean_the_same():
    assert crontab(minute="*/30") == crontab(minute={0, 30})
    assert hash(crontab(minute="*/30")) == hash(crontab(minute="0,30"))
    assert crontab(minute=1) != crontab(minute=2)
    assert crontab(minute=1) != crontab(minute=1, tz="Europe/Berlin")
    assert crontab() != schedule(60)
    assert schedule(60) == schedule(timedelta(minutes=1))
    assert schedule(60) != schedule(60, relative=True)
    assert len({schedule(60), schedule(60.0), schedule(61)}) == 2
    assert pickle.loads(pickle.dumps(crontab(hour=7, tz="Europe/Berlin"))) == crontab(
        hour=7, tz="Europe/Berlin"
    )


@pytest.mark.parametrize(
    ("due", "after", "then"),
    [  # the table of crontab schedules in Celery's user guide
        (crontab(), "06 10:00", ["06 10:01", "06 10:02"]),
        (crontab(minute=0, hour=0), "06 10:00", ["07 00:00", "08 00:00"]),
        (crontab(minute=0, hour="*/3"), "06 10:00", ["06 12:00", "06 15:00", "06 18:00"]),
        (
            crontab(minute=0, hour="0,3,6,9,12,15,18,21"),
            "06 10:00",
            ["06 12:00", "06 15:00", "06 18:00"],
        ),
        (crontab(minute="*/15"), "06 10:00", ["06 10:15", "06 10:30", "06 10:45"]),
        (crontab(day_of_week="sunday"), "06 10:00", ["12 00:00", "12 00:01"]),
        (
            crontab(minute="*", hour="*", day_of_week="sun"),
            "12 23:58",
            ["12 23:59", "19 00:00"],
        ),
        (
            crontab(minute="*/10", hour="3,17,22", day_of_week="thu,fri"),
            "06 10:00",
            ["09 03:00", "09 03:10"],
        ),
        (crontab(minute=0, hour="*/2,*/3"), "06 00:00", ["06 02:00", "06 03:00", "06 04:00"]),
        (crontab(minute=0, hour="*/5"), "06 10:00", ["06 15:00", "06 20:00", "07 00:00"]),
        (crontab(minute=0, hour="*/3,8-17"), "06 06:00", ["06 08:00", "06 09:00", "06 10:00"]),
        (crontab(0, 0, day_of_month="2"), "06 10:00", ["02 00:00"]),
        (crontab(0, 0, day_of_month="2-30/2"), "06 10:00", ["08 00:00", "10 00:00"]),
        (crontab(0, 0, day_of_month="1-7,15-21"), "06 10:00", ["07 00:00", "15 00:00"]),
        (crontab(0, 0, day_of_month="11", month_of_year="5"), "06 10:00", ["11 00:00"]),
        (crontab(0, 0, month_of_year="*/3"), "06 10:00", ["01 00:00", "02 00:00"]),
    ],
)
def test_what_celery_documents_is_due_as_it_says(due, after, then):
    day, hour = after.split()

    assert ticks(due, at(f"2024-05-{day}T{hour}", UTC), len(then)) == then


# What comes next


@pytest.mark.parametrize(
    ("due", "after", "then"),
    [
        (crontab(), "2024-05-06T10:00:00", "2024-05-06T10:01:00"),
        (crontab(), "2024-05-06T10:00:59.9", "2024-05-06T10:01:00"),
        (crontab(), "2024-12-31T23:59:30", "2025-01-01T00:00:00"),
        (crontab(minute=30, hour=7), "2024-05-06T07:29:59", "2024-05-06T07:30:00"),
        (crontab(minute=30, hour=7), "2024-05-06T07:30:00", "2024-05-07T07:30:00"),
        (crontab(minute=0, hour="8-17/3"), "2024-05-06T14:00:00", "2024-05-06T17:00:00"),
        (crontab(0, 0, day_of_week="mon"), "2024-05-06T00:00:00", "2024-05-13T00:00:00"),
        (crontab(0, 0, "fri", 13), "2024-05-06T00:00:00", "2024-09-13T00:00:00"),
        (crontab(0, 0, "*", 31), "2024-05-31T00:00:00", "2024-07-31T00:00:00"),
        (crontab(0, 0, "*", 29, 2), "2024-02-29T00:00:00", "2028-02-29T00:00:00"),
        (crontab(0, 0, "wed", 29, 2), "2072-03-01T00:00:00", "2096-02-29T00:00:00"),
        (crontab(0, 0, "wed", 29, 2), "2096-02-29T00:00:00", "2108-02-29T00:00:00"),
    ],
)
def test_the_next_time_is_the_first_later_one_that_fits(due, after, then):
    assert due.next_after(at(after, UTC)) == at(then, UTC)


def test_every_weekday_of_a_29th_of_february_is_found_within_its_forty_years():
    for weekday in range(7):
        due = crontab(0, 0, weekday, 29, 2)
        moment = datetime(1999, 1, 1, tzinfo=UTC)
        expected = (
            date(year, 2, 29)
            for year in range(2000, 2420, 4)
            if (year % 100 or not year % 400) and date(year, 2, 29).isoweekday() % 7 == weekday
        )
        for day in expected:
            moment = due.next_after(moment)
            assert moment.date() == day


# Where clocks are changed


def test_a_named_time_that_is_skipped_is_due_at_the_first_moment_after():
    due = crontab(minute=30, hour=2, tz="Europe/Berlin")

    assert ticks(due, at("2024-03-30T00:00"), 4) == ["30 02:30", "31 03:00", "01 02:30", "02 02:30"]


def test_several_named_times_that_are_skipped_are_due_once():
    due = crontab(minute="*/10", hour="2,3", tz="Europe/Berlin")

    assert ticks(due, at("2024-03-30T03:50"), 3) == ["31 03:00", "31 03:10", "31 03:20"]


def test_a_named_time_that_is_shown_twice_is_due_the_first_time():
    due = crontab(minute="0,30", hour="2,3", tz="Europe/Berlin")

    assert ticks(due, at("2024-10-27T00:00"), 5) == [
        "27 02:00",
        "27 02:30",
        "27 03:00",
        "27 03:30",
        "28 02:00",
    ]
    assert ticks(due, at("2024-10-27T02:10", fold=1), 1) == ["27 03:00"]


def test_what_is_due_every_hour_goes_on_in_a_repeated_hour_and_does_not_make_up_for_a_skipped_one():
    due = crontab(minute="15,45", tz="Europe/Berlin")

    assert ticks(due, at("2024-10-27T01:45"), 6) == [
        "27 02:15",
        "27 02:45",
        "27 02:15'",
        "27 02:45'",
        "27 03:15",
        "27 03:45",
    ]
    assert ticks(due, at("2024-03-31T01:15"), 3) == ["31 01:45", "31 03:15", "31 03:45"]


def test_a_day_that_is_left_out_is_made_up_for_at_its_end():
    apia = zoneinfo.ZoneInfo("Pacific/Apia")
    due = crontab(minute=0, hour=12, tz=apia)

    assert ticks(due, at("2011-12-28T12:00", apia), 3) == ["29 12:00", "31 00:00", "31 12:00"]


CRONTABS = st.builds(
    crontab,
    minute=st.sampled_from(["*", "0", "30", "*/7", "0,15,45", "59"]),
    hour=st.sampled_from(["*", "0", "1", "2", "3", "*/2", "1-3", "0-22", "23"]),
    day_of_week=st.sampled_from(["*", "*", "sun", "sat,sun"]),
)


@functools.cache
def shown(zone: str, change: datetime) -> list[tuple[datetime, datetime, int]]:
    """Each minute of three days around a change of clocks: when it is, what clocks show, how often."""
    tz = zoneinfo.ZoneInfo(zone)
    start = change - timedelta(days=1, hours=12)
    found = []
    for number in range(3 * 1440):
        moment = start + number * MINUTE
        local = moment.astimezone(tz)
        found.append((moment, local.replace(tzinfo=None, fold=0), local.fold))
    return found


def expected_ticks(due: crontab, zone: str, change: datetime) -> list[datetime]:
    """By going through all minutes, and through all times on the wall that a jump leaves out."""
    found = set()
    before = None
    for moment, wall, fold in shown(zone, change):
        named = not due.fields.is_hourly
        if fits(due, wall) and not (named and fold):
            found.add(moment)
        while named and before is not None and before + MINUTE < wall:
            before += MINUTE
            if fits(due, before):
                found.add(moment)
        before = wall
    return sorted(found)


def fits(due: crontab, wall: datetime) -> bool:
    return (
        wall.minute in due.minute
        and wall.hour in due.hour
        and wall.isoweekday() % 7 in due.day_of_week
    )


@settings(deadline=None)  # a day minute by minute, beside whatever else runs
@given(due=CRONTABS, zone=st.sampled_from(ZONES), change=st.sampled_from(CHANGES))
def test_no_tick_is_skipped_or_doubled_where_clocks_are_changed(due, zone, change):
    minutes = shown(zone, change)
    moment, end = minutes[0][0] - timedelta(microseconds=1), minutes[-1][0]
    tz = zoneinfo.ZoneInfo(zone)

    found = []
    while (moment := due.next_after(moment, tz).astimezone(UTC)) <= end:
        found.append(moment)

    assert found == expected_ticks(due, zone, change)


@given(
    due=CRONTABS,
    zone=st.sampled_from(ZONES),
    moment=st.datetimes(at_wall(1950), at_wall(2090), timezones=st.just(UTC)),
    seconds=st.floats(0, 86400),
)
def test_the_next_time_of_a_moment_in_between_is_the_same(due, zone, moment, seconds):
    tz = zoneinfo.ZoneInfo(zone)

    then = due.next_after(moment, tz)

    assert then.astimezone(UTC) > moment
    between = min(moment + timedelta(seconds=seconds), then.astimezone(UTC) - timedelta(seconds=1))
    assert due.next_after(max(moment, between), tz) == then


# Periods


def test_a_period_counts_from_the_last_time():
    assert schedule(90).next_after(at("2024-05-06T10:00:30", UTC)) == at("2024-05-06T10:02", UTC)


def test_a_period_goes_on_over_a_change_of_clocks():
    due = schedule(3600, tz="Europe/Berlin")

    assert ticks(due, at("2024-10-27T01:30"), 3) == ["27 02:30", "27 02:30'", "27 03:30"]


@pytest.mark.parametrize(
    ("period", "then"),
    [
        (timedelta(days=1), "2024-05-07T00:00:00"),
        (timedelta(hours=2), "2024-05-06T12:00:00"),
        (timedelta(minutes=5), "2024-05-06T10:35:00"),
        (timedelta(seconds=5), "2024-05-06T10:30:20"),
        (timedelta(milliseconds=500), "2024-05-06T10:30:16.25"),
    ],
)
def test_a_relative_period_ends_at_a_whole_unit(period, then):
    due = schedule(period, relative=True, tz="Europe/Berlin")

    assert due.next_after(at("2024-05-06T10:30:15.75")) == at(then)


def test_a_relative_day_ends_at_midnight_though_clocks_were_changed():
    due = schedule(timedelta(days=1), relative=True, tz="Europe/Berlin")

    assert ticks(due, at("2024-03-30T10:00"), 2) == ["31 00:00", "01 00:00"]


def test_a_relative_day_of_25_hours_is_one_day():
    due = schedule(timedelta(days=1), relative=True, tz="Europe/Berlin")

    assert ticks(due, at("2024-10-26T10:00"), 3) == ["27 00:00", "28 00:00", "29 00:00"]
    assert ticks(due, at("2024-10-27T00:10"), 1) == ["28 00:00"]


def test_a_relative_day_of_23_hours_is_one_day_from_any_moment_before_it():
    due = schedule(timedelta(days=1), relative=True, tz="Europe/Berlin")

    assert ticks(due, at("2024-03-30T23:59:59"), 2) == ["31 00:00", "01 00:00"]


def test_two_relative_days_are_two_whatever_their_hours():
    due = schedule(timedelta(days=2), relative=True, tz="Europe/Berlin")

    assert ticks(due, at("2024-10-26T00:00"), 2) == ["28 00:00", "30 00:00"]


def test_a_relative_hour_of_90_minutes_is_one_hour():
    due = schedule(3600, relative=True, tz="Australia/Lord_Howe")
    lord_howe = zoneinfo.ZoneInfo("Australia/Lord_Howe")

    assert ticks(due, at("2026-04-05T00:00", lord_howe), 3) == ["05 01:00", "05 02:00", "05 03:00"]


def test_a_time_behind_a_repeated_hour_is_due_whoever_asks_at_a_part_of_a_second():
    due = crontab(minute="0,30", hour=3, tz="Europe/Berlin")

    assert ticks(due, at("2024-10-27T02:52:22.37", fold=1), 2) == ["27 03:00", "27 03:30"]


def test_a_relative_hour_is_due_in_both_passes_of_a_repeated_one():
    due = schedule(3600, relative=True, tz="Europe/Berlin")

    assert ticks(due, at("2024-10-27T01:00:03"), 3) == ["27 02:00", "27 02:00'", "27 03:00"]


@given(
    seconds=st.floats(0.001, 1e6),
    relative=st.booleans(),
    zone=st.sampled_from(ZONES),
    moment=st.datetimes(at_wall(2024), at_wall(2025), timezones=st.just(UTC)),
)
def test_a_period_leads_forward(seconds, relative, zone, moment):
    then = schedule(seconds, relative, tz=zone).next_after(moment).astimezone(UTC)

    longest = timedelta(seconds=seconds)
    if relative and seconds >= 86400:
        longest += timedelta(hours=1)
    elif relative and seconds >= 3600:
        longest += timedelta(minutes=30)
    assert moment < then <= moment + longest


@pytest.mark.parametrize("period", [0, -1, float("nan"), float("inf"), 1e12])
def test_a_period_that_is_none_is_refused(period):
    with pytest.raises(ValueError, match="is not between 0 and"):
        schedule(period)


@pytest.mark.parametrize("period", ["60", None, True, [60]])
def test_what_is_no_period_is_refused_with_what_would_be_one(period):
    with pytest.raises(ValueError, match="is not a period; use seconds, a timedelta"):
        maybe_schedule(period)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "0.50 seconds"),
        (1, "1.00 second"),
        (90, "1.50 minutes"),
        (3600, "1.00 hour"),
        (129600, "1.50 days"),
    ],
)
def test_a_period_is_said_in_words(seconds, words):
    assert schedule(seconds).human_seconds == words
    assert repr(schedule(seconds)) == f"<freq: {words}>"


# By the clock


class Keeper:
    """What a schedule asks of an app."""

    def __init__(self, timezone: str = "UTC") -> None:
        self.clock = FakeClock(at("2024-05-06T10:00", UTC).timestamp())
        self.settings = self
        self.timezone = timezone


def test_is_due_says_whether_and_when_to_ask_again():
    app = Keeper()
    due = schedule(60, app=app)

    assert due.is_due(app_now(app) - timedelta(seconds=20)) == schedstate(False, 40)
    assert due.is_due(app_now(app) - timedelta(seconds=60)) == (True, 60)
    assert due.is_due(app_now(app) - timedelta(days=1)) == (True, 60)
    assert due.remaining_estimate(app_now(app)) == timedelta(seconds=60)


def app_now(app: Keeper) -> datetime:
    return datetime.fromtimestamp(app.clock.now(), UTC)


def test_a_crontab_is_read_in_the_time_zone_of_the_app():
    app = Keeper("Europe/Berlin")  # where it is noon

    assert crontab(0, 13, app=app).is_due(app_now(app)) == (False, 3600)
    assert crontab(0, 13).next_after(app_now(app), BERLIN) == at("2024-05-06T13:00")
    assert crontab(0, 13, tz="UTC").next_after(app_now(app), BERLIN) == at("2024-05-06T13:00", UTC)


def test_a_crontab_that_was_missed_is_due_once_and_then_at_its_next_time():
    app = Keeper()
    due = crontab(minute=0, app=app)

    assert due.is_due(app_now(app) - timedelta(hours=5)) == (True, 3600)


def test_the_remaining_delta_is_told_with_both_ends():
    app = Keeper()

    last, delta, now = crontab(minute=30, app=app).remaining_delta(at("2024-05-06T09:10", UTC))

    assert (last, delta) == (at("2024-05-06T09:10", UTC), timedelta(minutes=20))
    assert now == app_now(app)


def test_a_naive_time_is_read_in_the_zone_of_the_schedule():
    naive = at("2024-05-06T10:00").replace(tzinfo=None)
    due = schedule(60, nowfun=lambda: naive, tz="Europe/Berlin")

    assert due.now() == at("2024-05-06T10:00")
    assert due.is_due(naive) == (False, 60)
    assert due.maybe_make_aware(naive) == due.to_local(naive) == at("2024-05-06T10:00")
    assert due.to_local(at("2024-05-06T08:00", UTC)).hour == 10


def test_without_app_or_zone_a_schedule_lives_in_utc_and_by_the_clock_of_the_machine():
    due = crontab()

    assert due.tz is UTC
    assert abs(due.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_schedule_of_ones_own_needs_next_after_or_remaining_estimate():
    class Mine(BaseSchedule):
        def remaining_estimate(self, last_run_at):
            return timedelta(seconds=7)

    app = Keeper()

    assert Mine(app=app).next_after(app_now(app)) == app_now(app) + timedelta(seconds=7)
    assert Mine(app=app).is_due(app_now(app)) == (False, 7)
    with pytest.raises(NotImplementedError, match="BaseSchedule has no next_after"):
        BaseSchedule().is_due(app_now(app))


def test_a_schedule_is_made_of_what_people_write():
    app = Keeper()
    own = crontab()

    assert maybe_schedule(30) == maybe_schedule(30.0) == maybe_schedule(timedelta(seconds=30))
    assert maybe_schedule(30, relative=True).relative
    assert maybe_schedule(own, app=app) is own
    assert own.app is app


def test_an_unknown_time_zone_is_refused():
    for name in ("Mars/Olympus", "Europe", "", "../etc/passwd"):
        with pytest.raises(ValueError, match="is not a time zone of the tz database"):
            crontab(tz=name)


# As JSON


@pytest.mark.parametrize(
    "due",
    [
        crontab(),
        crontab("*/5", {8, 9}, "mon-fri", [1, 2], "jan", tz="Europe/Berlin"),
        schedule(1.5),
        schedule(3600, relative=True, tz="UTC"),
    ],
)
def test_a_schedule_crosses_json(due):
    assert schedule_from_json(json.loads(json.dumps(schedule_to_json(due)))) == due


def test_what_json_cannot_say_is_refused():
    class Mine(schedule):
        pass

    with pytest.raises(ValueError, match="cannot be written as JSON"):
        schedule_to_json(BaseSchedule())
    assert schedule_from_json(schedule_to_json(Mine(5))) == schedule(5)
    for told in ({}, {"type": "solar"}, {"type": "interval"}, {"type": "crontab", "second": 1}):
        with pytest.raises(ValueError, match="is not a schedule as JSON"):
            schedule_from_json(told)
