"""Handles on several results: looked at, waited for, and taken apart together."""

from __future__ import annotations

import asyncio
import json

import pytest

from cardoon import states
from cardoon.context import Request, carrying_out
from cardoon.exceptions import TimeoutError  # noqa: A004  # Celery's name
from cardoon.message.serializers import JSON
from cardoon.result import (
    AsyncResult,
    EagerResult,
    GroupResult,
    ResultSet,
    allow_join_result,
    result_from_tuple,
)
from cardoon.sender import Report, Revocation


class Shelf:
    """A `ResultSource` and `Sender` that holds reports, and hands them out in the order they came."""

    max_result_bytes = 1000

    def __init__(self):
        self.reports = {}
        self.loads = 0
        self.waits = []
        self.forgotten = []
        self.revoked = []

    @property
    def sender(self):
        return self

    def put(self, task_id, content, state=states.SUCCESS):
        self.reports[task_id] = Report(task_id, state, JSON, json.dumps(content).encode())

    def succeed(self, **values):
        for task_id, value in values.items():
            self.put(task_id, {"result": value})

    def fail(self, task_id, state=states.FAILURE):
        told = {"type": "ValueError", "module": "builtins", "message": f"of {task_id}"}
        self.put(task_id, {"error": told, "traceback": ""}, state)

    async def wait_for(self, handle):
        while handle.task_id not in self.reports:  # noqa: ASYNC110  # the shelf rings no bell
            await asyncio.sleep(0)
        return self.reports[handle.task_id]

    def load(self, handles):
        self.loads += 1
        return {h.task_id: self.reports[h.task_id] for h in handles if h.task_id in self.reports}

    def wait(self, handles, *, timeout):
        self.waits.append((sorted(handle.task_id for handle in handles), timeout))
        wanted = {handle.task_id for handle in handles}
        for task_id, report in list(self.reports.items()):
            if task_id in wanted and states.is_final(report.state):
                yield report

    def forget(self, task_ids):
        self.forgotten += task_ids

    def revoke(self, revocation):
        self.revoked.append(revocation)


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def of(shelf):
    """Handles by their ids; a list is a group."""

    def make(*ids, id="g"):
        return GroupResult(
            id,
            [
                make(*one, id=f"in-{id}")
                if isinstance(one, list)
                else AsyncResult(one, source=shelf)
                for one in ids
            ],
            source=shelf,
        )

    return make


def test_the_results_come_in_the_order_of_the_members(shelf, of):
    shelf.succeed(b=2, a=1)

    assert of("a", "b").get(timeout=5) == [1, 2]
    assert of("a", "b").join() == of("a", "b").join_native() == [1, 2]
    [(ids, left), *_] = shelf.waits
    assert ids == ["a", "b"]
    assert 4 < left <= 5


def test_all_are_waited_for_in_one_look(shelf, of):
    shelf.succeed(a=1, b=2, c=3)

    of("a", ["b", "c"]).get()

    assert (len(shelf.waits), shelf.loads) == (1, 0)


def test_groups_in_groups_are_lists_in_lists(shelf, of):
    shelf.succeed(a=1, b=2, c=3)
    result = of("a", ["b", ["c"]])

    assert result.get(timeout=0) == [1, [2, [3]]]
    assert [leaf.id for leaf in result.leaves()] == ["a", "b", "c"]


def test_the_first_failure_that_arrives_is_raised_without_waiting_for_the_rest(shelf, of):
    shelf.fail("b")

    with pytest.raises(ValueError, match="of b"):
        of("a", "b").get(timeout=5)


@pytest.mark.parametrize("state", [states.FAILURE, states.REVOKED, states.REJECTED])
def test_without_propagation_exceptions_stand_in_the_list(shelf, of, state):
    shelf.succeed(a=1)
    shelf.fail("b", state)

    one, other = of("a", ["b"]).get(propagate=False)

    assert one == 1
    assert isinstance(other[0], ValueError)


