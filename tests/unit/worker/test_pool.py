"""How a job ended, as a task process says it: each kind is read, and nothing else is believed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import Refusal
from cardoon.sender import Call
from cardoon.worker.ipc import Frame, FrameType, IpcError
from cardoon.worker.pool import (
    Failed,
    HandedBack,
    Ignored,
    Rejected,
    Retried,
    Succeeded,
    Unreadable,
    parse_ending,
)
from cardoon.worker.wire import call_head

CALL = Call(task="shop.pay", id="t1", queue="celery", codec="application/json", body=b"[]")
KINDS = ["succeeded", "failed", "retried", "rejected", "ignored", "unreadable", "handed_back"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def outcome(body=b"", **head):
    return Frame(FrameType.OUTCOME, head, body)


@pytest.mark.parametrize(
    ("frame", "ending"),
    [
        (outcome(b"v", kind="succeeded"), Succeeded(b"v")),
        (outcome(b"e", kind="failed"), Failed(b"e", exhausted=False)),
        (outcome(b"e", kind="failed", exhausted=True), Failed(b"e", exhausted=True)),
        (outcome(b"e", kind="rejected", reason="no", requeue=True), Rejected(b"e", "no", True)),
        (outcome(kind="ignored"), Ignored()),
        (outcome(kind="handed_back"), HandedBack()),
        (
            outcome(kind="unreadable", reason="undecodable", detail="not JSON"),
            Unreadable(Refusal.UNDECODABLE, "not JSON"),
        ),
        (outcome(b"e", kind="retried", when=None, split=1), Retried(b"e", None, None)),
        (outcome(b"e", kind="retried", when=5, split=1), Retried(b"e", 5.0, None)),
        (
            outcome(b"e[]", kind="retried", when=5.5, split=1, call=call_head(CALL)),
            Retried(b"e", 5.5, CALL),
        ),
    ],
    ids=lambda value: value.head["kind"] if isinstance(value, Frame) else "",
)
def test_every_kind_of_ending_is_read(frame, ending):
    assert parse_ending(frame) == ending


@pytest.mark.parametrize(
    "frame",
    [
        outcome(),
        outcome(kind=None),
        outcome(kind="crashed"),
        outcome(kind="killed", signal="SIGTERM"),
        outcome(kind="timed_out"),
        outcome(kind="failed", exhausted="yes"),
        outcome(kind="rejected", requeue=True),
        outcome(kind="rejected", reason="no"),
        outcome(kind="rejected", reason="no", requeue=1),
        outcome(kind="unreadable", reason="nothing", detail=""),
        outcome(kind="unreadable", reason="undecodable"),
        outcome(kind="retried"),
        outcome(kind="retried", split=-1),
        outcome(b"e", kind="retried", split=2),
        outcome(b"e", kind="retried", split=True),
        outcome(b"e", kind="retried", split=1, when="now"),
        outcome(b"e", kind="retried", split=1, when=-1),
        outcome(b"e", kind="retried", split=1, when=1e11),
        outcome(b"e", kind="retried", split=1, when=float("nan")),
        outcome(b"e", kind="retried", split=1, call={"task": "x"}),
        outcome(b"e", kind="retried", split=1, call=[]),
    ],
    ids=lambda frame: str(frame.head),
)
def test_an_outcome_that_makes_no_sense_is_an_ipc_error(frame):
    with pytest.raises(IpcError):
        parse_ending(frame)


def test_a_process_cannot_say_that_it_was_the_worker_that_ended_the_job():
    for kind in ("crashed", "timed_out", "killed"):
        with pytest.raises(IpcError, match="unknown kind"):
            parse_ending(outcome(kind=kind, detail="", limit=1.0, signal="SIGKILL"))


@pytest.mark.parametrize("field", ["queue", "codec", "root", "parent"])
def test_a_replacement_that_nobody_could_sign_is_an_ipc_error(field):
    call = {**call_head(CALL), field: "line\nbreak"}

    with pytest.raises(IpcError, match="not printable"):
        parse_ending(outcome(b"e[]", kind="retried", when=None, split=1, call=call))


@given(
    head=st.dictionaries(
        st.sampled_from(["when", "split", "call", "reason", "requeue", "detail", "exhausted"]),
        ANYTHING,
    ),
    kind=st.sampled_from(KINDS) | ANYTHING,
    body=st.binary(max_size=4),
)
def test_whatever_an_outcome_says_it_is_an_ending_or_an_ipc_error(head, kind, body):
    with suppress(IpcError):
        parse_ending(outcome(body, **{**head, "kind": kind}))
