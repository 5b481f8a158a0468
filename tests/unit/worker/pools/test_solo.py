"""One task at a time, in the worker's own process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import deque

import pytest

from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.worker.pool import Failed, HandedBack, Job, TimedOut, Unreadable
from cardoon.worker.pools.solo import SoloPool
from tests.unit.stage import MAX_BYTES, PATIENCE, succeeded
from tests.unit.worker.pools.far_end import job_head


def job(key, task, *args, body=None, soft_limit=None, hard_limit=None, **changes):
    head = job_head(key, task, **changes)
    encoded = encode_body([list(args), {}, {}], JSON) if body is None else body
    return Job(key, task, head["id"], head, encoded, soft_limit, hard_limit)


class Solo:
    """A pool whose `run` runs in a thread."""

    def __init__(self, app):
        self.ended = {}
        self.told = threading.Condition()
        self.stopping = False
        self.pool = SoloPool(app, clock=app.clock, on_ended=self._on_ended)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        self.pool.run(lambda: self.stopping)

    def _on_ended(self, key, ending):
        with self.told:
            assert key not in self.ended, "a job ended twice"
            self.ended[key] = ending
            self.told.notify_all()

    def start(self, *jobs):
        self.pool.submit(jobs)
        self.thread.start()
        return self

    def endings(self, count):
        with self.told:
            assert self.told.wait_for(lambda: len(self.ended) >= count, PATIENCE)
            return dict(self.ended)

    def stop(self):
        self.stopping = True
        self.pool.wake()
        if self.thread.is_alive():
            self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def solo(app):
    made = Solo(app)
    yield made
    made.stop()


def error_of(ending):
    return decode_body(JSON, ending.body, max_bytes=MAX_BYTES)["error"]["type"]


def spinner(app, name="spin"):
    """A task that runs till it is interrupted, and the event of its beginning."""
    running = threading.Event()

    def spin():
        running.set()
        while True:
            time.sleep(0.001)

    app.task(name=name)(spin)
    return running


def test_jobs_are_run_in_order_and_one_at_a_time(app, solo):
    seen = []
    app.task(name="note")(lambda x: seen.append((x, threading.get_ident())))

    solo.start(*(job(key, "note", key) for key in range(5)))

    assert solo.endings(5) == {key: succeeded(None) for key in range(5)}
    assert seen == [(key, solo.thread.ident) for key in range(5)]


def test_a_coroutine_is_run_to_its_end(app, solo):
    async def inc(x):
        await asyncio.sleep(0)
        return x + 1

    app.task(name="inc")(inc)

    solo.start(job(1, "inc", 5))

    assert solo.endings(1) == {1: succeeded(6)}


def test_there_is_room_for_one_job_when_none_runs(app, solo):
    running = spinner(app)
    assert solo.pool.wait_for_room(0.0) == 1

    solo.pool.submit([job(1, "spin")])
    assert solo.pool.wait_for_room(0.0) == 0
    solo.start()
    assert running.wait(PATIENCE)
    assert solo.pool.wait_for_room(0.0) == 0
    assert solo.pool.describe() == {
        "implementation": "solo",
        "max-concurrency": 1,
        "processes": [os.getpid()],
        "running": 1,
    }
    assert {key: place.pid for key, place in solo.pool.placements().items()} == {1: os.getpid()}

    assert solo.pool.cancel(1, signal="SIGTERM")
    assert solo.pool.wait_for_room(PATIENCE) == 1


def test_a_job_that_cannot_be_prepared_is_answered_and_the_pool_goes_on(app, solo):
    app.task(name="inc")(lambda x: x + 1)

    solo.start(
        job(1, "inc", body=b"garbage"),
        job(2, "unknown"),
        job(3, "inc", 5, headers={"timelimit": 7}),
    )

    endings = solo.endings(3)
    assert isinstance(endings[1], Unreadable)
    assert isinstance(endings[2], Failed)
    assert endings[3] == succeeded(6)


def test_a_running_task_is_interrupted_on_request(app, solo):
    running = spinner(app)
    solo.start(job(1, "spin"))
    assert running.wait(PATIENCE)

    assert not solo.pool.cancel(2, signal="SIGTERM")
    assert solo.pool.cancel(1, signal="SIGTERM")

    assert error_of(solo.endings(1)[1]) == "Terminated"


def test_a_task_that_does_not_run_cannot_be_interrupted(solo):
    assert not solo.pool.cancel(1, signal="SIGTERM")


def test_a_task_over_its_soft_limit_is_told_so(app, solo):
    spinner(app)

    solo.start(job(1, "spin", soft_limit=0.02))

    assert error_of(solo.endings(1)[1]) == "SoftTimeLimitExceeded"


def test_a_task_over_its_hard_limit_has_timed_out(app, solo):
    spinner(app)

    solo.start(job(1, "spin", hard_limit=0.02))

    assert solo.endings(1) == {1: TimedOut(0.02)}


def test_a_limit_is_not_held_against_the_next_task(app, solo):
    app.task(name="inc")(lambda x: x + 1)
    spinner(app)

    solo.start(job(1, "inc", 1, soft_limit=0.03, hard_limit=0.06), job(2, "spin", soft_limit=0.15))
    began = time.monotonic()
    endings = solo.endings(2)

    assert endings[1] == succeeded(2)
    assert error_of(endings[2]) == "SoftTimeLimitExceeded"
    assert time.monotonic() - began >= 0.1


def test_a_pool_that_drains_hands_back_what_waits_and_interrupts_what_runs(app, solo):
    running = spinner(app)
    solo.start(job(1, "spin"), job(2, "spin"), job(3, "spin"))
    assert running.wait(PATIENCE)

    solo.pool.drain(soft=0.0, hard=5.0)

    assert solo.endings(3) == {1: HandedBack(), 2: HandedBack(), 3: HandedBack()}
    assert solo.pool.wait_for_room(0.0) == 0


def test_a_pool_that_drains_lets_a_quick_task_end(app, solo):
    go_on, running = threading.Event(), threading.Event()

    def wait():
        running.set()
        return go_on.wait(PATIENCE)

    app.task(name="wait")(wait)
    solo.start(job(1, "wait"))
    assert running.wait(PATIENCE)

    solo.pool.drain(soft=PATIENCE, hard=PATIENCE)
    go_on.set()

    assert solo.endings(1) == {1: succeeded(True)}


def test_an_idle_pool_drains_at_once(solo):
    solo.pool.drain(soft=0.0, hard=0.0)

    assert solo.pool.wait_for_room(0.0) == 0
    solo.start()
    solo.stop()


def test_a_pool_that_is_told_to_stop_runs_what_it_has(app, solo):
    app.task(name="inc")(lambda x: x + 1)
    solo.stopping = True

    solo.start(job(1, "inc", 1), job(2, "inc", 2))
    solo.stop()

    assert solo.ended == {1: succeeded(2), 2: succeeded(3)}


@pytest.fixture
def usual_signals():
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("usual_signals")
def test_in_the_main_thread_a_task_is_woken_out_of_a_sleep(app):
    app.task(name="sleep")(lambda: time.sleep(PATIENCE))
    jobs = deque([job(1, "sleep", soft_limit=0.05)])
    ended = {}
    pool = SoloPool(app, clock=app.clock, on_ended=ended.__setitem__)
    pool.submit(jobs)
    began = time.monotonic()

    pool.run(lambda: True)

    assert error_of(ended[1]) == "SoftTimeLimitExceeded"
    assert time.monotonic() - began < PATIENCE / 2


def test_an_interrupt_that_comes_when_the_body_has_ended_does_not_end_the_worker(app, solo):
    writing, go_on = threading.Event(), threading.Event()

    class SlowToWrite(dict):
        def items(self):
            writing.set()
            assert go_on.wait(PATIENCE)
            return super().items()

    app.task(name="slow")(lambda: SlowToWrite(x=1))
    app.task(name="inc")(lambda x: x + 1)
    solo.start(job(1, "slow"), job(2, "inc", 1))
    assert writing.wait(PATIENCE)

    solo.pool.cancel(1, signal="SIGTERM")
    go_on.set()

    assert solo.endings(2) == {1: succeeded({"x": 1}), 2: succeeded(2)}
