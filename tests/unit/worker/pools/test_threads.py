"""Several tasks at a time, in threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cardoon.exceptions import SoftTimeLimitExceeded, Terminated
from cardoon.message.serializers import decode_body
from cardoon.worker.ipc import FrameType
from cardoon.worker.pool import Failed, HandedBack, Succeeded, Unreadable
from cardoon.worker.pools.threads import ThreadRunner
from tests.unit.stage import MAX_BYTES, PATIENCE, succeeded
from tests.unit.worker.pools.far_end import released


@pytest.fixture
def start(app, serve):
    def make(slots=2):
        return serve(lambda channel, reporter: ThreadRunner(app, channel, reporter, slots=slots))

    return make


def error_of(ending):
    return decode_body("application/json", ending.body, max_bytes=MAX_BYTES)["error"]["type"]


def test_a_job_is_run_and_its_value_told(app, start):
    app.task(name="inc")(lambda x: x + 1)
    other = start()

    other.give(1, "inc", 5)

    assert other.endings(1) == {1: succeeded(6)}


def test_a_coroutine_is_run_to_its_end(app, start):
    async def inc(x):
        await asyncio.sleep(0)
        return x + 1

    app.task(name="inc")(inc)
    other = start(slots=1)

    for key in (1, 2):
        other.give(key, "inc", key)

    assert other.endings(2) == {1: succeeded(2), 2: succeeded(3)}


def test_as_many_jobs_run_at_a_time_as_there_are_slots(app, start):
    together = threading.Barrier(3)
    app.task(name="meet")(lambda: together.wait(PATIENCE) >= 0)
    other = start(slots=3)

    for key in (1, 2, 3):
        other.give(key, "meet")

    assert set(other.endings(3).values()) == {succeeded(True)}


def test_one_slot_runs_jobs_in_the_order_in_which_they_came(app, start):
    seen = []
    app.task(name="note")(seen.append)
    other = start(slots=1)

    for key in range(20):
        other.give(key, "note", key)

    assert list(other.endings(20)) == seen == list(range(20))


def test_a_job_that_cannot_be_prepared_is_answered_and_the_thread_goes_on(app, start):
    app.task(name="inc")(lambda x: x + 1)
    other = start(slots=1)

    other.give(1, "inc", body=b"garbage")
    other.give(2, "unknown")
    other.give(3, "inc", 5, headers={"timelimit": 7})

    endings = other.endings(3)
    assert isinstance(endings[1], Unreadable)
    assert isinstance(endings[2], Failed)
    assert endings[3] == succeeded(6)


@pytest.mark.parametrize(
    ("reason", "type_name"),
    [("soft_time_limit", "SoftTimeLimitExceeded"), ("terminated", "Terminated")],
)
def test_a_running_task_is_interrupted_with_a_reason(app, start, reason, type_name):
    running = threading.Event()

    def spin():
        running.set()
        while True:
            time.sleep(0.001)

    app.task(name="spin")(spin)
    other = start(slots=1)
    other.give(1, "spin")
    assert running.wait(PATIENCE)

    other.tell(FrameType.CANCEL, key=1, reason=reason)

    [ending] = other.endings(1).values()
    assert error_of(ending) == type_name


def test_a_running_coroutine_is_interrupted_with_a_reason_and_may_clean_up(app, start):
    running = threading.Event()

    async def sleep():
        running.set()
        try:
            await asyncio.sleep(3600)
        except SoftTimeLimitExceeded:
            return "cleaned up"

    app.task(name="sleep")(sleep)
    other = start(slots=1)
    other.give(1, "sleep")
    assert running.wait(PATIENCE)

    other.tell(FrameType.CANCEL, key=1, reason="soft_time_limit")

    assert other.endings(1) == {1: succeeded("cleaned up")}


def test_a_task_that_is_interrupted_because_the_worker_stops_is_handed_back(app, start):
    running = threading.Event()

    def spin():
        running.set()
        while True:
            time.sleep(0.001)

    app.task(name="spin")(spin)
    other = start(slots=1)
    other.give(1, "spin")
    assert running.wait(PATIENCE)

    other.tell(FrameType.CANCEL, key=1, reason="shutdown")

    assert other.endings(1) == {1: HandedBack()}


def test_an_interrupt_for_a_job_that_has_ended_harms_no_other(app, start):
    app.task(name="inc")(lambda x: x + 1)
    other = start(slots=1)
    other.give(1, "inc", 1)
    other.endings(1)

    other.tell(FrameType.CANCEL, key=1, reason="terminated")
    other.give(2, "inc", 2)

    assert other.endings(1) == {2: succeeded(3)}


def test_jobs_that_have_not_begun_can_be_taken_back(app, start):
    go_on, running, seen = threading.Event(), threading.Event(), []

    def wait(key):
        seen.append(key)
        running.set()
        return go_on.wait(PATIENCE)

    app.task(name="wait")(wait)
    other = start(slots=1)
    with released(go_on):
        for key in (1, 2, 3):
            other.give(key, "wait", key)
        assert running.wait(PATIENCE)

        other.tell(FrameType.RECALL, keys=[1, 3, 99])

        answer = other.hear()
        assert (answer.type, answer.head["keys"]) == (FrameType.RECALLED, [3])
    other.stop()
    assert set(other.endings(2)) == {1, 2}
    assert seen == [1, 2]


def test_a_runner_that_is_told_to_stop_finishes_what_it_has(app, start):
    app.task(name="inc")(lambda x: x + 1)
    other = start(slots=2)
    for key in range(5):
        other.give(key, "inc", key)

    other.stop()

    assert other.endings(5) == {key: succeeded(key + 1) for key in range(5)}
    assert other.error is None


def test_a_runner_without_a_worker_ends(app, start):
    app.task(name="inc")(lambda x: x + 1)
    other = start()

    other.hang_up()
    other.join()

    assert other.error is not None


def test_a_task_may_catch_its_interrupt(app, start):
    running = threading.Event()

    def stubborn():
        running.set()
        try:
            while True:
                time.sleep(0.001)
        except Terminated:
            return "last words"

    app.task(name="stubborn")(stubborn)
    other = start(slots=1)
    other.give(1, "stubborn")
    assert running.wait(PATIENCE)

    other.tell(FrameType.CANCEL, key=1, reason="terminated")

    [ending] = other.endings(1).values()
    assert isinstance(ending, Succeeded)
