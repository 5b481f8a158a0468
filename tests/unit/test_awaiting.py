"""Coroutines on a blocking core: sends that gather in batches, results that are awaited."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cardoon import states
from cardoon.awaiting import ResultQueue, SendQueue
from cardoon.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from cardoon.message.serializers import JSON
from cardoon.sender import Call, Handle, Report
from tests.unit.stage import PATIENCE


def call(name):
    return Call("shop.pay", name, "celery", JSON, b"")


class Store:
    """Publishes when it is let, and remembers the batches."""

    def __init__(self):
        self.batches = []
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()

    def __call__(self, calls):
        self.begun.set()
        assert self.let_go.wait(PATIENCE)
        self.batches.append([one.id for one in calls])
        for one in calls:
            if one.id.startswith("bad"):
                raise EncodeError(one.id)
            if one.id.startswith("odd"):
                raise ZeroDivisionError(one.id)
            if one.id.startswith("away"):
                raise OperationalError(one.id)
        return [one.id.encode() for one in calls]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


class TestSends:
    @pytest.fixture
    def store(self):
        return Store()

    async def gathered(self, store, *names):
        """Send a first call, and the named ones while it is being stored."""
        queue = SendQueue(store)
        store.let_go.clear()
        first = asyncio.create_task(queue.send(call("first"), within=PATIENCE))
        await asyncio.to_thread(store.begun.wait, PATIENCE)
        rest = [asyncio.create_task(queue.send(call(name), within=PATIENCE)) for name in names]
        await asyncio.sleep(0)
        return first, rest

    async def results(self, store, *names):
        first, rest = await self.gathered(store, *names)
        store.let_go.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    def test_what_gathers_while_one_is_stored_goes_together(self, store):
        found = run(self.results(store, "a", "b", "c"))

        assert found == [b"first", b"a", b"b", b"c"]
        assert store.batches == [["first"], ["a", "b", "c"]]

    async def late(self, store):
        """Send one behind a store that does not answer, and look what becomes of it."""
        queue = SendQueue(store)
        store.let_go.clear()
        first = asyncio.create_task(queue.send(call("first"), within=PATIENCE))
        await asyncio.to_thread(store.begun.wait, PATIENCE)
        with pytest.raises(OperationalError, match=r"^publish: not confirmed within 0.01 seconds$"):
            await queue.send(call("late"), within=0.01)
        store.let_go.set()
        await first
        await queue.send(call("next"), within=PATIENCE)

    def test_a_send_behind_a_store_that_does_not_answer_fails_in_time_and_is_not_made_up_for(
        self, store
    ):
        run(self.late(store))

        assert store.batches == [["first"], ["next"]]

    async def confirmed_too_late(self, store):
        store.let_go.clear()
        queue = SendQueue(store)
        with pytest.raises(OperationalError, match="not confirmed within"):
            await queue.send(call("first"), within=0.01)
        store.let_go.set()
        await queue.send(call("next"), within=PATIENCE)

    def test_what_is_confirmed_too_late_stops_nobody(self, store):
        run(self.confirmed_too_late(store))

        assert store.batches == [["first"], ["next"]]

    def test_the_sends_of_another_event_loop_fail_in_time_as_well(self, store):
        queue = SendQueue(store)
        run(queue.send(call("first"), within=PATIENCE))
        store.let_go.clear()

        with pytest.raises(OperationalError, match="not confirmed within"):
            run(queue.send(call("late"), within=0.01))

        store.let_go.set()

    async def given_up(self, store):
        store.let_go.clear()
        sending = asyncio.create_task(SendQueue(store).send(call("first"), within=PATIENCE))
        await asyncio.to_thread(store.begun.wait, PATIENCE)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        store.let_go.set()

    def test_a_sender_that_is_cancelled_is_cancelled(self, store):
        run(self.given_up(store))

    def test_the_thread_ends_and_another_begins(self, store):
        queue = SendQueue(store)

        assert run(queue.send(call("a"), within=PATIENCE)) == b"a"
        assert run(queue.send(call("b"), within=PATIENCE)) == b"b"

    @pytest.mark.parametrize(("name", "kind"), [("bad", EncodeError), ("odd", ZeroDivisionError)])
    def test_the_mistake_of_one_is_not_the_failure_of_another(self, store, name, kind):
        found = run(self.results(store, "a", name, "b"))

        assert found[:2] + found[3:] == [b"first", b"a", b"b"]
        assert isinstance(found[2], kind)

    def test_a_store_that_is_away_is_asked_once(self, store):
        found = run(self.results(store, "a", "away", "b"))

        assert [type(one) for one in found[1:]] == [OperationalError] * 3
        assert len(store.batches) == 2

    def test_after_an_error_nobody_expected_others_are_sent(self, store):
        queue = SendQueue(store)

        with pytest.raises(ZeroDivisionError):
            run(queue.send(call("odd"), within=PATIENCE))
        assert run(queue.send(call("a"), within=PATIENCE)) == b"a"

    def test_what_was_cancelled_before_it_was_taken_is_not_sent(self, store):
        async def scenario():
            first, rest = await self.gathered(store, "a", "b")
            rest[0].cancel()
            await asyncio.sleep(0)
            store.let_go.set()
            return await asyncio.gather(first, *rest, return_exceptions=True)

        found = run(scenario())

        assert isinstance(found[1], asyncio.CancelledError)
        assert store.batches == [["first"], ["b"]]


class Shelf:
    """A `Sender` whose results come when a test says so, read as a growing store is."""

    def __init__(self):
        self.changed = threading.Condition()
        self.reports = {}
        self.error = None
        self.waits = 0
        self.waiting = threading.Event()

    def put(self, *names):
        with self.changed:
            for name in names:
                self.reports[name] = Report(name, states.SUCCESS, JSON, b"")
            self.changed.notify_all()

    def fail(self, error):
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def wait(self, handles, *, timeout):
        self.waits += 1
        done = set()
        while True:
            with self.changed:
                while True:
                    if self.error is not None:
                        raise self.error
                    pending = {handle.task_id for handle in handles} - done
                    found = [self.reports[name] for name in pending if name in self.reports]
                    if found or not pending or timeout == 0:
                        break
                    self.waiting.set()
                    self.changed.wait(0.02)
            if not found:
                return
            done |= {report.task_id for report in found}
            yield from found


class TestResults:
    @pytest.fixture
    def shelf(self):
        return Shelf()

    @pytest.fixture
    def queue(self, shelf):
        return ResultQueue(lambda: shelf)

    def test_a_result_comes_to_whoever_waits_for_it(self, shelf, queue):
        async def scenario():
            waiting = [asyncio.create_task(queue.wait_for(Handle(name))) for name in "abca"]
            await asyncio.to_thread(shelf.waiting.wait, PATIENCE)
            shelf.put("b", "a", "c")
            return await asyncio.gather(*waiting)

        assert [report.task_id for report in run(scenario())] == list("abca")
        assert len(queue) == 0

    def test_one_that_is_there_already_comes_at_once(self, shelf, queue):
        shelf.put("a")

        assert run(queue.wait_for(Handle("a"))).task_id == "a"

    def test_one_that_came_before_it_was_asked_for_comes_beside_a_long_wait(self, shelf, queue):
        async def scenario():
            long = asyncio.create_task(queue.wait_for(Handle("never")))
            await asyncio.to_thread(shelf.waiting.wait, PATIENCE)
            shelf.put("a")
            found = await queue.wait_for(Handle("a"))
            assert Handle("never") in queue
            long.cancel()
            return found

        assert run(scenario()).task_id == "a"

    def test_the_handles_of_one_id_are_answered_together(self, shelf, queue):
        async def scenario():
            waiting = [
                asyncio.create_task(queue.wait_for(Handle("a", request)))
                for request in (None, b"digest")
            ]
            shelf.put("a")
            return await asyncio.gather(*waiting)

        assert [report.task_id for report in run(scenario())] == ["a", "a"]

    def test_whoever_gives_up_is_forgotten(self, shelf, queue):
        async def scenario():
            one, two = (asyncio.create_task(queue.wait_for(Handle("a"))) for _ in range(2))
            await asyncio.to_thread(shelf.waiting.wait, PATIENCE)
            one.cancel()
            await asyncio.wait([one])
            assert list(queue) == [Handle("a")]
            shelf.put("a")
            return await two

        assert run(scenario()).task_id == "a"
        assert len(queue) == 0

    @pytest.mark.parametrize(
        ("error", "raised"),
        [
            (OperationalError("away"), OperationalError),
            (ImproperlyConfigured("no backend"), ImproperlyConfigured),
            (ZeroDivisionError("odd"), OperationalError),
        ],
        ids=repr,
    )
    def test_an_error_is_raised_in_everyone_and_ends_nothing(self, shelf, queue, error, raised):
        async def scenario():
            waiting = [asyncio.create_task(queue.wait_for(Handle(name))) for name in "ab"]
            await asyncio.to_thread(shelf.waiting.wait, PATIENCE)
            shelf.fail(error)
            return await asyncio.gather(*waiting, return_exceptions=True)

        assert [type(one) for one in run(scenario())] == [raised] * 2
        shelf.error = None
        shelf.put("c")
        assert run(queue.wait_for(Handle("c"))).task_id == "c"