def test_what_does_not_come_in_time_is_a_timeout_that_says_how_many(shelf, of):
    shelf.succeed(b=1)

    with pytest.raises(TimeoutError, match="2 of 3 results did not come in time"):
        of("a", "b", "c").get(timeout=0)


def test_what_has_come_is_not_asked_for_again(shelf, of):
    result = of("a", "b")
    shelf.succeed(a=1)
    with pytest.raises(TimeoutError):
        result.get(timeout=0)
    shelf.succeed(b=2)

    assert result.get(timeout=0) == [1, 2]
    assert [ids for ids, _ in shelf.waits] == [["a", "b"], ["b"]]
    assert result.get(timeout=0) == [1, 2]
    assert len(shelf.waits) == 2


def test_a_callback_gets_each_id_and_value(shelf, of):
    shelf.succeed(a=1, b=2, c=3)
    seen = []

    of("a", ["b", "c"]).get(callback=lambda task_id, value: seen.append((task_id, value)))

    assert seen == [("a", 1), ("in-g", [2, 3])]


def test_a_task_must_not_wait_for_several_either(shelf, of):
    shelf.succeed(a=1)

    with carrying_out(Request(task="shop.pay", id="t", hostname="w@h")):
        with pytest.raises(RuntimeError, match="must not wait"):
            of("a").get()
        assert of("a").get(disable_sync_subtasks=False) == [1]
        with allow_join_result():
            assert of("a").get() == [1]


def test_nothing_is_ready_at_once(shelf, of):
    result = of()

    assert result.get(timeout=0) == []
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert result  # a group is true even without members
    assert (len(result), shelf.waits, shelf.loads) == (0, [], 0)


def test_states_are_counted(shelf, of):
    result = of("a", ["b", "c"], "d")
    assert (result.completed_count(), result.ready(), result.waiting()) == (0, False, True)

    shelf.succeed(a=1)
    shelf.put("b", {"result": {}}, "PROGRESS")
    assert (result.completed_count(), result.failed(), result.ready()) == (1, False, False)

    shelf.fail("b")
    assert (result.completed_count(), result.failed(), result.successful()) == (1, True, False)

    shelf.succeed(c=1, d=1)
    assert (result.completed_count(), result.ready(), result.waiting()) == (3, True, False)
    assert not result.successful()


def test_counting_takes_one_look_however_many_are_pending(shelf, of):
    result = of(*(f"t{number}" for number in range(50)))

    result.completed_count()
    result.ready()

    assert shelf.loads == 2


def test_iterating_yields_each_as_it_arrives(shelf, of):
    shelf.succeed(c=3, a=1)
    shelf.fail("b")

    found = dict(of("a", ["b"], "c").iterate(timeout=1))

    assert list(found) == ["c", "a", "b"]
    assert isinstance(found["b"], ValueError)
    with pytest.raises(TimeoutError):
        list(of("a", "x").iter_native(timeout=0))


def test_awaiting_gives_the_values_or_the_failure(shelf, of):
    async def meanwhile():
        await asyncio.sleep(0)
        shelf.succeed(b=2)

    async def scenario():
        shelf.succeed(a=1)
        both, _ = await asyncio.gather(gather(of("a", ["b"])), meanwhile())
        assert both == [1, [2]]
        assert [leaf.id async for leaf in of("a", "b")] == ["a", "b"]
        shelf.fail("c")
        with pytest.raises(ValueError, match="of c"):
            await of("a", "c")

    async def gather(result):
        return await result

    asyncio.run(scenario())


def test_what_ran_here_is_not_looked_for_in_the_store(shelf):
    eager = [
        EagerResult("a", 1, states.SUCCESS, source=shelf),
        EagerResult("b", ValueError("no"), states.FAILURE, source=shelf),
    ]
    result = GroupResult("g", eager, source=shelf)

    assert GroupResult("g", eager[:1], source=shelf).get(timeout=0) == [1]
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=0)
    assert (result.completed_count(), result.ready(), result.failed()) == (1, True, True)
    assert asyncio.run(awaited(GroupResult("g", eager[:1], source=shelf))) == [1]
    assert (shelf.loads, shelf.waits) == (0, [])


