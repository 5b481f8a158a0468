"""Calls, handles and reports as heads of frames: what comes back, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.broker import Limit, Unique
from cardoon.message.protocol import GroupMember, Take
from cardoon.retrying import NO_LIMIT
from cardoon.sender import Call, Duplicate, Handle, Report
from cardoon.worker.ipc import Frame, FrameType, IpcError
from cardoon.worker.wire import (
    MAX_CALLS,
    MAX_HANDLES,
    call_head,
    handle_heads,
    parse_call,
    parse_calls,
    parse_handles,
    parse_receipts,
    parse_reports,
    receipt_heads,
    report_head,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
MOMENT = st.none() | st.floats(0, 1e10)
COUNT = st.integers(0, NO_LIMIT)
CALLS = st.builds(
    Call,
    task=TEXT,
    id=TEXT,
    queue=TEXT,
    codec=TEXT.map(lambda text: text[:16]),
    body=st.binary(max_size=40),
    headers=st.dictionaries(TEXT, TEXT, max_size=2).map(lambda told: json.dumps(told).encode()),
    priority=st.integers(0, 9),
    eta=MOMENT,
    expires=MOMENT,
    retries=COUNT,
    max_retries=st.none() | COUNT,
    root=st.none() | TEXT,
    parent=st.none() | TEXT,
    request=st.none(),
    group=st.none()
    | st.integers(1, 9).flatmap(
        lambda size: st.builds(GroupMember, TEXT, st.integers(0, size - 1), st.just(size))
    ),
    after=st.just(()),
    take=st.just(Take.RESULT),
    delay=st.floats(0, 1e6),
    unique=st.none() | st.builds(Unique, TEXT, st.floats(0, 1e6)),
    limit=st.none() | st.builds(Limit, TEXT, st.integers(0, 1000), st.floats(0, 1e6)),
    tick=st.none(),  # a beat's own, which no task may say
)
REPORTS = st.builds(
    Report,
    task_id=TEXT,
    state=TEXT,
    codec=TEXT,
    body=st.binary(max_size=40),
    task=TEXT,
    done_at=MOMENT,
    retries=COUNT,
    worker=TEXT,
    isolation=st.just("") | TEXT,
    violations=st.lists(st.lists(TEXT | COUNT, max_size=4), max_size=3).map(tuple),
)
CALL = Call(task="shop.pay", id="t1", queue="celery", codec="application/json", body=b"[]")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


def over_the_wire(head):
    """What the other side sees of a head."""
    return json.loads(json.dumps(head))


def send_frame(*calls):
    head = {"calls": [call_head(call) for call in calls]}
    body = b"".join(call.body for call in calls)
    return Frame(FrameType.SEND, over_the_wire(head), body)


@given(calls=st.lists(CALLS, max_size=4))
def test_calls_arrive_as_they_were_sent(calls):
    assert parse_calls(send_frame(*calls)) == calls


@given(reports=st.lists(REPORTS, max_size=4))
def test_reports_arrive_as_they_were_sent(reports):
    head = {"reports": [report_head(report) for report in reports]}
    body = b"".join(report.body for report in reports)

    assert parse_reports(Frame(FrameType.REPLY, over_the_wire(head), body)) == reports


@given(handles=st.lists(st.builds(Handle, TEXT, st.none() | st.binary(max_size=32)), max_size=4))
def test_handles_arrive_as_they_were_sent(handles):
    head = over_the_wire({"handles": handle_heads(handles)})

    assert parse_handles(Frame(FrameType.WAIT, head)) == handles


def test_the_digest_that_a_message_answers_is_not_for_a_task_process_to_say():
    call = CALL._replace(request=bytes(32))

    assert parse_call({**call_head(call), "request": "00" * 32}, b"[]").request is None


@given(
    head=st.dictionaries(st.sampled_from([*call_head(CALL), "request"]), ANYTHING) | ANYTHING,
    complete=st.booleans(),
)
def test_whatever_a_head_says_it_is_a_call_or_an_ipc_error(head, complete):
    if complete and isinstance(head, dict):
        head = {**call_head(CALL), **head}
    try:
        call = parse_call(head, b"[]")
    except IpcError:
        return
    assert 0 <= call.priority <= 9
    assert 0 <= call.retries <= NO_LIMIT
    assert call.eta is None or 0 <= call.eta < 1e11


@given(told=st.dictionaries(st.sampled_from(["calls", "handles", "reports"]), ANYTHING))
def test_whatever_a_frame_says_nothing_but_an_ipc_error_comes_of_it(told):
    for parse in (parse_calls, parse_handles):
        with suppress(IpcError):
            parse(Frame(FrameType.SEND, told, b"ab"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", ""),
        ("task", None),
        ("task", 7),
        ("task", "x" * 257),
        ("task", "\ud800"),
        ("id", "x" * 129),
        ("id", "é" * 65),
        ("queue", ""),
        ("queue", "x" * 257),
        ("codec", "x" * 65),
        ("headers", None),
        ("headers", "x" * (32 * 1024 + 1)),
        ("headers", "no JSON"),
        ("headers", "[]"),
        ("headers", "[" * 30_000),
        ("priority", -1),
        ("priority", 10),
        ("priority", True),
        ("priority", 1.5),
        ("retries", -1),
        ("retries", NO_LIMIT + 1),
        ("max_retries", "3"),
        ("max_retries", NO_LIMIT + 1),
        ("eta", -1),
        ("eta", 1e11),
        ("eta", float("nan")),
        ("eta", float("inf")),
        ("eta", False),
        ("expires", "soon"),
        ("root", ["x"]),
        ("parent", "x" * 129),
    ],
)
def test_a_call_with_a_field_out_of_bounds_is_refused_by_name(field, value):
    with pytest.raises(IpcError, match=f"call: {field} is not"):
        parse_call({**call_head(CALL), field: value}, b"[]")


@pytest.mark.parametrize("field", ["task", "id", "queue", "codec", "headers"])
def test_a_call_without_one_of_its_texts_is_refused(field):
    head = call_head(CALL)
    del head[field]

    with pytest.raises(IpcError, match=field):
        parse_call(head, b"[]")


@pytest.mark.parametrize("field", ["priority", "eta", "expires", "retries", "max_retries", "root"])
def test_a_call_need_not_say_the_rest(field):
    head = call_head(CALL)
    del head[field]

    assert parse_call(head, b"[]") == CALL


@pytest.mark.parametrize("head", [None, 7, "call", [], [["task", "x"]]])
def test_a_call_that_is_no_object_is_refused(head):
    with pytest.raises(IpcError, match="not an object"):
        parse_call(head, b"[]")


@pytest.mark.parametrize("size", [None, -1, 1.0, True, "2", 3, 1, 10**30])
def test_sizes_that_do_not_add_up_to_the_body_are_refused(size):
    frame = Frame(FrameType.SEND, {"calls": [{**call_head(CALL), "size": size}]}, b"[]")

    with pytest.raises(IpcError, match="size"):
        parse_calls(frame)


def test_a_body_that_no_call_claims_is_refused():
    with pytest.raises(IpcError, match="do not add up"):
        parse_calls(Frame(FrameType.SEND, {"calls": []}, b"left over"))


def test_one_call_cannot_take_the_body_of_the_next():
    first, second = CALL._replace(body=b"first"), CALL._replace(body=b"2nd")
    frame = send_frame(first, second)
    heads = [{**frame.head["calls"][0], "size": 8}, {**frame.head["calls"][1], "size": 3}]

    with pytest.raises(IpcError, match="do not add up"):
        parse_calls(frame._replace(head={"calls": heads}))


def test_more_calls_than_one_frame_may_carry_are_refused_before_any_is_parsed():
    frame = Frame(FrameType.SEND, {"calls": [None] * (MAX_CALLS + 1)})

    with pytest.raises(IpcError, match=f"{MAX_CALLS + 1} calls; at most {MAX_CALLS}"):
        parse_calls(frame)


def test_as_many_calls_as_one_frame_may_carry_are_taken():
    frame = Frame(FrameType.SEND, {"calls": [{**call_head(CALL), "size": 0}] * MAX_CALLS})

    assert len(parse_calls(frame)) == MAX_CALLS


def test_more_handles_than_one_frame_may_carry_are_refused():
    pair = ["t1", None]
    assert len(parse_handles(Frame(FrameType.LOAD, {"handles": [pair] * MAX_HANDLES}))) == (
        MAX_HANDLES
    )

    with pytest.raises(IpcError, match=f"LOAD frame with {MAX_HANDLES + 1} handles"):
        parse_handles(Frame(FrameType.LOAD, {"handles": [pair] * (MAX_HANDLES + 1)}))


@pytest.mark.parametrize(
    "pair", ["t1", None, [], ["t1"], ["t1", None, None], [1, None], ["t1", 5], {"t1": None}]
)
def test_a_handle_that_is_no_pair_is_refused(pair):
    with pytest.raises(IpcError, match="pair of strings"):
        parse_handles(Frame(FrameType.WAIT, {"handles": [pair]}))


@pytest.mark.parametrize("digest", ["x", "0", "0g", "\ud800"])
def test_a_request_digest_that_is_not_hexadecimal_is_refused(digest):
    with pytest.raises(IpcError, match="hexadecimal"):
        parse_handles(Frame(FrameType.WAIT, {"handles": [["t1", digest]]}))


@given(receipts=st.lists(st.binary(max_size=32) | st.builds(Duplicate, TEXT), max_size=4))
def test_receipts_arrive_as_they_were_given(receipts):
    head = over_the_wire({"digests": receipt_heads(receipts)})

    assert parse_receipts(Frame(FrameType.REPLY, head)) == receipts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("unique", None),
        ("unique", "key"),
        ("unique", ["", 0]),
        ("unique", ["k" * 321, 0]),
        ("unique", ["key", -1]),
        ("unique", ["key", True]),
        ("unique", ["key", float("nan")]),
        ("unique", ["key", 1e12]),
        ("unique", ["key", 0, 0]),
        ("limit", None),
        ("limit", ["key", 1]),
        ("limit", ["key", -1, 0]),
        ("limit", ["key", True, 0]),
        ("limit", ["key", 10**9, 0]),
        ("limit", ["key", 1.5, 0]),
        ("limit", ["key", 1, float("inf")]),
        ("limit", [7, 1, 0]),
    ],
)
def test_bounds_that_make_no_sense_end_the_process_that_sent_them(name, value):
    with pytest.raises(IpcError):
        parse_call({**call_head(CALL), name: value}, b"[]")


def test_a_call_without_bounds_does_not_mention_them():
    assert {"unique", "limit"}.isdisjoint(call_head(CALL))
