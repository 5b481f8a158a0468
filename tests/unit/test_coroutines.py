"""Coroutines that are interrupted with a reason, and a loop for threads that have none."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from cardoon.coroutines import Interruptible, LoopRunner
from cardoon.exceptions import SoftShutdown, SoftTimeLimitExceeded
from tests.unit.stage import PATIENCE


async def drive(coroutine):
    return await Interruptible(coroutine)


def test_a_coroutine_runs_to_its_end():
    async def add(x, y):
        await asyncio.sleep(0)
        return x + y

    assert asyncio.run(drive(add(1, 2))) == 3


def test_a_coroutine_that_raises_raises():
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(drive(fail()))


def test_an_error_of_what_is_awaited_is_the_coroutines_to_handle():
    async def handle():
        failing = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(failing.set_exception, ConnectionError("gone"))
        try:
            await failing
        except ConnectionError:
            return "handled"

    assert asyncio.run(drive(handle())) == "handled"


def test_a_coroutine_may_time_its_own_steps():
    async def impatient():
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"

    assert asyncio.run(drive(impatient())) == "timed out"


def test_a_cancellation_is_seen_as_its_reason():
    async def scenario():
        begun = asyncio.Event()

        async def task():
            try:
                begun.set()
                await asyncio.Event().wait()
            except SoftTimeLimitExceeded:
                await asyncio.sleep(0)
                return "cleaned up"

        driven = Interruptible(task())
        running = asyncio.ensure_future(as_coroutine(driven))
        await begun.wait()
        driven.reason = SoftTimeLimitExceeded
        running.cancel()
        return await running

    assert asyncio.run(scenario()) == "cleaned up"


def test_a_cancellation_without_reason_is_one():
    async def scenario():
        running = asyncio.ensure_future(drive(asyncio.Event().wait()))
        await asyncio.sleep(0)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())


def test_a_coroutine_that_is_given_up_cleans_up():
    cleaned = []

    async def task():
        try:
            await asyncio.sleep(1)
        finally:
            cleaned.append(True)

    async def scenario():
        driving = drive(task())
        driving.send(None)
        driving.close()

    asyncio.run(scenario())

    assert cleaned == [True]


async def as_coroutine(awaitable):
    return await awaitable


@pytest.fixture
def runner():
    made = LoopRunner()
    yield made
    made.close()


def test_one_loop_serves_all_coroutines_of_a_thread(runner):
    async def loop():
        return asyncio.get_running_loop()

    assert runner(loop()) is runner(loop())


def test_what_is_interrupted_from_another_thread_sees_the_reason(runner):
    begun = threading.Event()

    async def task():
        try:
            begun.set()
            await asyncio.Event().wait()
        except SoftShutdown:
            return "handed back"

    def interrupt():
        assert begun.wait(PATIENCE)
        assert runner.interrupt(SoftShutdown)

    other = threading.Thread(target=interrupt)
    other.start()

    assert runner(task()) == "handed back"
    other.join()


def test_nothing_is_interrupted_when_nothing_runs(runner):
    assert not runner.interrupt(SoftShutdown)


def test_an_interrupt_by_a_signal_reaches_the_coroutine(runner):
    begun = threading.Event()

    async def task():
        try:
            begun.set()
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            return "cleaned up"

    def ring(*_):
        raise SoftTimeLimitExceeded

    def interrupt():
        assert begun.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, ring)
    other = threading.Thread(target=interrupt)
    other.start()
    try:
        assert runner(task()) == "cleaned up"
    finally:
        signal.signal(signal.SIGUSR1, before)
        other.join()


def test_a_signal_that_another_thread_catches_reaches_the_coroutine_as_well(runner):
    begun, over = threading.Event(), threading.Event()

    async def task():
        started = time.monotonic()
        try:
            begun.set()
            await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
        except SoftTimeLimitExceeded:
            return time.monotonic() - started

    def ring(*_):
        raise SoftTimeLimitExceeded

    def interrupt():
        assert begun.wait(PATIENCE)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        os.kill(os.getpid(), signal.SIGUSR1)
        over.wait(PATIENCE)

    before = signal.signal(signal.SIGUSR1, ring)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # so that this one does not
    other = threading.Thread(target=interrupt)
    other.start()
    try:
        assert runner(task()) < PATIENCE / 2, "something else has woken the loop"
    finally:
        over.set()
        other.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGUSR1, before)


def test_what_a_signal_wakes_otherwise_is_left_as_it_was(runner):
    before = signal.set_wakeup_fd(-1)
    try:
        runner(asyncio.sleep(0))
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(before)


def test_an_interrupt_that_the_coroutine_raised_itself_goes_on(runner):
    async def task():
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        runner(task())


def test_a_runner_is_closed_twice_and_used_again(runner):
    runner.close()
    runner.close()

    assert runner(asyncio.sleep(0, "again")) == "again"
