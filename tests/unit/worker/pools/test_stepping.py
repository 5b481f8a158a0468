"""The pool of simulations: runs a job when it is told to."""

from __future__ import annotations

import pytest

from cardoon.message.serializers import JSON
from cardoon.testing import FakeClock
from cardoon.worker.pool import Failed, HandedBack, Job, Killed, Succeeded, TimedOut
from cardoon.worker.pools.stepping import SteppingPool
from tests.unit.stage import body, make_app


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def app(tmp_path, clock):
    with make_app(tmp_path, clock=clock) as made:
        made.task(name="add")(lambda x, y: x + y)
        made.task(name="slow")(clock.advance)
        yield made


@pytest.fixture
def ended():
    return []


@pytest.fixture
def pool(app, clock, ended):
    made = SteppingPool(app, clock=clock, on_ended=lambda *end: ended.append(end))
    yield made
    made.close()


def job(key, task, *args, **limits):
    head = {
        "key": key,
        "task": task,
        "id": f"id-{key}",
        "codec": JSON,
        "max_bytes": 1000,
        "retries": 0,
        "max_retries": 0,
        "eta": None,
        "expires": None,
        "root": None,
        "parent": None,
        "headers": {},
        "queue": "celery",
        "attempt": 1,
        "hostname": "here",
        "origin": None,
    }
    return Job(key, task, f"id-{key}", head, body(*args), **limits)


def test_nothing_runs_before_it_is_told_to(pool, ended):
    pool.submit([job(1, "add", 1, 2), job(2, "add", "x", None)])

    assert ended == []
    assert pool.wait_for_room(5) == 0
    first, ending = pool.step()
    assert first.key == 1
    assert isinstance(ending, Succeeded)
    assert isinstance(pool.step()[1], Failed)
    assert pool.step() is None
    assert pool.wait_for_room(5) == 1
    assert [key for key, _ in ended] == [1, 2]


def test_all_of_them_run_until_somebody_has_enough(pool, ended):
    pool.submit([job(key, "add", 1, 2) for key in range(5)])

    pool.run(lambda: len(ended) == 2)
    assert len(ended) == 2
    pool.wake()
    pool.run(lambda: False)
    assert len(ended) == 5


def test_a_job_that_has_not_begun_is_taken_away(pool, ended):
    pool.submit([job(1, "add", 1, 2), job(2, "add", 1, 2)])

    assert pool.cancel(2, signal="SIGTERM")
    assert not pool.cancel(3, signal="SIGTERM")

    assert ended == [(2, Killed("SIGTERM"))]
    assert pool.step()[0].key == 1


def test_what_waits_is_handed_back_at_the_end(pool, ended):
    pool.submit([job(1, "add", 1, 2)])

    pool.drain(soft=1, hard=2)

    assert ended == [(1, HandedBack())]
    assert pool.step() is None


def test_a_limit_counts_the_time_that_passes_in_a_task(pool, ended):
    pool.submit([job(1, "slow", 30, hard_limit=30.0), job(2, "slow", 29, hard_limit=30.0)])

    assert pool.step()[1] == TimedOut(30.0)
    assert isinstance(pool.step()[1], Succeeded)


def test_an_unknown_task_fails(pool):
    pool.submit([job(1, "unknown")])

    assert isinstance(pool.step()[1], Failed)
