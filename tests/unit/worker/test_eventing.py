"""Eventing: what a worker tells of itself and of its tasks, and what it never tells."""

from __future__ import annotations

import json
import logging

import pytest

from cardoon.events import HIDDEN, TYPES, EventReceiver, make_dispatcher
from cardoon.events.kinds import COMMON
from cardoon.events.receiver import Station
from cardoon.events.state import State
from cardoon.exceptions import ImproperlyConfigured, Refusal
from cardoon.message.serializers import JSON
from cardoon.sandbox.violations import Violation
from cardoon.sender import Call
from cardoon.worker.eventing import NO_CARRIER, WorkerEvents, make_worker_events
from cardoon.worker.pool import (
    Crashed,
    HandedBack,
    Ignored,
    Killed,
    Rejected,
    Replaced,
    Retried,
    TimedOut,
    Unreadable,
)
from cardoon.worker.standing import Result, Standing
from tests.unit.stage import body, failed, held_of, rules, succeeded
from tests.unit.worker.store import put

EXTRA = {
    "task-received": {"queue"},
    "worker-heartbeat": {
        *("baseline_serial", "baseline_digest"),
        *("integrity_checked_at", "integrity_result", "integrity_findings"),
    },
}
"""What is told beyond Celery's fields."""


class Teller:
    """The events of a stage's worker, and who receives them."""

    def __init__(self):
        self.events = None

    def __call__(self, stage):
        self.stage = stage
        dispatcher = make_dispatcher(stage.deployment, stage.broker, hostname="cardoon@here")
        dispatcher._interval = 3600.0  # a test flushes
        dispatcher.groups = frozenset({"worker", "message"})
        self.dispatcher = dispatcher
        self.events = WorkerEvents(
            dispatcher,
            held=stage.held,
            clock=stage.clock,
            concurrency=2,
            heartbeat=2.0,
            tells_sends=True,
        )
        station = Station(stage.broker, stage.gate, stage.audit, stage.clock)
        self.receiver = EventReceiver(station)
        self.receiver.receive(0)
        return self.events

    def told(self):
        """What has been told since the last look, by those who listen."""
        assert self.dispatcher.flush()
        found = list(self.receiver.receive(0))
        assert not self.receiver.refused
        for one in found:
            allowed = {"type", *COMMON, *TYPES[one["type"]], *EXTRA.get(one["type"], ())}
            assert set(one) <= allowed, one
            assert set(one) >= {"type", *COMMON, *TYPES[one["type"]]}, one
        return found

    def types(self):
        return [one["type"] for one in self.told()]


@pytest.fixture
def teller():
    made = Teller()
    yield made
    if made.events is not None:
        made.dispatcher.close()


@pytest.fixture
def stage(make_stage, teller):
    made = make_stage(watch=teller, catalogue={"shop.pay": rules(max_crashes=2)})
    teller.events.enable()
    return made


@pytest.fixture
def job(stage, teller):
    """One that runs."""
    stage.send("secret-argument", task_id="t1", root_id="r1", expires=100)
    [made] = stage.consume()
    made.begin()
    teller.told()
    return made


def test_a_task_is_received_begun_and_done(stage, teller):
    stage.send("secret-argument", task_id="t1", root_id="r1", parent_id="p1")
    [job] = stage.consume()
    job.begin()
    stage.clock.advance(1.5)
    stage.end(job, succeeded("secret-result"))

    received, started, done = teller.told()

    assert received["type"] == "task-received"
    assert (received["name"], received["uuid"], received["retries"]) == ("shop.pay", "t1", 0)
    assert (received["root_id"], received["parent_id"], received["eta"]) == ("r1", "p1", None)
    assert received["args"] == received["kwargs"] == done["result"] == HIDDEN
    assert started["type"] == "task-started"
    assert done["type"] == "task-succeeded"
    assert done["runtime"] == 1.5
    assert {one["uuid"] for one in (received, started, done)} == {"t1"}
    assert "secret" not in json.dumps([received, started, done])


