"""Many `async def` tasks at a time, in one event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cardoon.exceptions import SoftTimeLimitExceeded
from cardoon.message.serializers import decode_body
from cardoon.worker.ipc import FrameType
from cardoon.worker.pool import Failed, HandedBack, Unreadable
from cardoon.worker.pools.eventloop import EventLoopRunner
from tests.unit.stage import MAX_BYTES, PATIENCE, succeeded


@pytest.fixture
def start(app, serve):
    def make(slots=100):
        return serve(lambda channel, reporter: EventLoopRunner(app, channel, reporter, slots=slots))

    return make


def error_of(ending):
    return decode_body("application/json", ending.body, max_bytes=MAX_BYTES)["error"]["type"]


def test_a_coroutine_is_run_and_its_value_told(app, start):
    async def inc(x):
        return x + 1

    app.task(name="inc")(inc)
    other = start()

    other.give(1, "inc", 5)

    assert other.endings(1) == {1: succeeded(6)}


def test_coroutines_run_at_the_same_time_in_one_thread(app, start):
    met, all_met = [], asyncio.Event()

    async def meet():
        met.append(threading.get_ident())
        if len(met) == 50:
            all_met.set()
        await all_met.wait()
        return len(set(met))

    app.task(name="meet")(meet)
    other = start()

    for key in range(50):
        other.give(key, "meet")

    assert set(other.endings(50).values()) == {succeeded(1)}


def test_a_plain_function_does_not_stop_the_loop(app, start):
    go_on = threading.Event()

    async def release():
        go_on.set()

    app.task(name="wait")(lambda: go_on.wait(PATIENCE))
    app.task(name="release")(release)
    other = start()

    other.give(1, "wait")
    other.give(2, "release")

    assert other.endings(2) == {1: succeeded(True), 2: succeeded(None)}


def test_a_job_that_cannot_be_prepared_is_answered_and_the_loop_goes_on(app, start):
    async def inc(x):
        return x + 1

    app.task(name="inc")(inc)
    other = start()

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
def test_a_running_coroutine_is_interrupted_with_a_reason(app, start, reason, type_name):
    running = threading.Event()

    async def sleep():
        running.set()
        await asyncio.sleep(3600)

    app.task(name="sleep")(sleep)
    other = start()
    other.give(1, "sleep")
    assert running.wait(PATIENCE)

    other.tell(FrameType.CANCEL, key=1, reason=reason)

    [ending] = other.endings(1).values()
    assert error_of(ending) == type_name


def test_a_coroutine_may_clean_up_and_its_neighbour_is_not_disturbed(app, start):
    running, go_on = threading.Semaphore(0), asyncio.Event()

    async def sleep():
        running.release()
        try:
            await asyncio.sleep(3600)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            go_on.set()
            return "cleaned up"

    async def neighbour():
        running.release()
        return await go_on.wait()

    app.task(name="sleep")(sleep)
    app.task(name="neighbour")(neighbour)
    other = start()
    other.give(1, "sleep")
    other.give(2, "neighbour")
    for _ in range(2):
        assert running.acquire(timeout=PATIENCE)

    other.tell(FrameType.CANCEL, key=1, reason="soft_time_limit")

    assert other.endings(2) == {1: succeeded("cleaned up"), 2: succeeded(True)}


def test_a_plain_function_is_interrupted_in_its_thread(app, start):
    running = threading.Event()

    def spin():
        running.set()
        while True:
            time.sleep(0.001)

    app.task(name="spin")(spin)
    other = start()
    other.give(1, "spin")
    assert running.wait(PATIENCE)

    other.tell(FrameType.CANCEL, key=1, reason="shutdown")

    assert other.endings(1) == {1: HandedBack()}


def test_an_interrupt_for_a_job_that_is_not_there_harms_nobody(app, start):
    async def inc(x):
        return x + 1

    app.task(name="inc")(inc)
    other = start()

    other.tell(FrameType.CANCEL, key=99, reason="terminated")
    other.give(1, "inc", 5)

    assert other.endings(1) == {1: succeeded(6)}


def test_every_job_has_begun_so_none_can_be_taken_back(app, start):
    other = start()

    other.tell(FrameType.RECALL, keys=[1, 2])

    answer = other.hear()
    assert (answer.type, answer.head["keys"]) == (FrameType.RECALLED, [])


def test_a_runner_that_is_told_to_stop_finishes_what_it_has(app, start):
    running, go_on, loops = threading.Event(), asyncio.Event(), []

    async def wait():
        loops.append(asyncio.get_running_loop())
        running.set()
        await go_on.wait()

    app.task(name="wait")(wait)
    other = start()
    other.give(1, "wait")
    assert running.wait(PATIENCE)

    other.tell(FrameType.STOP)
    loops[0].call_soon_threadsafe(go_on.set)
    other.join()

    assert other.endings(1) == {1: succeeded(None)}
    assert other.error is None


def test_a_runner_without_a_worker_ends_with_an_error(app, start):
    other = start()

    other.hang_up()
    other.join()

    assert other.error is not None
