"""From steps to calls: what is told, what is signed, what counts from when."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from cardoon import chain, chord, group
from cardoon.canvas.steps import Planner
from cardoon.context import Request, carrying_out
from cardoon.exceptions import InvalidTaskError
from cardoon.message.protocol import GroupMember, Take
from cardoon.message.serializers import JSON_ZLIB, decode_body
from cardoon.workflow import make_calls


@pytest.fixture
def pay(app):
    @app.task(name="shop.pay")
    def pay(amount, currency="EUR"):
        raise AssertionError("not run here")

    return pay


@pytest.fixture
def calls(app):
    def make(canvas):
        planner = Planner(app)
        canvas.plan(planner, None)
        return make_calls(app, planner.steps)

    return make


def told(call):
    return json.loads(call.headers) if call.headers else {}


def body_of(call):
    return decode_body(call.codec, call.body, max_bytes=10_000)


def test_a_single_call_says_nothing_of_others(calls, pay):
    [call] = calls(pay.s(1))

    assert (call.after, call.root, call.parent, call.group) == ((), call.id, None, None)
    assert "links" not in told(call)
    assert body_of(call)[:2] == [[1], {}]
    assert "compose" not in body_of(call)[2]


def test_a_link_says_what_it_waits_for_and_the_one_before_that_it_is_waited_for(calls, pay):
    first, second = calls(chain(pay.s(1), pay.s("USD")))

    assert told(first) == {"links": True}
    assert told(second) == {}
    assert (second.after, second.take, second.root, second.parent) == (
        (0,),
        Take.RESULT,
        first.id,
        first.id,
    )
    assert body_of(second)[:2] == [["USD"], {}]
    assert body_of(second)[2]["compose"] == {"form": None}


def test_a_body_says_the_form_of_its_results(calls, pay):
    *_, body = calls(chord([pay.s(1), pay.s(2)], pay.s()))

    assert (body.after, body.take) == ((0, 1), Take.RESULTS)
    assert body_of(body)[2]["compose"] == {"form": 2}


def test_an_immutable_link_composes_nothing(calls, pay):
    *_, last = calls(chain(pay.s(1), pay.si(9)))

    assert last.after == (0,)
    assert "compose" not in body_of(last)[2]


def test_a_member_says_its_place(calls, pay):
    first, second = calls(group(pay.s(1), pay.s(2)))

    name = first.group.id
    assert [first.group, second.group] == [GroupMember(name, 0, 2), GroupMember(name, 1, 2)]


def test_the_seconds_of_a_first_task_count_from_now(app, calls, pay):
    [call] = calls(pay.s(1).set(countdown=5, expires=10))

    now = app.clock.now()
    assert (call.eta, call.expires, call.delay) == (now + 5, now + 10, 0.0)
    assert "after" not in told(call)


def test_the_seconds_of_a_later_task_count_from_the_end_of_the_one_before(calls, pay):
    *_, call = calls(chain(pay.s(1), pay.s().set(countdown=5, expires=10)))

    assert (call.eta, call.expires, call.delay) == (None, None, 5.0)
    assert told(call)["after"] == {"delay": 5.0, "expires": 10.0}


def test_a_countdown_into_the_past_is_none(calls, pay):
    *_, call = calls(chain(pay.s(1), pay.s().set(countdown=-5)))

    assert (call.eta, call.delay) == (None, 0.0)


def test_moments_of_a_later_task_stay_moments(app, calls, pay):
    soon = datetime.fromtimestamp(app.clock.now(), UTC) + timedelta(seconds=50)
    *_, call = calls(chain(pay.s(1), pay.s().set(eta=soon, expires=soon + timedelta(seconds=1))))

    assert (call.eta, call.expires, call.delay) == (
        soon.timestamp(),
        soon.timestamp() + 1,
        0.0,
    )
    assert "after" not in told(call)


def test_a_tasks_own_expiry_counts_from_the_end_of_the_one_before(app, calls, pay):
    @app.task(name="shop.fleeting", expires=30)
    def fleeting(amount):
        raise AssertionError("not run here")

    first, second = calls(chain(fleeting.s(1), fleeting.s()))

    assert (first.expires, second.expires) == (app.clock.now() + 30, None)
    assert told(second)["after"] == {"expires": 30.0}


def test_the_options_of_a_step_are_those_of_its_call(calls, pay):
    options = {"queue": "slow", "priority": 4, "compression": "zlib", "max_retries": 7}
    *_, call = calls(chain(pay.s(1), pay.s().set(**options, headers={"a": 1}, time_limit=9)))

    assert (call.queue, call.priority, call.codec, call.max_retries) == ("slow", 4, JSON_ZLIB, 7)
    assert told(call) == {"timelimit": [9, None], "priority": 4, "headers": {"a": 1}}


def test_a_task_by_name_needs_not_be_known_here(app, calls):
    first, second = calls(chain(app.signature("other.task", (1, 2, 3)), app.signature("other.b")))

    assert (first.task, second.task, first.queue) == ("other.task", "other.b", "celery")


def test_a_canvas_that_a_task_sends_is_its_child(calls, pay):
    running = Request(task="shop.buy", id="t1", root_id="r1")

    with carrying_out(running):
        first, second = calls(chain(pay.s(1), pay.s()))

    assert [(one.root, one.parent) for one in (first, second)] == [
        ("r1", "t1"),
        ("r1", first.id),
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda pay: pay.s(), "amount"),
        (lambda pay: chain(pay.s(1), pay.s(2, 3)), "positional"),
        (lambda pay: chain(pay.s(1), pay.s(amount=2)), "amount"),
        (lambda pay: chain(pay.s(1), pay.si()), "amount"),
        (lambda pay: group(pay.s(1), pay.s(1, colour="red")), "colour"),
        (lambda pay: pay.s(1).set(qeue="x"), "unknown option 'qeue'; did you mean 'queue'"),
        (lambda pay: chain(pay.s(1), pay.s().set(priority=77)), "priority=77"),
        (lambda pay: chord([pay.s(1)], pay.s()).set(task_id="x" * 200), "task_id"),
        (lambda pay: pay.s(1).set(chord=1), "write the canvas in the call"),
    ],
)
def test_what_does_not_fit_is_an_error_before_anything_is_sent(calls, pay, make, said):
    with pytest.raises(InvalidTaskError, match=said):
        calls(make(pay))


def test_what_an_errback_is_given_is_known_to_nobody_yet(calls, app, pay):
    @app.task(name="shop.sorry")
    def sorry(request, error, traceback):
        raise AssertionError("not run here")

    _, errback = calls(pay.s(1).on_error(sorry.s()))

    assert (errback.take, errback.after) == (Take.FAILURE, (0,))
    assert body_of(errback)[2]["compose"] == {"form": None}