def test_without_task_events_tasks_cost_and_tell_nothing(stage, teller):
    assert teller.events.disable()
    assert not teller.events.disable()
    stage.send(1)
    [job] = stage.consume()
    job.begin()
    stage.end(job, succeeded())

    assert teller.types() == []
    assert job.on_begun is None
    assert teller.events.describe()["processed"] == 1


def test_they_can_be_enabled_again(stage, teller):
    teller.events.disable()

    assert teller.events.enable()
    assert not teller.events.enable()
    assert teller.events.switch is teller.events

    stage.send(1)
    stage.consume()
    assert teller.types() == ["task-received"]


@pytest.mark.parametrize(
    ("ending", "type", "told"),
    [
        (failed(ValueError("secret")), "task-failed", {"exception": HIDDEN, "traceback": HIDDEN}),
        (
            TimedOut(3.0),
            "task-failed",
            {"exception": "TimeLimitExceeded('hard time limit of 3 seconds')"},
        ),
        (Unreadable(Refusal.UNDECODABLE, "secret"), "task-failed", {"exception": HIDDEN}),
        (
            Retried(b"secret", None, None),
            "task-retried",
            {"exception": HIDDEN, "traceback": HIDDEN},
        ),
        (Rejected(b"secret", "secret", False), "task-rejected", {"requeue": False}),
        (Rejected(b"secret", "secret", True), "task-rejected", {"requeue": True}),
        (Crashed("signal 9"), "task-rejected", {"requeue": True}),
        (
            Killed("SIGTERM"),
            "task-revoked",
            {"terminated": True, "signum": 15, "expired": False},
        ),
        (Ignored(), "task-ignored", {}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_each_end_is_told_with_celerys_fields(stage, teller, job, ending, type, told):
    stage.end(job, ending)

    [got] = teller.told()

    assert got["type"] == type
    assert got["uuid"] == "t1"
    assert {name: got[name] for name in told} == told
    assert "secret" not in json.dumps(got)


def test_a_task_that_took_down_too_many_processes_has_failed(stage, teller, job):
    held_of(stage, job).delivery = held_of(stage, job).delivery._replace(crashes=1)

    stage.end(job, Crashed("signal 9"))

    [got] = teller.told()
    assert got["type"] == "task-failed"
    assert got["exception"].startswith("WorkerLostError(")


def test_a_retry_with_other_arguments_is_told_as_one(stage, teller, job):
    again = Call("shop.pay", "t1", "celery", JSON, body(2), retries=1)

    stage.end(job, Retried(b"", None, again))

    assert teller.types() == ["task-retried"]


def test_what_is_handed_back_or_goes_on_as_another_is_told_of_nobody(stage, teller, job):
    stage.end(job, HandedBack())
    assert teller.types() == []

    stage.clock.advance(60)
    [again] = stage.consume()
    teller.told()
    stage.end(again, Replaced([Call("shop.pay", "t1", "celery", JSON, body(2))]))

    assert teller.types() == []


def test_what_has_expired_or_was_revoked_before_it_ran_is_told(stage, teller):
    stage.send(task_id="late", expires=5)
    stage.revoked.add(("gone",))
    stage.send(task_id="gone")
    stage.clock.advance(6)

    stage.consume()

    found = {one["uuid"]: one for one in teller.told()}
    assert found["late"]["expired"] is True
    assert found["gone"]["expired"] is False
    assert {one["type"] for one in found.values()} == {"task-revoked"}
    assert {one["terminated"] for one in found.values()} == {False}


def test_a_refused_message_is_told_by_where_it_lay_and_why(stage, teller):
    teller.events.disable()
    put(stage, b"secret rubbish", id="secret-id")

    stage.consume()

    [got] = teller.told()
    assert (got["type"], got["queue"], got["reason"]) == ("message-refused", "celery", "malformed")
    assert "secret" not in json.dumps(got)


def test_what_a_sandbox_refused_is_told_without_details(stage, teller, job):
    teller.events.violated(held_of(stage, job), Violation("open", "/etc/secret", "kernel", 3))

    [got] = teller.told()

    assert (got["type"], got["uuid"], got["name"]) == ("task-violation", "t1", "shop.pay")
    assert (got["rule"], got["by"], got["count"]) == ("open", "kernel", 3)
    assert "secret" not in json.dumps(got)


def test_what_tasks_send_is_told_but_for_what_was_not_stored(stage, teller):
    call = Call(
        "shop.pay", "c1", "mail", JSON, body("secret"), eta=stage.clock.now() + 60, parent="t1"
    )

    teller.events.sent([call, call._replace(id="c2")], {"c2": "c1"})

    [got] = teller.told()
    assert (got["type"], got["uuid"], got["queue"], got["routing_key"]) == (
        *("task-sent", "c1", "mail", "mail"),
    )
    assert got["parent_id"] == "t1"
    assert got["root_id"] == "c1"
    assert got["eta"].startswith("20")
    assert got["args"] == HIDDEN


def test_a_worker_says_that_it_is_there_once_and_that_it_ends(stage, teller):
    teller.events.end()  # before it was there it has nothing to say
    teller.events.look()
    teller.events.look()
    assert teller.types() == ["worker-online"]

    teller.events.end()

    [got] = teller.receiver.receive(0)
    assert got["type"] == "worker-offline"
    assert (got["sw_ident"], got["freq"], got["hostname"]) == ("cardoon", 2.0, "cardoon@here")


def test_a_heartbeat_has_celerys_fields(stage, teller, job):
    teller.dispatcher.publish("worker-heartbeat", teller.events.describe())

    [got] = teller.told()

    assert got["active"] == 1
    assert got["processed"] == 0
    assert len(got["loadavg"]) == 3
    assert got["sw_sys"] == "Linux"


def test_a_heartbeat_says_which_baseline_counts_and_how_the_last_check_ended(stage, teller):
    state = State()
    teller.dispatcher.publish("worker-heartbeat", teller.events.describe())
    [before] = teller.told()
    teller.events.standing = lambda: Standing(
        serial=3, digest="ab" * 32, checked_at=1000.5, result=Result.DRIFT, findings=2
    )

    teller.dispatcher.publish("worker-heartbeat", teller.events.describe())

    [got] = teller.told()
    assert "baseline_serial" not in before
    state.event(got)
    [worker] = state.workers.values()
    assert (worker.baseline_serial, worker.baseline_digest) == (3, "ab" * 32)
    assert (worker.integrity_result, worker.integrity_findings) == ("drift", 2)
    assert worker.integrity_checked_at == 1000.5


def test_a_broker_that_carries_no_events_is_an_error_only_for_who_asks_for_them(make_stage, caplog):
    made = make_stage()
    broker = object()

    with caplog.at_level(logging.INFO):
        events = make_worker_events(
            made.deployment, broker, made.held, 2.0, worker="w", concurrency=1
        )
    assert NO_CARRIER in caplog.text
    assert not events.enable()
    assert not events.disable()
    assert events.switch is None
    events.look()
    events.beat()
    events.refused("q", Refusal.MALFORMED)
    events.end()

    asked = make_stage(settings={"worker_send_task_events": True})
    with pytest.raises(ImproperlyConfigured, match="this broker carries none"):
        make_worker_events(asked.deployment, broker, asked.held, 2.0, worker="w", concurrency=1)


def test_the_setting_enables_them(make_stage):
    made = make_stage(settings={"worker_send_task_events": True})

    events = make_worker_events(
        made.deployment, made.broker, made.held, 2.0, worker="w", concurrency=1
    )

    assert events.tells_tasks
    events.end()
