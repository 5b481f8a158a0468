"""What is due, and when to look again: the state machine of a beat, without clock and store."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardoon.beat.agenda import Agenda, timing_of
from cardoon.schedules import BaseSchedule, crontab, schedule
from cardoon.timetable import PeriodicTask, parse_entry

START = datetime(2026, 12, 2, 12, tzinfo=UTC)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def entry_of(due: object, **wishes: object) -> PeriodicTask:
    return parse_entry("e", {"task": "shop.add", "schedule": due, **wishes})


def agenda_of(entry: PeriodicTask, **options: object) -> Agenda:
    made = Agenda(**options)
    assert made.follow({"e": entry}) == ["e"]
    made.begin("e", entry, START)
    return made


def dues(agenda: Agenda, after: float) -> list[float]:
    """What is to be sent so many seconds after the start, in seconds after the start."""
    found = agenda.look(START + seconds(after))
    return [(tick.due - START).total_seconds() for tick in found.ticks if tick.is_sent]


def test_an_entry_is_due_one_period_after_it_began():
    agenda = agenda_of(entry_of(30.0))

    assert agenda.next_due() == START + seconds(30)
    assert dues(agenda, 29.999) == []
    assert dues(agenda, 30) == [30]


def test_a_tick_stays_due_until_it_was_sent():
    agenda = agenda_of(entry_of(30.0))
    assert dues(agenda, 31) == dues(agenda, 32) == [30]

    agenda.advance("e", START + seconds(30))

    assert dues(agenda, 33) == []
    assert agenda.next_due() == START + seconds(60)


def test_an_entry_never_goes_back():
    agenda = agenda_of(entry_of(30.0))
    agenda.advance("e", START + seconds(90))
    agenda.advance("e", START + seconds(30))

    assert agenda.last("e") == START + seconds(90)


def test_what_is_a_little_late_is_sent_tick_by_tick():
    agenda = agenda_of(entry_of(1.0, catch_up="skip"))

    assert dues(agenda, 5.5) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("catch_up", "sent", "missed"),
    [("skip", [], 6), ("one", [360], 5), ("all", [60, 120, 180, 240, 300, 360], 0)],
)
def test_what_was_missed_is_caught_up_with_as_the_entry_says(catch_up, sent, missed):
    agenda = agenda_of(entry_of(60.0, catch_up=catch_up))

    found = agenda.look(START + seconds(390))

    assert [(tick.due - START).total_seconds() for tick in found.ticks] == sent
    assert found.missed.get("e", 0) == missed


def test_nothing_is_caught_up_with_by_a_tick_that_comes_anyway():
    agenda = agenda_of(entry_of(60.0))

    assert dues(agenda, 425) == [420]


@pytest.mark.parametrize("catch_up", ["one", "all"])
def test_what_is_older_than_the_window_is_not_sent(catch_up):
    agenda = agenda_of(entry_of(crontab(hour=13, minute=0), catch_up=catch_up))

    assert dues(agenda, 2 * 3600 + 1) == []
    assert agenda.next_due() == START + timedelta(days=1, hours=1)


def test_the_window_is_as_long_as_is_said():
    agenda = agenda_of(entry_of(crontab(hour=13, minute=0)), window=7201)

    assert dues(agenda, 3 * 3600) == [3600]


def test_a_period_goes_on_from_its_last_tick_after_a_year():
    agenda = agenda_of(entry_of(7.0))
    year = 366 * 86400

    found = agenda.look(START + seconds(year))

    [tick] = [one for one in found.ticks if one.due > START + seconds(year - 7)]
    assert (tick.due - START) % seconds(7) == seconds(0)
    assert found.missed["e"] >= 1


def test_many_missed_ticks_are_sent_by_and_by_from_the_oldest():
    agenda = agenda_of(entry_of(1.0, catch_up="all"))
    sent = []
    for _ in range(4):
        found = dues(agenda, 3000)
        sent += found
        for one in found:
            agenda.advance("e", START + seconds(one))

    assert sent == list(range(1, 3001))


def test_a_paused_entry_passes_over_its_ticks():
    agenda = agenda_of(entry_of(1.0, paused=True))

    found = agenda.look(START + seconds(3))

    assert [tick.is_sent for tick in found.ticks] == [False] * 3
    assert found.missed == {}


def test_ticks_of_several_entries_come_in_the_order_in_which_they_were_due():
    slow, fast = entry_of(3.0), entry_of(2.0)
    agenda = Agenda()
    agenda.follow({"slow": slow, "fast": fast})
    for name, entry in (("slow", slow), ("fast", fast)):
        agenda.begin(name, entry, START)

    found = agenda.look(START + seconds(6)).ticks

    assert [tick.name for tick in found] == ["fast", "slow", "fast", "slow", "fast"]


def test_a_time_zone_of_an_entry_counts():
    agenda = agenda_of(entry_of(crontab(hour=2, minute=30), tz="Europe/Berlin"))
    assert agenda.next_due() == datetime(2026, 12, 3, 1, 30, tzinfo=UTC)

    agenda = agenda_of(entry_of(crontab(hour=2, minute=30)), zone="America/New_York")
    assert agenda.next_due() == datetime(2026, 12, 3, 7, 30, tzinfo=UTC)


def test_an_entry_with_other_times_begins_anew_and_one_with_other_arguments_does_not():
    agenda = agenda_of(entry_of(30.0))

    assert agenda.follow({"e": entry_of(30.0, args=(1,), paused=True)}) == []
    assert agenda.follow({"e": entry_of(31.0)}) == ["e"]
    assert agenda.follow({}) == []
    assert agenda.next_due() is None


def test_times_are_told_apart_by_their_zone():
    nightly = entry_of(crontab(hour=3))

    assert timing_of(nightly, "UTC") != timing_of(nightly, "Europe/Berlin")
    assert timing_of(nightly, "UTC") == timing_of(entry_of(crontab(hour=3), tz="UTC"), "Asia/Tokyo")
    assert timing_of(nightly, "UTC") == timing_of(entry_of(crontab(hour=3, tz="UTC")), "Asia/Tokyo")


class Odd(BaseSchedule):
    """A schedule of a user's."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def next_after(self, moment, zone=None):
        return self.answer(moment)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda moment: moment, "ValueError: its schedule says .* not later than"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: None, "AttributeError"),
    ],
)
def test_a_schedule_that_fails_holds_up_no_other(answer, told):
    good, bad = entry_of(1.0), entry_of(Odd(answer))
    agenda = Agenda()
    agenda.follow({"bad": bad, "good": good})
    agenda.begin("bad", bad, START)
    agenda.begin("good", good, START)

    assert [tick.name for tick in agenda.look(START + seconds(1)).ticks] == ["good"]
    [(name, error)] = agenda.take_broken().items()
    assert name == "bad"
    assert re.search(told, error)
    assert agenda.take_broken() == {}


class Estimating(BaseSchedule):
    """A schedule as Celery's users write them."""

    def remaining_estimate(self, last_run_at):
        return last_run_at + timedelta(seconds=30) - self.now()


def test_a_schedule_of_celerys_kind_is_due_at_whole_seconds_whoever_asks():
    entry = entry_of(Estimating())

    assert {agenda_of(entry).next_due() for _ in range(200)} == {START + seconds(30)}


@settings(max_examples=60, deadline=None)
@given(
    period=st.sampled_from([0.5, 1.0, 7.0, 60.0]),
    pauses=st.lists(st.floats(0.01, 9.9), min_size=1, max_size=60),
)
def test_whoever_looks_at_least_every_ten_seconds_gets_every_tick_once(period, pauses):
    agenda = agenda_of(entry_of(schedule(period)))
    now, sent = START, []
    for pause in pauses:
        now += seconds(pause)
        for tick in agenda.look(now).ticks:
            sent.append(tick.due)
            agenda.advance("e", tick.due)

    expected, due = [], START + seconds(period)
    while due <= now:
        expected.append(due)
        due += seconds(period)
    assert sent == expected
