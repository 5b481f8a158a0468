"""Rate limits: how soon a task may start again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.task_options import parse_rate
from cardoon.testing import FakeClock
from cardoon.worker.rates import Rates


def starts_within(rates, clock, seconds, *, step, task="t"):
    """When the task started, if it is tried every `step` seconds."""
    begun = []
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        if rates.wait_for(task, clock.monotonic()) == 0.0:
            begun.append(clock.monotonic())
        clock.advance(step)
    return begun


def test_a_task_without_a_limit_never_waits():
    rates = Rates({"other": 1.0})

    assert [rates.wait_for("t", 0.0) for _ in range(100)] == [0.0] * 100


def test_the_first_start_is_free_and_the_second_waits_its_turn():
    rates = Rates({"t": 2.0})

    assert rates.wait_for("t", 10.0) == 0.0
    assert rates.wait_for("t", 10.0) == 0.5
    assert rates.wait_for("t", 10.25) == 0.25
    assert rates.wait_for("t", 10.5) == 0.0


def test_asking_takes_nothing_while_there_is_nothing():
    rates = Rates({"t": 1.0})
    rates.wait_for("t", 0.0)

    assert [rates.wait_for("t", 0.5) for _ in range(10)] == [0.5] * 10
    assert rates.wait_for("t", 1.0) == 0.0


def test_ten_a_minute_are_ten_in_every_minute():
    clock = FakeClock()
    rates = Rates({"t": parse_rate("10/m")})

    begun = starts_within(rates, clock, 180, step=1)

    assert begun == [float(second) for second in range(0, 180, 6)]


def test_limits_of_two_tasks_do_not_know_each_other():
    rates = Rates({"fast": 10.0, "slow": 0.1})

    assert rates.wait_for("slow", 0.0) == 0.0
    assert rates.wait_for("fast", 0.0) == 0.0
    assert rates.wait_for("slow", 0.1) == pytest.approx(9.9)
    assert rates.wait_for("fast", 0.1) == 0.0


def test_a_start_that_came_late_does_not_slow_the_task_down():
    clock = FakeClock()
    rates = Rates({"t": 1.0})

    begun = starts_within(rates, clock, 70, step=0.7)  # never at the moment that is due

    assert len(begun) == 70


def test_a_long_rest_is_no_credit_for_a_burst():
    rates = Rates({"t": 1.0})
    rates.wait_for("t", 0.0)

    at_once = [rates.wait_for("t", 1000.0) for _ in range(100)]

    assert at_once.count(0.0) <= 2  # the one that is due, and the one that it was late for
    assert at_once[-1] == 1.0


@given(
    rate=st.floats(0.1, 100),
    steps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_in_no_span_of_time_are_there_more_starts_than_the_rate_and_two_allow(rate, steps):
    clock = FakeClock(0.0)
    rates = Rates({"t": rate})
    begun = []
    for step in steps:
        clock.advance(step)
        if rates.wait_for("t", clock.monotonic()) == 0.0:
            begun.append(clock.monotonic())

    for first, start in enumerate(begun):
        for count, end in enumerate(begun[first:], start=1):
            assert count <= (end - start) * rate + 2 + 1e-6
