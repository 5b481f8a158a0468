"""Tasks that run on the spot."""

from __future__ import annotations

import asyncio

import pytest

from cardoon import states
from cardoon.exceptions import (
    CardoonError,
    Ignore,
    InvalidTaskError,
    Reject,
    SoftShutdown,
)


def test_a_task_runs_here_and_now(app):
    task = app.task(name="add")(lambda x, y: x + y)

    result = task.apply((1,), {"y": 2})

    assert (result.get(), result.state) == (3, states.SUCCESS)


def test_a_failure_is_the_live_exception(app):
    class HouseError(Exception):
        pass

    @app.task
    def fail():
        raise HouseError("here")

    result = fail.apply()

    assert result.state == states.FAILURE
    assert "in fail" in result.traceback
    with pytest.raises(HouseError):
        result.get()


def test_a_failure_is_thrown_where_it_is_wanted(app):
    @app.task
    def fail():
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        fail.apply(throw=True)
    app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="here"):
        fail.apply()


def test_retries_follow_at_once(app):
    @app.task(bind=True, max_retries=3)
    def flaky(self, number):
        if self.request.retries < 2:
            raise self.retry(args=(number + 1,), countdown=60)
        return [number, self.request.retries, self.request.is_eager]

    assert flaky.apply((0,)).get() == [2, 2, True]


def test_the_retries_of_the_call_are_the_limit(app):
    @app.task(bind=True, max_retries=3)
    def never(self):
        raise self.retry(exc=ValueError(self.request.retries))

    assert str(never.apply().result) == "3"
    assert str(never.apply(max_retries=1).result) == "1"
    assert str(never.apply(retries=2).result) == "3"


@pytest.mark.parametrize(
    ("error", "state"), [(Reject("no"), states.REJECTED), (Ignore(), states.IGNORED)]
)
def test_the_other_ways_to_end(app, error, state):
    @app.task
    def end():
        raise error

    result = end.apply()

    assert result.state == state
    assert isinstance(result.result, type(error))


def test_a_shutdown_makes_no_sense_outside_of_a_worker(app):
    @app.task
    def stop():
        raise SoftShutdown

    with pytest.raises(CardoonError, match="outside of a worker"):
        stop.apply()


def test_a_coroutine_runs_in_a_loop_of_its_own(app):
    @app.task
    async def sleep():
        await asyncio.sleep(0)
        return "awake"

    assert sleep.apply().get() == "awake"


def test_the_request_says_what_was_asked_for(app):
    @app.task(bind=True)
    def describe(self):
        return [self.request.id, self.request.headers, self.request.called_directly]

    told = describe.apply(task_id="mine", headers={"a": 1}).get()

    assert told == ["mine", {"a": 1}, False]


def test_what_is_linked_follows_with_result_or_id(app):
    seen = []
    note = app.task(name="note")(seen.append)

    @app.task
    def work(ok):
        if not ok:
            raise ValueError
        return "done"

    work.apply((True,), link=note.s(), link_error=note.s())
    work.apply((False,), task_id="t1", link=note.s(), link_error=note.s())
    work.apply((True,), link=[note.si("fixed"), {"task": "note"}])

    assert seen == ["done", "t1", "fixed", "done"]


def test_an_unknown_option_is_refused(app):
    with pytest.raises(InvalidTaskError, match="unknown option"):
        app.task(name="x")(lambda: 1).apply(countdwn=1)


class TestAlwaysEager:
    @pytest.fixture
    def task(self, app):
        app.conf.task_always_eager = True
        return app.task(name="double")(lambda x: 2 * x)

    def test_every_way_to_call_runs_on_the_spot(self, app, task):
        assert task.delay(1).get() == 2
        assert task.apply_async((2,), countdown=5).get() == 4
        assert app.send_task("double", (3,)).get() == 6
        assert [result.get() for result in task.send_many([(1,), {"x": 2}])] == [2, 4]
        assert [result.get() for result in app.send_many([task.s(1), task.s(5)])] == [2, 10]
        assert task.s(4).delay().get() == 8

    def test_a_coroutine_may_call_a_coroutine(self, app, task):
        @app.task
        async def sleep():
            await asyncio.sleep(0)
            return "awake"

        async def call():
            plain, coroutine = await task.adelay(1), await sleep.adelay()
            return [await plain, await coroutine]

        assert asyncio.run(call()) == [2, "awake"]

    def test_arguments_are_checked_nevertheless(self, task):
        with pytest.raises(InvalidTaskError):
            task.delay()
        with pytest.raises(InvalidTaskError):
            task.send_many([(1,), (1, 2)])

    def test_progress_is_told_to_nobody(self, app, task):
        @app.task(bind=True)
        def progress(self):
            self.update_state(state="PROGRESS", meta=1)
            return "done"

        assert progress.delay().get() == "done"
