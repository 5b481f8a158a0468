"""What sandboxes refuse is written down: log, audit trail, and the result of the task."""

from __future__ import annotations

import logging
import signal

import pytest

from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.violations import Violation, violations_of_death
from cardoon.worker.pool import Crashed, HandedBack
from cardoon.worker.violation_log import ViolationLog
from tests.unit.stage import failed

SHADOW = Violation("read", "/etc/shadow", "kernel", 2)


@pytest.fixture
def log(stage):
    return ViolationLog(held=stage.held, audit=stage.audit, worker="cardoon@here")


def records(stage):
    return [one for one in stage.events() if one["event"] == "sandbox.violation"]


def test_a_violation_is_on_record_with_its_task(stage, log, caplog):
    stage.send(task_id="t1")
    [job] = stage.consume()

    with caplog.at_level(logging.WARNING):
        log.take(job.key, [SHADOW])

    [record] = records(stage)
    assert {
        name: record[name] for name in ("task", "task_id", "rule", "detail", "by", "count")
    } == {
        "task": "shop.pay",
        "task_id": "t1",
        "rule": "read",
        "detail": "/etc/shadow",
        "by": "kernel",
        "count": 2,
    }
    assert "task shop.pay[t1]: sandbox: read /etc/shadow refused (2 times)" in caplog.text


def test_each_kind_is_on_record_once_and_counted_in_the_result(stage, log):
    sent = stage.send()
    [job] = stage.consume()

    for _ in range(3):
        log.take(job.key, [SHADOW, Violation("connect", "10.0.0.1:25", "task")])
    stage.end(job, failed(ValueError("no")))

    assert len(records(stage)) == 2
    assert [one.count for one in stage.app.AsyncResult(sent.id).violations] == [6, 3]


def test_a_flood_leaves_twenty_records_and_one_for_the_rest(stage, log):
    stage.send()
    [job] = stage.consume()

    for number in range(1000):
        log.take(job.key, [Violation("read", f"/{number}", "task")])

    assert len(records(stage)) == 21


def test_a_job_that_is_not_held_any_more_is_passed_over(stage, log):
    log.take(4711, [SHADOW])

    assert records(stage) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGSYS, Violation("syscalls", "compute", "kernel")),
        (signal.SIGXCPU, Violation("cpu", "3 seconds", "kernel")),
        (signal.SIGXFSZ, Violation("file_size", "1000 bytes", "kernel")),
    ],
)
def test_some_deaths_tell_which_limit_was_met(number, expected):
    assert violations_of_death(-number, Sandbox(cpu=3, file_size=1000)) == (expected,)


@pytest.mark.parametrize("code", [0, 1, 97, -signal.SIGKILL, -signal.SIGSEGV, 31])
def test_others_tell_nothing(code):
    assert violations_of_death(code, Sandbox()) == ()


def test_the_end_of_a_process_is_passed_on_after_what_it_says_is_written_down(stage, log):
    stage.send(task_id="t1")
    [job] = stage.consume()
    told = []
    ended = log.before(lambda key, ending: told.append((key, ending, len(records(stage)))))
    crashed = Crashed("task process 7: signal 31", violations_of_death(-31, Sandbox()))

    ended(job.key, crashed)
    ended(job.key, HandedBack())

    assert told == [(job.key, crashed, 1), (job.key, HandedBack(), 1)]
