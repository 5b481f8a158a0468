"""From a JOB frame to a call of a task, and from its outcome to an OUTCOME frame."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from cardoon.exceptions import EncodeError, Ignore, Refusal, Reject
from cardoon.executor import execute
from cardoon.message.serializers import JSON, JSON_ZLIB, decode_body, encode_body
from cardoon.signals import (
    after_task_publish,
    before_task_publish,
    task_internal_error,
    task_success,
)
from cardoon.worker.ipc import FROM_CHILD, Frame, FrameReader, FrameType, pack_frame
from cardoon.worker.jobs import MAX_REASON, MAX_TEXT, Answer, Prepared, answer_of, failure, prepare
from cardoon.worker.pool import (
    Failed,
    Ignored,
    Rejected,
    Retried,
    Succeeded,
    Unreadable,
    parse_ending,
)

MAX_BYTES = 1 << 20
HEAD = {
    "key": 1,
    "task": "shop.pay",
    "id": "t1",
    "codec": JSON,
    "max_bytes": MAX_BYTES,
    "retries": 0,
    "max_retries": 3,
    "eta": None,
    "expires": None,
    "root": None,
    "parent": None,
    "headers": {},
    "queue": "celery",
    "attempt": 1,
    "hostname": "w1",
    "origin": "alice",
}


def frame_of(*args, kwargs=None, embed=None, body=None, **head):
    told = {**HEAD, **head}
    if body is None:
        body = encode_body([list(args), kwargs or {}, embed or {}], told["codec"])
    return Frame(FrameType.JOB, told, body)


def prepared(app, *args, **head):
    found = prepare(app, frame_of(*args, **head))
    assert isinstance(found, Prepared)
    return found


@pytest.fixture
def carry_out(app):
    """Runs the body of a task, and says how it ended as the worker understands it."""

    def run(function, *args, options=None, **head):
        app.task(name="shop.pay", **(options or {}))(function)
        call = prepared(app, *args, **head)
        outcome = execute(call.task, call.request, lambda _: None)
        codec = head.get("codec", JSON)
        return over_the_wire(answer_of(call, outcome, app, codec=codec))

    return run


def over_the_wire(answer):
    """An answer as the worker reads it, within the bounds of its frame."""
    packed = pack_frame(FrameType.OUTCOME, {"key": 1, "runtime": 0.1, **answer.head}, answer.body)
    [frame] = FrameReader(FROM_CHILD).feed(packed)
    return parse_ending(frame)


def content(ending, codec=JSON):
    return decode_body(codec, ending.body, max_bytes=MAX_BYTES)


# The call


def test_a_job_becomes_a_call_with_its_arguments(app):
    task = app.task(name="shop.pay")(lambda a, b=0: a)

    call = prepared(app, 5, kwargs={"b": 2})

    assert call.task is task
    assert (call.request.args, call.request.kwargs) == ([5], {"b": 2})


def test_a_request_tells_the_task_what_was_signed(app):
    app.task(name="shop.pay")(lambda: None)

    request = prepared(
        app,
        retries=2,
        eta=1_700_000_000_000,
        expires=1_700_000_060_500,
        root="r1",
        parent="p1",
        attempt=3,
        headers={
            "headers": {"x": "y"},
            "priority": 4,
            "shadow": "other",
            "timelimit": [10, 5],
            "ignore_result": True,
        },
        group=["g1", 2, 5],
    ).request

    assert (request.id, request.task, request.retries, request.max_retries) == (
        "t1",
        "shop.pay",
        2,
        3,
    )
    assert request.eta == "2023-11-14T22:13:20+00:00"
    assert request.expires == "2023-11-14T22:14:20.500000+00:00"
    assert (request.root_id, request.parent_id) == ("r1", "p1")
    assert (request.hostname, request.origin, request.shadow) == ("w1", "alice", "other")
    assert (request.headers, request.timelimit, request.ignore_result) == (
        {"x": "y"},
        (10, 5),
        True,
    )
    assert request.delivery_info == {
        "routing_key": "celery",
        "exchange": "",
        "priority": 4,
        "redelivered": True,
    }
    assert (request.group, request.group_index) == ("g1", 2)
    assert (request.fence, request.called_directly) == (3, False)


def test_a_request_of_which_nothing_is_said_is_its_own_root(app):
    app.task(name="shop.pay")(lambda: None)

    request = prepared(app).request

    assert (request.root_id, request.parent_id, request.timelimit) == ("t1", None, (None, None))
    assert request.delivery_info["redelivered"] is False
    assert (request.eta, request.expires, request.ignore_result) == (None, None, False)


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"\xff", b"[]", b"[[],{}]", b"[{},[],{}]", b"[[],{},null]", b"7", b"null"],
)
def test_a_body_that_is_no_call_is_answered_as_unreadable(app, body):
    app.task(name="shop.pay")(lambda: None)

    answer = prepare(app, frame_of(body=body))

    assert over_the_wire(answer)[0] is Refusal.UNDECODABLE


def test_a_body_larger_than_agreed_is_answered_as_a_bomb(app):
    app.task(name="shop.pay")(lambda x: x)
    body = encode_body([["x" * 5000], {}, {}], JSON_ZLIB)

    answer = prepare(app, frame_of(body=body, codec=JSON_ZLIB, max_bytes=1000))

    assert len(body) < 1000
    assert over_the_wire(answer) == Unreadable(
        Refusal.BOMB, "more than 1000 bytes when decompressed"
    )


def test_a_task_that_the_process_does_not_know_has_failed(app):
    answer = prepare(app, frame_of(task="shop.gone"))

    ending = over_the_wire(answer)
    assert isinstance(ending, Failed)
    assert content(ending)["error"]["type"] == "NotRegistered"


@pytest.mark.parametrize("limits", [5, "ab", [1], [1, 2, 3], {"hard": 1}, True, [[], {}]])
def test_limits_that_are_no_pair_are_no_limits(app, limits):
    app.task(name="shop.pay")(lambda: None)

    assert prepared(app, headers={"timelimit": limits}).request.timelimit == (None, None)


@given(
    headers=st.dictionaries(
        st.sampled_from(["headers", "priority", "shadow", "timelimit", "ignore_result", "links"]),
        st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3),
    ),
    body=st.binary(max_size=8)
    | st.builds(
        lambda *parts: encode_body(list(parts), JSON),
        *[st.sampled_from([[], {}, None, 1, {"callbacks": 3}])] * 3,
    ),
    eta=st.none() | st.integers(0, 253_402_300_799_999),
)
@with_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_trusted_signer_wrote_a_job_is_a_call_or_an_answer(app, headers, body, eta):
    if "shop.pay" not in app.tasks:
        app.task(name="shop.pay")(lambda: None)

    found = prepare(app, frame_of(body=body, headers=headers, eta=eta))

    assert isinstance(found, Prepared | Answer)


# The outcome


def test_a_value_travels_in_the_codec_of_the_message(carry_out):
    ending = carry_out(lambda x: {"paid": x}, 5, codec=JSON_ZLIB)

    assert isinstance(ending, Succeeded)
    assert content(ending, JSON_ZLIB) == {"result": {"paid": 5}}


def test_an_exception_travels_as_names_and_text(carry_out):
    def run():
        raise ValueError("no money")

    told = content(carry_out(run))

    assert told["error"] == {"type": "ValueError", "module": "builtins", "message": "no money"}
    assert "no money" in told["traceback"]


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), {1, "\ud800"}, "\ud800"],
    ids=["object", "nan", "set", "surrogate"],
)
def test_a_value_that_cannot_travel_is_a_failure_that_says_so(carry_out, value):
    ending = carry_out(lambda: value)

    assert isinstance(ending, Failed)
    assert content(ending)["error"]["type"] == "EncodeError"


def test_a_value_that_is_too_large_is_a_failure_that_says_how_large(app, carry_out):
    app.conf.update(message_max_bytes=100_000)

    told = content(carry_out(lambda: "x" * 100_000))

    assert told["error"]["type"] == "EncodeError"
    assert "100013 bytes, more than message_max_bytes=100000" in told["error"]["message"]


@pytest.mark.parametrize(
    "text", ["x" * (MAX_TEXT + 5), "\ud800" * 3, "\U0001f600" * (MAX_TEXT + 5)], ids=ascii
)
def test_the_message_of_an_exception_is_cut_and_made_fit_to_travel(carry_out, text):
    def run():
        raise ValueError(text)

    message = content(carry_out(run))["error"]["message"]

    assert message == text[:MAX_TEXT].replace("\ud800", "?")


@pytest.mark.parametrize("character", ["x", "\xe9", "\u20ac", "\U0001f600", '"', "\n"], ids=ascii)
def test_a_reason_for_rejection_is_cut_so_that_it_fits_its_frame(carry_out, character):
    def run():
        raise Reject(character * 100_000)

    ending = carry_out(run)

    assert isinstance(ending, Rejected)
    assert ending.reason == character * len(ending.reason)
    assert len(ending.reason) == MAX_REASON
    assert content(ending)["error"]["message"] == ending.reason


@pytest.mark.parametrize("requeue", [True, False])
def test_a_rejection_travels_with_its_reason(carry_out, requeue):
    def run():
        raise Reject("not mine", requeue=requeue)

    ending = carry_out(run)

    assert (ending.reason, ending.requeue) == ("not mine", requeue)
    assert content(ending)["error"]["message"] == "not mine"


def test_a_reason_with_half_a_character_in_it_still_rejects(carry_out):
    def run():
        raise Reject("half \ud800")

    assert carry_out(run).reason == "half ?"


def test_an_ignored_outcome_travels(carry_out):
    def run():
        raise Ignore

    assert carry_out(run) == Ignored()


def test_a_retry_travels_with_its_time_and_its_cause(carry_out, app):
    def run(self):
        raise self.retry(exc=ValueError("busy"), countdown=10)

    ending = carry_out(run, options={"bind": True})

    assert isinstance(ending, Retried)
    assert (ending.when, ending.replacement) == (app.clock.now() + 10, None)
    assert content(ending)["error"]["message"] == "busy"


def test_a_retry_with_other_arguments_travels_with_the_message_to_be(carry_out, app):
    def run(self, number):
        raise self.retry(args=(number + 1,), countdown=10, queue="slow", priority=3)

    ending = carry_out(
        run, 1, options={"bind": True}, root="r1", parent="p1", retries=1, max_retries=2
    )

    call = ending.replacement
    assert (call.task, call.id, call.queue, call.priority) == ("shop.pay", "t1", "slow", 3)
    assert (call.retries, call.max_retries) == (2, 2)
    assert (call.root, call.parent, call.eta) == ("r1", "p1", app.clock.now() + 10)
    assert decode_body(call.codec, call.body, max_bytes=MAX_BYTES)[0] == [2]
    assert content(ending)["error"]["type"] == "Retry"


@pytest.mark.parametrize(
    ("wish", "queue", "priority"),
    [({}, "fast", 7), ({"queue": "slow"}, "slow", 7), ({"priority": 1}, "fast", 1)],
)
def test_a_retry_stays_in_its_queue_with_its_priority_unless_it_says_otherwise(
    carry_out, app, wish, queue, priority
):
    app.conf.update(task_create_missing_queues=False, task_queues=["celery", "slow"])

    def run(self, number):
        raise self.retry(args=(number + 1,), countdown=10, **wish)

    ending = carry_out(run, 1, options={"bind": True}, queue="fast", headers={"priority": 7})

    assert isinstance(ending, Retried)
    assert (ending.replacement.queue, ending.replacement.priority) == (queue, priority)


def test_a_retry_with_other_arguments_keeps_what_the_sender_asked_for(carry_out):
    def run(self, number):
        raise self.retry(args=(number + 1,), countdown=10)

    ending = carry_out(
        run,
        1,
        options={"bind": True},
        queue="slow",
        expires=4_102_444_800_000,
        headers={
            "headers": {"traceparent": "00-abc"},
            "stamps": {"tenant": "acme"},
            "shadow": "Pay",
            "priority": 3,
            "timelimit": [20, 10],
            "ignore_result": True,
        },
    )

    call = ending.replacement
    assert (call.queue, call.priority, call.expires) == ("slow", 3, 4_102_444_800.0)
    assert json.loads(call.headers) == {
        "headers": {"traceparent": "00-abc"},
        "stamps": {"tenant": "acme"},
        "shadow": "Pay",
        "priority": 3,
        "timelimit": [20.0, 10.0],
        "ignore_result": True,
    }


def test_a_message_that_takes_anothers_place_is_told_as_sent(carry_out, hearing):
    hearing.listen(before_task_publish, after_task_publish)
    hearing.connect(before_task_publish, lambda headers, **_: headers.update(span="s1"))

    def run(self, number):
        raise self.retry(args=(number + 1,), countdown=10)

    call = carry_out(
        run, 1, options={"bind": True}, parent="p1", headers={"stamps": {"tenant": "acme"}}
    ).replacement

    before, after = hearing.told
    for told in (before, after):
        assert told.payload["headers"]["id"] == "t1"
        assert told.payload["headers"]["retries"] == 1
        assert told.payload["headers"]["parent_id"] == "p1"
        assert told.payload["headers"]["eta"] is not None
        assert told.payload["headers"]["stamps"] == {"tenant": "acme"}
        assert list(told.payload["body"][0]) == [2]
    assert json.loads(call.headers)["headers"] == {"span": "s1"}


def give_a_lock():
    return object()


def test_a_result_that_cannot_travel_is_told_as_an_internal_error(carry_out, hearing):
    hearing.listen(task_success, task_internal_error)

    ending = carry_out(give_a_lock)

    assert isinstance(ending, Failed)
    assert hearing.names() == ["task_success", "task_internal_error"]
    assert isinstance(hearing.told[-1].payload["exception"], EncodeError)
    assert hearing.told[-1].payload["request"].id == "t1"


def test_a_receiver_of_an_internal_error_ends_no_process(carry_out, hearing, caplog):
    def leave(**_):
        raise SystemExit

    hearing.connect(task_internal_error, leave)

    assert isinstance(carry_out(give_a_lock), Failed)
    assert "raised SystemExit" in caplog.text


def test_headers_that_are_no_object_are_none(app):
    app.task(name="shop.pay")(lambda: None)

    request = prepared(app, headers={"headers": ["x"]}).request

    assert (request.headers, request.get("x")) == ({}, None)


def test_a_retry_whose_arguments_cannot_travel_is_a_failure(carry_out):
    def run(self):
        raise self.retry(args=(object(),))

    ending = carry_out(run, options={"bind": True})

    assert isinstance(ending, Failed)
    assert content(ending)["error"]["type"] == "EncodeError"


@pytest.mark.parametrize(
    "wish",
    [
        {"headers": {"x": "y" * 40_000}},
        {"eta": datetime(9000, 1, 1, tzinfo=UTC)},
        {"eta": datetime(9000, 1, 1, tzinfo=UTC), "args": (2,)},
        {"expires": datetime(9000, 1, 1, tzinfo=UTC)},
    ],
    ids=["headers", "eta", "eta of another message", "expires"],
)
def test_a_retry_that_the_worker_would_not_take_is_a_failure_and_ends_no_process(carry_out, wish):
    def run(self, number):
        raise self.retry(**wish)

    ending = carry_out(run, 1, options={"bind": True})

    assert isinstance(ending, Failed)
    assert content(ending)["error"]["type"] == "InvalidTaskError"


def test_a_task_that_used_up_its_retries_says_so(carry_out):
    def run(self):
        raise self.retry(exc=ValueError("busy"))

    ending = carry_out(run, options={"bind": True}, retries=3, max_retries=3)

    assert isinstance(ending, Failed)
    assert ending.exhausted


def test_an_exception_from_outside_of_a_body_is_a_failure_that_names_it():
    ending = over_the_wire(failure(RuntimeError("late"), codec=JSON))

    assert isinstance(ending, Failed)
    assert content(ending)["error"]["message"] == "late"


# Maps


@pytest.mark.parametrize("name", ["cardoon.map", "cardoon.starmap"])
@pytest.mark.parametrize(
    ("args", "kwargs", "fits"),
    [
        ([], {"task": {"task": "shop.pay"}, "it": []}, True),
        ([{"task": "shop.pay"}, []], {}, True),
        ([], {"task": {"task": "shop.steal"}, "it": []}, False),
        ([{"task": "shop.steal"}, []], {}, False),
        ([{"task": "shop.steal"}], {"task": {"task": "shop.pay"}, "it": []}, False),
        ([], {"it": []}, False),
        ([[]], {}, False),
        ([{"task": ["shop.pay"]}, []], {}, False),
    ],
)
def test_a_map_runs_the_task_by_which_it_was_judged(app, name, args, kwargs, fits):
    content = encode_body([args, kwargs, {}], JSON)

    def ask(headers):
        return prepare(app, frame_of(body=content, task=name, headers=headers))

    found = ask({"inner": "shop.pay"})

    assert isinstance(ask({}), Prepared)  # of an older sender, where no policy has judged it
    if fits:
        assert isinstance(found, Prepared)
    else:
        assert found.head["kind"] == "unreadable"
        assert found.head["reason"] == "denied"


def test_a_result_that_comes_before_the_arguments_of_a_map_cannot_name_its_task(app):
    own = encode_body([[{"task": "shop.pay"}], {}, {"compose": {"form": None}}], JSON)
    given = encode_body({"result": {"task": "shop.steal"}}, JSON)
    inputs = {"take": 0, "codecs": [JSON], "parts": [(len(given), 0)]}
    head = {"task": "cardoon.map", "headers": {"inner": "shop.pay"}, "inputs": inputs}

    found = prepare(app, frame_of(body=own + given, own=len(own), **head))

    assert found.head["reason"] == "denied"
