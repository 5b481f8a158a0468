"""Handles on results: what they say of each state, and what they raise."""

from __future__ import annotations

import asyncio
import builtins
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon import exceptions, states
from cardoon.context import Request, carrying_out
from cardoon.exceptions import RefusedError, RemoteError, TaskRevokedError
from cardoon.message.serializers import JSON
from cardoon.result import AsyncResult, EagerResult, describe_exception, rebuild_exception
from cardoon.sender import Handle, Report, Revocation
from cardoon.standin import Current


class Shelf:
    """A `ResultSource` and `Sender` that holds reports."""

    max_result_bytes = 1000

    def __init__(self, *reports):
        self.reports = {report.task_id: report for report in reports}
        self.asked = []
        self.forgotten = []
        self.revoked = []
        self.loads = 0

    @property
    def sender(self):
        return self

    async def wait_for(self, handle):
        self.asked.append(handle)
        return self.reports[handle.task_id]

    def load(self, handles):
        self.loads += 1
        return {h.task_id: self.reports[h.task_id] for h in handles if h.task_id in self.reports}

    def wait(self, handles, *, timeout):
        self.asked += handles
        for report in self.load(handles).values():
            if states.is_final(report.state):
                yield report

    def forget(self, task_ids):
        self.forgotten += task_ids

    def revoke(self, revocation):
        self.revoked.append(revocation)


def report(state, content, **more):
    return Report("t1", state, JSON, json.dumps(content).encode(), **more)


def result_of(state, content, **more):
    return AsyncResult("t1", source=Shelf(report(state, content, **more)))


FAILURE = {
    "error": {"type": "ValueError", "module": "builtins", "message": "no"},
    "traceback": "tb",
}


def test_a_result_is_the_return_value():
    result = result_of(states.SUCCESS, {"result": [1, 2]}, done_at=0.0, task="a.b", worker="w@h")

    assert result.get() == result.wait() == result.result == result.info == [1, 2]
    assert (result.state, result.status) == (states.SUCCESS, states.SUCCESS)
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert result.traceback is None
    assert result.date_done == datetime(1970, 1, 1, tzinfo=UTC)
    assert (result.name, result.worker, result.retries) == ("a.b", "w@h", 0)


def test_a_failure_is_the_tasks_exception():
    result = result_of(states.FAILURE, FAILURE, retries=2)

    with pytest.raises(ValueError, match=r"^no$"):
        result.get()
    with pytest.raises(ValueError, match=r"^no$"):
        result.maybe_throw()
    assert isinstance(result.get(propagate=False), ValueError)
    assert isinstance(result.maybe_throw(propagate=False), ValueError)
    assert isinstance(result.result, ValueError)
    assert (result.traceback, result.retries) == ("tb", 2)
    assert result.failed()


def test_without_a_result_a_task_is_pending():
    result = AsyncResult("t1", source=Shelf())

    assert result.state == states.PENDING
    assert (result.result, result.traceback, result.date_done) == (None, None, None)
    assert (result.name, result.worker, result.retries) == (None, None, 0)
    assert not result.ready()
    assert result.maybe_throw() is None


def test_an_id_alone_is_asked_for_through_the_current_app(app, monkeypatch):
    current = Current()
    current.choose_here(app)
    monkeypatch.setattr("cardoon.app._current", current)
    other = Shelf(report(states.SUCCESS, {"result": 5}))

    assert AsyncResult("t1").source is app
    assert AsyncResult("t1", app=other).get() == 5


@pytest.mark.parametrize(
    ("place", "nothing"),
    [("cardoon.app._current", Current()), ("cardoon.result.source._default_sources", [])],
)
def test_without_an_app_nobody_can_be_asked(monkeypatch, place, nothing):
    monkeypatch.setattr(place, nothing)

    with pytest.raises(exceptions.ImproperlyConfigured, match="there is no app yet"):
        AsyncResult("t1")


def test_a_state_on_the_way_is_read_anew_and_a_final_one_once():
    shelf = Shelf(report("PROGRESS", {"result": {"done": 1}}))
    result = AsyncResult("t1", source=shelf)
    assert (result.state, result.info, shelf.loads) == (
        "PROGRESS",
        {"done": 1},
        2,
    )

    shelf.reports["t1"] = report(states.SUCCESS, {"result": 5})

    assert result.state == states.SUCCESS
    loads = shelf.loads
    assert result.get() == result.result == 5
    assert shelf.loads == loads


