"""Notices: what a worker tells of messages, to whom it matters, and never more than that."""

from __future__ import annotations

import json

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.worker.ipc import NOTICE_BYTES
from cardoon.worker.notices import HEARD, NOTICES, OF_ENDINGS, OF_MESSAGES, tell_refused
from cardoon.worker.pool import Crashed, Killed, TimedOut, Unreadable
from tests.unit.stage import failed, rules, succeeded
from tests.unit.worker.store import put


class Noted:
    """Takes notices, of the signals that somebody hears."""

    def __init__(self, *wanted):
        self.wanted = frozenset(wanted)
        self.told = []

    def tell(self, name, told):
        assert name in self.wanted
        json.dumps(told)  # it is to travel
        self.told.append((name, told))


@pytest.fixture
def noted():
    return Noted(*OF_MESSAGES)


@pytest.fixture
def stage(make_stage, noted):
    return make_stage(notices=noted)


def test_every_notice_is_of_a_signal_that_there_is():
    from cardoon import signals  # noqa: PLC0415

    assert set(signals.__all__) >= HEARD
    assert OF_ENDINGS < OF_MESSAGES < NOTICES < HEARD


def test_a_message_that_is_about_to_run_was_received(stage, noted):
    stage.send(1, task_id="t1", headers={"tenant": "a"}, root_id="r1")

    stage.consume()

    [(name, told)] = noted.told
    assert name == "task_received"
    call = told["call"]
    assert (call["task"], call["id"], call["root"], call["queue"]) == (
        *("shop.pay", "t1", "r1", "celery"),
    )
    assert call["headers"]["headers"] == {"tenant": "a"}
    assert call["origin"]
    assert "body" not in json.dumps(told)


def test_a_message_that_waits_was_not_received_yet(stage, noted):
    stage.send(countdown=60)

    assert stage.consume() == []
    assert noted.told == []


def test_a_task_that_ends_by_itself_has_told_all(stage, noted):
    for ending in (succeeded(), failed()):
        stage.send()
        [job] = stage.consume()
        noted.told.clear()

        stage.end(job, ending)

        assert noted.told == []


@pytest.mark.parametrize(
    ("ending", "kind", "message"),
    [
        (TimedOut(5.0), "TimeLimitExceeded", "hard time limit of 5 seconds"),
        (Crashed("signal 9"), "WorkerLostError", "signal 9"),
    ],
    ids=["limit", "crash"],
)
def test_a_failure_that_its_process_could_not_tell_is_told(
    make_stage, noted, ending, kind, message
):
    catalogue = {"shop.pay": rules(reject_on_worker_lost=False)}
    stage = make_stage(notices=noted, catalogue=catalogue)
    stage.send(task_id="t1")
    [job] = stage.consume()

    stage.end(job, ending)

    name, told = noted.told[-1]
    assert (name, told["call"]["id"]) == ("task_failure", "t1")
    assert told["error"]["type"] == kind
    assert message in told["error"]["message"]


def test_a_crash_that_is_not_the_last_is_no_failure(stage, noted):
    stage.send()
    [job] = stage.consume()

    stage.end(job, Crashed("signal 9"))

    assert [name for name, _ in noted.told] == ["task_received"]


def test_a_task_that_was_lost_too_often_has_failed(make_stage, noted):
    stage = make_stage(notices=noted, catalogue={"shop.pay": rules(max_crashes=1)})
    stage.send()
    [job] = stage.consume()

    stage.end(job, Crashed("signal 9"))

    assert noted.told[-1][0] == "task_failure"


@pytest.mark.parametrize(("ending", "signum"), [(Killed("SIGKILL"), 9), (Killed("nonsense"), None)])
def test_a_task_that_was_terminated_was_revoked(stage, noted, ending, signum):
    stage.send()
    [job] = stage.consume()

    stage.end(job, ending)

    name, told = noted.told[-1]
    assert name == "task_revoked"
    assert (told["terminated"], told["signum"], told["expired"]) == (True, signum, False)


def test_a_task_that_must_not_begin_was_revoked(stage, noted):
    stage.send(task_id="t1")
    stage.revoked.add(("t1",))

    stage.consume()

    [(name, told)] = noted.told
    assert name == "task_revoked"
    assert (told["terminated"], told["signum"], told["expired"]) == (False, None, False)


def test_a_task_that_came_too_late_was_revoked_as_expired(stage, noted):
    stage.send(expires=5)
    stage.clock.advance(6)

    stage.consume()

    [(name, told)] = noted.told
    assert (name, told["expired"], told["terminated"]) == ("task_revoked", True, False)


def test_a_task_that_nobody_knows_is_told_when_it_is_given_up(stage, noted):
    stage.send(task="shop.new", task_id="t1")
    stage.consume()
    assert noted.told == []

    stage.clock.advance(61)
    stage.consume()

    [(name, told)] = noted.told
    assert (name, told["call"]["task"], told["call"]["id"]) == ("task_unknown", "shop.new", "t1")


def test_a_message_that_is_refused_is_told_with_nothing_that_it_says_of_itself(stage, noted):
    put(stage, b"\x00forged: call me admin", id="raw")

    stage.consume()

    [(name, told)] = noted.told
    assert name == "task_rejected"
    assert set(told) == {"queue", "id", "reason", "detail"}
    assert told["reason"] in set(Refusal)
    assert "admin" not in json.dumps(told)


def test_a_message_whose_body_cannot_be_read_is_told(stage, noted):
    stage.send(task_id="t1")
    [job] = stage.consume()

    stage.end(job, Unreadable(Refusal.UNDECODABLE, "no JSON"))

    assert noted.told[-1] == (
        "task_rejected",
        {"queue": "celery", "id": "t1", "reason": "undecodable", "detail": "no JSON"},
    )


def test_what_nobody_hears_is_not_told(make_stage):
    noted = Noted()
    stage = make_stage(notices=noted)
    put(stage, b"\x00", id="raw")
    stage.send(task_id="t1")
    stage.send(task="shop.new")
    stage.clock.advance(61)
    for job in stage.consume():
        stage.end(job, TimedOut(1.0))
    stage.send(task_id="t2")
    stage.revoked.add(("t2",))
    stage.consume()

    assert noted.told == []


def test_the_largest_headers_fit_a_notice(stage, noted):
    stage.send(headers={"x": "é" * 5_000})

    stage.consume()

    [(_, told)] = noted.told
    assert len(json.dumps(told)) < NOTICE_BYTES


def test_a_reason_is_cut(stage, noted):
    stage.send()
    [delivery] = stage.broker.receive(["celery"], limit=1, lease=30.0, timeout=0)

    tell_refused(noted, delivery, RefusedError(Refusal.BAD_CLAIMS, "x" * 10_000))

    assert len(noted.told[-1][1]["detail"]) == 1024
