"""What is on record of tasks that run, where that is asked for: each acceptance, and each end."""

from __future__ import annotations

import pytest

from cardoon.broker import Kept
from cardoon.worker.pool import Failed, HandedBack
from tests.unit.stage import failed, held_of, rules, succeeded

TASKS = {"security_audit_level": "tasks"}


@pytest.fixture
def stage(make_stage):
    return make_stage(settings=TASKS)


def told(stage, event):
    """The fields of such records that do not say when and where."""
    usual = {"event", "pid", "prev", "seq", "source", "time"}
    return [
        {name: value for name, value in one.items() if name not in usual}
        for one in stage.events()
        if one["event"] == event
    ]


def make_unwritable(stage):
    """A log that others may write is not written."""
    stage.audit.record("worker.start")
    stage.audit.close()
    stage.audit.path.chmod(0o666)


def test_who_asked_for_what_is_on_record_before_it_begins_and_how_it_ended_after(stage):
    stage.send("secret", task_id="t1")
    [job] = stage.consume()
    accepted = {
        "task": "shop.pay",
        "task_id": "t1",
        "queue": "celery",
        "signer": "CN=client",
        "attempt": 1,
    }
    assert told(stage, "task.accepted") == [accepted]
    assert told(stage, "task.ended") == []

    held_of(stage, job).runtime = 0.25
    stage.end(job, succeeded(5))

    assert told(stage, "task.ended") == [
        {
            "task": "shop.pay",
            "task_id": "t1",
            "queue": "celery",
            "outcome": "succeeded",
            "runtime": 0.25,
        }
    ]
    assert "secret" not in str(stage.events())


def test_a_task_that_raises_is_on_record_with_the_type_of_its_exception(stage):
    stage.send(task_id="t1")
    [job] = stage.consume()

    stage.end(job, Failed(failed().body, error="ValueError"))

    [end] = told(stage, "task.ended")
    assert (end["outcome"], end["error"]) == ("failed", "ValueError")


def test_what_never_runs_has_an_end_and_no_acceptance(stage):
    stage.send(task_id="t1", expires=5)
    stage.clock.advance(10)

    assert stage.consume() == []

    assert told(stage, "task.accepted") == []
    assert [one["outcome"] for one in told(stage, "task.ended")] == ["revoked"]


def test_a_task_that_is_handed_back_is_accepted_again(stage):
    stage.send(task_id="t1")
    [job] = stage.consume()
    stage.end(job, HandedBack())

    stage.consume()

    assert [one["attempt"] for one in told(stage, "task.accepted")] == [1, 2]
    assert [one["outcome"] for one in told(stage, "task.ended")] == ["handed_back"]


def test_usually_only_what_is_refused_is_on_record(make_stage):
    stage = make_stage()
    stage.send(task_id="t1")
    [job] = stage.consume()
    stage.end(job, succeeded(5))

    assert not any(name.startswith("task.") for name in stage.event_names())


@pytest.mark.parametrize("acks_late", [True, False])
def test_nothing_begins_that_a_required_log_cannot_take(make_stage, acks_late):
    stage = make_stage(
        settings=TASKS | {"security_audit_required": True},
        catalogue={"shop.pay": rules(acks_late=acks_late)},
    )
    stage.send(task_id="t1")
    stage.send(task_id="t2")
    make_unwritable(stage)

    assert stage.consume() == []
    assert stage.audit.lost == 2
    assert stage.depth() == (2, 0, 0)

    stage.audit.path.chmod(0o600)
    stage.audit.retry()
    assert len(stage.consume()) == 2
    assert [one["lost"] for one in stage.events() if one["event"] == "audit.gap"] == [2]
    assert stage.kept(Kept.QUARANTINE) == []


def test_a_log_that_is_not_required_holds_nothing_up(make_stage, caplog):
    stage = make_stage(settings=TASKS)
    stage.send(task_id="t1")
    make_unwritable(stage)

    assert len(stage.consume()) == 1
    assert "audit record lost: task.accepted" in caplog.text
