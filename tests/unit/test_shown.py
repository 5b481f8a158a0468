"""What a page is told of a result."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal

import pytest

from cardoon import states
from cardoon.exceptions import ImproperlyConfigured
from cardoon.result import AsyncResult, EagerResult
from cardoon.result.shown import check_authorize, is_allowed, plain, show_result
from tests.unit.test_result import FAILURE, Shelf, report

NOTHING = {"ready": False, "result": None, "error": None, "progress": None}


def shown(state, content, **options):
    return show_result(AsyncResult("t1", source=Shelf(report(state, content))), **options)


def test_a_task_without_result_is_pending():
    found = show_result(AsyncResult("t1", source=Shelf()))

    assert found == {**NOTHING, "id": "t1", "state": "PENDING"}


def test_a_result_is_shown():
    found = shown(states.SUCCESS, {"result": [1, {"a": None}]})

    assert found == {
        **NOTHING,
        "id": "t1",
        "state": "SUCCESS",
        "ready": True,
        "result": [1, {"a": None}],
    }


def test_progress_is_shown_for_states_of_the_tasks_own():
    found = shown("PROGRESS", {"result": {"done": 3, "of": 10}})

    assert found == {
        **NOTHING,
        "id": "t1",
        "state": "PROGRESS",
        "progress": {"done": 3, "of": 10},
    }


def test_what_cardoon_itself_says_of_a_running_task_is_not_progress():
    found = shown(states.STARTED, {"result": {"pid": 5}})

    assert found == {**NOTHING, "id": "t1", "state": "STARTED"}


def test_a_failure_is_shown_without_its_traceback():
    found = shown(states.FAILURE, FAILURE)

    assert found["ready"]
    assert found["result"] is None
    assert found["error"] == {"type": "ValueError", "message": "no", "traceback": None}


def test_a_traceback_is_shown_to_who_asks_for_it():
    assert shown(states.FAILURE, FAILURE, traceback=True)["error"]["traceback"] == "tb"


def test_an_exception_that_is_not_rebuilt_keeps_its_name():
    foreign = {"error": {"type": "HouseError", "module": "house", "message": "fire"}}

    found = shown(states.RETRY, foreign)

    assert not found["ready"]
    assert found["error"] == {"type": "HouseError", "message": "fire", "traceback": None}


def test_state_and_value_are_of_one_moment():
    shelf = Shelf(report("PROGRESS", {"result": 1}))

    show_result(AsyncResult("t1", source=shelf))

    assert shelf.loads == 1


def test_a_result_that_has_been_waited_for_is_not_looked_up_again():
    shelf = Shelf(report(states.SUCCESS, {"result": 5}))
    result = AsyncResult("t1", source=shelf)
    result.get()
    loads = shelf.loads

    assert show_result(result)["result"] == 5
    assert shelf.loads == loads


def test_a_task_that_was_run_on_the_spot_is_shown():
    result = EagerResult("t1", 5, states.SUCCESS, source=Shelf())

    assert show_result(result)["result"] == 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(minutes=1.5), 90.0),
        (Decimal("1.10"), "1.10"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (b"\x00\xff", "AP8="),
        (float("nan"), None),
        ((1, [True, {"x": b""}]), [1, [True, {"x": ""}]]),
        ({1: 2}, {"1": 2}),
    ],
)
def test_rich_values_become_what_browsers_read(value, expected):
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


@pytest.mark.parametrize("wrong", [None, True, "everybody"])
def test_a_view_without_authorization_cannot_be_made(wrong):
    with pytest.raises(ImproperlyConfigured, match=r"authorize=.* is not a function"):
        check_authorize(wrong)


def test_only_true_lets_anybody_see():
    assert is_allowed(True)
    assert not is_allowed(False)


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
def test_an_answer_that_is_neither_true_nor_false_is_an_error(answer):
    with pytest.raises(TypeError, match="it must be True or False"):
        is_allowed(answer)