async def awaited(result):
    return await asyncio.wait_for(_awaited(result), 5)


async def _awaited(result):
    return await result


def test_a_failure_that_is_there_is_thrown(shelf, of):
    result = of("a", "b")
    seen = []
    result.maybe_throw()
    shelf.succeed(a=1)
    result.maybe_throw(callback=lambda *told: seen.append(told))
    shelf.fail("b")

    with pytest.raises(ValueError, match="of b"):
        result.maybe_reraise()
    assert seen == [("a", 1), ("b", None)]


def test_all_are_revoked_and_forgotten_in_one_step(shelf, of):
    result = of("a", ["b"])

    result.revoke(terminate=True, signal="SIGKILL")
    result.forget()
    of().revoke()
    of().forget()

    assert shelf.revoked == [Revocation(("a", "b"), True, "SIGKILL")]
    assert shelf.forgotten == ["a", "b"]


def test_a_set_is_changed_like_a_list_without_doubles(shelf):
    a, b, c = (AsyncResult(name, source=shelf) for name in "abc")
    results = ResultSet([a])

    results.add(b)
    results.update([a, b, c])
    assert list(results) == [a, b, c]
    assert (len(results), results[1]) == (3, b)

    results.discard(b)
    results.discard(b)
    results.remove(a)
    with pytest.raises(KeyError):
        results.remove(a)
    assert list(results) == [c]

    results.clear()
    assert len(results) == 0


def test_sets_and_groups_are_equal_when_their_members_are(shelf, of):
    a = AsyncResult("a", source=shelf)

    assert ResultSet([a]) == ResultSet([AsyncResult("a", source=shelf)])
    assert ResultSet([a]) != ResultSet([])
    assert of("a") == of("a")
    assert of("a") != of("a", id="other")
    assert of("a") != of("b")
    assert of("a") != ResultSet([a])
    with pytest.raises(TypeError):
        hash(ResultSet([a]))


def test_a_group_is_shown_with_its_members(of):
    assert str(of("a", ["b"])) == "g(a, in-g(b))"
    assert repr(of("a")) == "<GroupResult: [a]>"
    assert of("a", "b").children == of("a", "b").results


def test_a_handle_goes_through_tuples_and_json_and_back(shelf, of):
    result = AsyncResult("body", source=shelf)
    result.parent = of("a", ["b"])
    result.parent.parent = AsyncResult("first", source=shelf)

    told = json.loads(json.dumps(result.as_tuple()))
    back = result_from_tuple(told, shelf)

    assert back.as_tuple() == result.as_tuple()
    assert (back.id, back.parent, back.parent.parent) == (
        "body",
        result.parent,
        result.parent.parent,
    )
    shelf.succeed(a=1, b=2)
    assert back.parent.get(timeout=0) == [1, [2]]


def test_who_waits_for_a_group_is_called_once_all_are_seen(shelf, of):
    result, seen, errors = of("a", ["b", "c"]), [], []
    assert result.then(seen.append) is result
    result.then(seen.append, errors.append)

    shelf.succeed(a=1, b=2)
    result.ready()
    assert seen == []

    shelf.succeed(c=3)
    result.get(timeout=0)
    assert seen == [result, result]
    assert errors == []


def test_the_failure_of_a_member_is_for_on_error(shelf, of):
    shelf.succeed(a=1)
    shelf.fail("b")
    result, seen, errors = of("a", "b"), [], []
    result.then(seen.append, errors.append)

    result.ready()

    assert seen == []
    assert [str(error) for error in errors] == ["of b"]


def test_an_empty_group_has_ended(of):
    seen = []

    of().then(seen.append)

    assert len(seen) == 1


def test_a_group_is_made_as_celery_makes_it(app):
    app.set_default()
    one = AsyncResult("a")

    made = GroupResult(results=[one], app=app)

    assert made.source is app
    assert made.id
    assert ResultSet([one], app=app).results == [one]
    assert result_from_tuple(made.as_tuple()) == made