def test_a_result_that_does_not_come_in_time_is_a_timeout():
    with pytest.raises(exceptions.TimeoutError, match=r"task t1: no result within 0.5 seconds"):
        AsyncResult("t1", source=Shelf()).get(timeout=0.5)


def test_a_source_that_gives_up_is_a_timeout_too():
    with pytest.raises(exceptions.TimeoutError, match=r"task t1: no result$"):
        AsyncResult("t1", source=Shelf()).get()


def test_the_callback_is_given_id_and_value():
    seen = []

    result_of(states.SUCCESS, {"result": 5}).get(callback=lambda *told: seen.append(told))

    assert seen == [("t1", 5)]


def test_a_result_is_asked_for_with_the_request_that_it_must_answer():
    shelf = Shelf(report(states.SUCCESS, {"result": 5}))

    AsyncResult("t1", source=shelf, request=b"digest").get()

    assert shelf.asked == [Handle("t1", b"digest")]


def test_a_task_of_a_worker_must_not_wait_for_another_unasked():
    result = result_of(states.SUCCESS, {"result": 5})

    with carrying_out(Request(task="a.b", id="1", hostname="w@h")):
        with pytest.raises(RuntimeError, match="disable_sync_subtasks=False"):
            result.get()
        assert result.get(disable_sync_subtasks=False) == 5


def test_a_task_that_is_called_directly_may_wait():
    with carrying_out(Request(task="a.b")):
        assert result_of(states.SUCCESS, {"result": 5}).get() == 5


def test_a_result_is_awaited():
    async def wait(result):
        return await result

    result = result_of(states.SUCCESS, {"result": 5})

    assert asyncio.run(wait(result)) == asyncio.run(wait(result)) == 5
    with pytest.raises(ValueError, match="no"):
        asyncio.run(wait(result_of(states.FAILURE, FAILURE)))


@pytest.mark.parametrize("state", sorted(states.PROPAGATE_STATES))
def test_a_failure_without_exception_is_raised_nevertheless(state):
    with pytest.raises(RemoteError, match=state):
        result_of(state, {"result": {"why": "told by update_state"}}).get()


@pytest.mark.parametrize("content", [[], 5, None, "text"])
def test_a_result_of_another_form_is_refused(content):
    with pytest.raises(RefusedError, match="no object"):
        result_of(states.SUCCESS, content).get()


def test_a_result_that_cannot_be_read_is_refused():
    result = AsyncResult("t1", source=Shelf(Report("t1", states.SUCCESS, JSON, b"\xff")))

    with pytest.raises(RefusedError, match="undecodable"):
        result.get()


def test_a_traceback_that_is_no_text_is_none():
    assert result_of(states.FAILURE, {**FAILURE, "traceback": 5}).traceback is None


def test_results_are_equal_by_id():
    one, same, other = (AsyncResult(name, source=Shelf()) for name in ("a", "a", "b"))

    assert one == same != other
    assert one != "a"
    assert len({one, same, other}) == 2
    assert (str(one), repr(one), one.task_id) == ("a", "<AsyncResult: a>", "a")


def test_forgetting_deletes_what_is_stored():
    result = result_of(states.SUCCESS, {"result": 5})
    result.get()

    result.forget()

    assert result.source.forgotten == ["t1"]
    result.source.reports.clear()
    assert result.state == states.PENDING


def test_revoking_asks_every_worker():
    result = AsyncResult("t1", source=Shelf())

    result.revoke()
    result.revoke(terminate=True, signal="SIGKILL")

    assert result.source.revoked == [
        Revocation(("t1",)),
        Revocation(("t1",), terminate=True, signal="SIGKILL"),
    ]


class HouseError(Exception):
    pass


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


