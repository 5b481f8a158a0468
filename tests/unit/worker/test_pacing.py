"""How many jobs a process is handed in advance."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.worker.pacing import HORIZON, MAX_DEPTH, Pace


def paced(*runtimes, limit=MAX_DEPTH):
    pace = Pace(limit)
    for runtime in runtimes:
        pace.observe(runtime)
    return pace


def test_nothing_waits_in_a_process_before_the_first_task_has_ended():
    assert Pace().depth == 1


@pytest.mark.parametrize("runtime", [HORIZON, 0.5, 3600.0])
def test_a_slow_task_has_nothing_waiting_behind_it(runtime):
    assert paced(*[runtime] * 10).depth == 1


def test_short_tasks_may_wait_for_as_long_as_the_horizon():
    assert paced(HORIZON / 10.5).depth == 10


def test_no_task_is_so_short_that_more_than_the_limit_wait():
    assert paced(0.0).depth == MAX_DEPTH
    assert paced(0.0, limit=4).depth == 4


def test_slowness_is_believed_at_once():
    pace = paced(*[0.0001] * 100)
    assert pace.depth == MAX_DEPTH

    pace.observe(1.0)

    assert pace.depth == 1


def test_speed_is_believed_by_and_by():
    pace = paced(1.0)

    depths = []
    for _ in range(200):
        pace.observe(0.0001)
        depths.append(pace.depth)

    assert depths[:10] == [1] * 10
    assert depths == sorted(depths)
    assert depths[-1] == MAX_DEPTH


@given(runtimes=st.lists(st.floats(), max_size=8), limit=st.integers(1, 500))
def test_whatever_a_process_claims_about_its_run_times_the_depth_stays_within_bounds(
    runtimes, limit
):
    assert 1 <= paced(*runtimes, limit=limit).depth <= limit


@pytest.mark.parametrize("claimed", [math.inf, math.nan, -1.0, 1.7e308])
def test_an_impossible_run_time_is_forgotten_like_any_other(claimed):
    assert paced(claimed, *[0.0001] * 500).depth == MAX_DEPTH