BUILT_IN = [
    found
    for found in vars(builtins).values()
    if isinstance(found, type) and issubclass(found, BaseException)
]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("missing"),
        KeyError(5),
        OSError(2, "not there"),
        ZeroDivisionError(),
        exceptions.SoftTimeLimitExceeded("late"),
        TaskRevokedError("expired"),
        exceptions.NotRegistered("no task"),
    ],
    ids=repr,
)
def test_an_exception_survives_the_way(error):
    back = rebuild_exception(describe_exception(error))

    assert type(back) is type(error)
    assert error.args[:1] != ("missing",) or back.args == error.args
    assert str(error) in str(back)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (HouseError("only here"), "HouseError"),
        (SystemExit(1), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (StopIteration(5), "StopIteration"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "UnicodeDecodeError"),
        (exceptions.ImproperlyConfigured("secret"), "ImproperlyConfigured"),
        (json.JSONDecodeError("bad", "doc", 0), "JSONDecodeError"),
    ],
)
def test_another_exception_becomes_a_remote_error(error, name):
    back = rebuild_exception(describe_exception(error))

    assert isinstance(back, RemoteError)
    assert (back.type_name, back.module) == (name, type(error).__module__)
    assert back.message == str(error)


def test_an_exception_that_cannot_be_shown_is_described_nevertheless():
    described = describe_exception(UnprintableError())

    assert described["message"] == "UnprintableError, which cannot be shown: its __str__ raises"


@pytest.mark.parametrize("kind", BUILT_IN)
def test_no_built_in_name_makes_anything_but_an_exception(kind):
    described = {"type": kind.__name__, "module": "builtins", "message": "x"}

    back = rebuild_exception(described)

    assert isinstance(back, Exception)
    assert not isinstance(back, StopIteration)


VALUES = st.none() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)


@given(
    st.one_of(
        VALUES,
        st.dictionaries(st.sampled_from(["type", "module", "message"]), VALUES),
        st.builds(
            lambda name, module: {"type": name, "module": module, "message": "x"},
            st.sampled_from([*dir(builtins), *dir(exceptions), "os", "eval"]),
            st.sampled_from(["builtins", "cardoon.exceptions", "os", ""]),
        ),
    )
)
def test_whatever_a_result_says_is_an_exception_that_is_known_to_be_harmless(described):
    back = rebuild_exception(described)

    assert isinstance(back, Exception)
    assert type(back).__module__ in {"builtins", "cardoon.exceptions"}


class TestEagerResult:
    def test_a_value(self):
        result = EagerResult("t1", 5, states.SUCCESS, source=Shelf())
        seen = []

        assert (
            result.get(callback=lambda *told: seen.append(told))
            == result.result
            == result.info
            == 5
        )
        assert seen == [("t1", 5)]
        assert result.ready()
        assert result.traceback is None
        assert repr(result) == "<EagerResult: t1>"

    def test_an_exception(self):
        error = HouseError("here")
        result = EagerResult("t1", error, states.FAILURE, source=Shelf(), traceback="tb")

        with pytest.raises(HouseError):
            result.get()
        with pytest.raises(HouseError):
            result.maybe_throw()
        assert result.get(propagate=False) is error
        assert result.traceback == "tb"

    def test_a_failure_without_exception_is_raised_nevertheless(self):
        with pytest.raises(exceptions.CardoonError, match="why"):
            EagerResult("t1", "why", states.REVOKED, source=Shelf()).get()

    def test_it_is_awaited(self):
        async def wait():
            return await EagerResult("t1", 5, states.SUCCESS, source=Shelf())

        assert asyncio.run(wait()) == 5

    def test_there_is_nothing_to_forget_or_revoke(self):
        result = EagerResult("t1", 5, states.SUCCESS, source=Shelf())

        result.forget()
        result.revoke(terminate=True)

        assert (result.source.forgotten, result.source.revoked) == ([], [])
        assert result.get() == 5


# Families, callbacks, and what is known


def one(state, content, **more):
    return AsyncResult("t1", source=Shelf(report(state, content, **more)))


def test_children_are_read_as_results_and_groups():
    children = one(states.SUCCESS, {"children": ["a", {"group": "g", "of": ["b", "c"]}]}).children

    assert [str(child) for child in children] == ["a", "g(b, c)"]
    assert [leaf.id for leaf in children[1].leaves()] == ["b", "c"]


@pytest.mark.parametrize(
    "told",
    [
        None,
        "a",
        {"a": 1},
        [None, 5, True, {}, ["a"], "", "a\nb", "x" * 129],
        [{"group": "g"}, {"group": 5, "of": []}, {"group": "", "of": []}],
    ],
)
def test_what_a_task_process_says_of_children_is_taken_for_nothing_else(told):
    assert one(states.SUCCESS, {"children": told}).children == []


def test_groups_in_groups_are_read_to_a_depth():
    told: list = []
    for _ in range(40):
        told = [{"group": "g", "of": told}]

    [child] = one(states.SUCCESS, {"children": told}).children

    depth = 0
    while child.results:
        [child] = child.results
        depth += 1
    assert depth < 25


def test_a_family_that_goes_in_a_circle_comes_to_an_end():
    found = one(states.SUCCESS, {"result": 5, "children": ["t1"]})

    assert [value for _, value in found.collect()] == [5, 5]
    assert found.graph.edges == [(found, found)]


def test_children_are_unknown_until_the_end():
    assert one(states.STARTED, {"result": None, "children": ["a"]}).children is None
    assert AsyncResult("t1", source=Shelf()).children is None


def test_what_waits_for_a_result_is_called_when_it_is_seen():
    shelf = Shelf()
    found = AsyncResult("t1", source=shelf)
    seen = []
    assert found.then(seen.append) is found
    assert not found.ready()
    assert seen == []

    shelf.reports["t1"] = report(states.SUCCESS, {"result": 5})
    found.get()
    found.get()
    found.then(lambda same: seen.append(same.result))

    assert seen == [found, 5]


def test_a_failure_is_for_on_error_if_there_is_one():
    told = {"error": describe_exception(ValueError("no"))}
    failed, seen, errors = one(states.FAILURE, told), [], []

    failed.then(seen.append, errors.append)
    failed.then(seen.append)
    failed.get(propagate=False)

    assert seen == [failed]
    assert [str(error) for error in errors] == ["no"]


def test_an_ignored_task_is_ignored():
    assert one(states.IGNORED, {}).ignored
    assert not one(states.SUCCESS, {}).ignored


def test_whether_something_is_stored_can_be_asked():
    assert one(states.STARTED, {}).exists()
    assert not AsyncResult("t1", source=Shelf()).exists()


def test_where_a_task_is_cannot_be_asked_of_every_store():
    with pytest.raises(exceptions.InvalidTaskError, match="cannot be asked"):
        AsyncResult("t1", source=Shelf()).whereabouts()
    with pytest.raises(exceptions.TimeoutError, match=r"within 0 seconds$"):
        AsyncResult("t1", source=Shelf()).get(timeout=0)


class Finding(Shelf):
    """A shelf that knows where messages are, or is away."""

    def __init__(self, place):
        super().__init__()
        self.place = place

    def find(self, task_ids):
        if self.place == "away":
            raise exceptions.OperationalError("away")
        return dict.fromkeys(task_ids, self.place) if self.place else {}


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (None, "never sent, its result was not wanted or is gone"),
        ("leased", "it is running$"),
        ("dormant", "it waits for other tasks$"),
        ("dead", "its message is kept: see `cardoon dead`$"),
        ("quarantine", "see `cardoon quarantine`$"),
        ("scheduled", "its message is scheduled$"),
        ("away", "no result within 0 seconds$"),
    ],
)
def test_a_timeout_says_what_the_store_knows(place, reason):
    with pytest.raises(exceptions.TimeoutError, match=reason):
        AsyncResult("t1", source=Finding(place)).get(timeout=0)


def test_a_result_is_made_as_celery_makes_it(app):
    app.set_default()
    parent = AsyncResult("t0", app=app)

    found = AsyncResult("t1", None, "shop.pay", app, parent)

    assert (found.id, found.source, found.parent) == ("t1", app, parent)
    assert AsyncResult("t2").source is app
    assert AsyncResult("t2", app.backend).source is app
    assert found.as_list() == ["t1", "t0"]
    with pytest.raises(exceptions.InvalidTaskError, match=r"is no app\.backend"):
        AsyncResult("t3", backend="redis://")


def test_an_eager_result_has_no_family_and_is_stored_nowhere():
    found = EagerResult("t1", 5, states.SUCCESS, source=Shelf())
    seen = []

    found.then(seen.append)

    assert seen == [found]
    assert (found.children, found.exists(), found.whereabouts()) == ([], False, None)
    assert (found.args, found.kwargs, found.queue, found.retries) == (None, None, None, 0)
    assert (found.name, found.worker, found.date_done) == (None, None, None)
    assert list(found.collect()) == [(found, 5)]
