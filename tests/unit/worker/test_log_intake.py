"""The worker's end of what tasks log, against whatever a process may write there."""

from __future__ import annotations

import json
import logging
import os

import pytest

from cardoon.testing import FakeClock
from cardoon.worker.child import TaskProcess
from cardoon.worker.ipc import Frame, FrameType, IpcError
from cardoon.worker.log_intake import TaskLogs
from cardoon.worker.task_log import MAX_MISSED, Line, Terms, pack_line
from tests.unit.worker.processes import job


class Heard:
    """Processes with logs, and what syslog was told of them."""

    def __init__(self):
        self.clock = FakeClock()
        self.told = []
        self.made = []

    def tell(self, level, text, fields):
        self.told.append((level, text, dict(fields)))

    def logs(self, rate):
        return TaskLogs(Terms(logging.INFO, rate), tell=self.tell, clock=self.clock)

    def process(self, slots=1, rate=1000.0, logs=None):
        process = TaskProcess(1, slots, logs=logs or self.logs(rate))
        self.made.append(process)
        return process

    @property
    def texts(self):
        return [text for _, text, _ in self.told]

    @property
    def speakers(self):
        return [fields.get("task_id") for _, _, fields in self.told]


@pytest.fixture
def heard():
    made = Heard()
    yield made
    for one in made.made:
        one.close()


def say(process, *packed):
    for one in packed:
        os.write(process.log.write_end, one)
        assert process.hear(process.log)


def line(text, task_id=None, level=30):
    return pack_line(Line(level, "shop", text, task_id))


def test_a_record_is_told_as_the_tasks_with_the_names_that_the_worker_knows(heard):
    process = heard.process(slots=2)
    process.place(job(1), now=0.0)
    process.place(job(2), now=0.0)

    say(process, line("one", "t2", level=40))

    assert heard.told == [
        (
            40,
            "one",
            {
                "logger": "shop",
                "level": "ERROR",
                "task": "shop.pay",
                "task_id": "t2",
                "process": None,
                "source": "task",
            },
        )
    ]


def test_whoever_claims_to_be_another_task_is_the_one_that_runs(heard):
    process = heard.process()
    process.place(job(1), now=0.0)

    say(process, line("whose", "t9"), line("nobody's", None))

    assert heard.speakers == ["t1", "t1"]


def test_where_several_run_whoever_names_none_of_them_is_nobody(heard):
    process = heard.process(slots=2)
    process.place(job(1), now=0.0)

    say(process, line("whose", "t9"), line("nobody's", None))

    assert heard.speakers == [None, None]


def test_what_was_logged_before_an_outcome_is_told_before_the_job_is_forgotten(heard):
    process = heard.process()
    process.place(job(1), now=0.0)
    process.place(job(2), now=0.0)
    os.write(process.log.write_end, line("last words", "t1"))

    process.hear_end(1, Frame(FrameType.OUTCOME, {"key": 1, "unlogged": 3}))
    process.remove(1, now=0.0)
    say(process, line("next", "t2"))

    assert heard.texts == ["last words", "3 records of a task's log were not sent", "next"]
    assert heard.speakers == ["t1", "t1", "t2"]
    assert heard.told[1][2]["source"] == "worker"


@pytest.mark.parametrize("count", [-1, MAX_MISSED + 1, True, "3", 1.5])
def test_a_count_that_is_none_costs_the_process_its_life(heard, count):
    process = heard.process()
    process.place(job(1), now=0.0)

    with pytest.raises(IpcError):
        process.hear_end(1, Frame(FrameType.OUTCOME, {"key": 1, "unlogged": count}))


def test_a_line_without_an_end_takes_no_memory_and_the_next_one_is_heard(heard):
    process = heard.process()
    for _ in range(100):
        say(process, b"x" * 16_000)
    say(process, b"\n", line("well"))

    assert heard.texts == ["1 records of a task's log were not sent", "well"]
    kept = [len(one) for one in vars(process.log).values() if isinstance(one, bytearray)]
    assert max(kept) <= 4096


@pytest.mark.parametrize(
    "packed",
    [
        b"\n",
        b"\xff\n",
        b"[]\n",
        b"{}\n",
        b"[30]\n",
        json.dumps([30, "x", {}, None, 0]).encode() + b"\n",
    ],
)
def test_what_is_no_record_is_counted(heard, packed):
    process = heard.process()

    say(process, packed, line("well"))

    assert heard.texts == ["1 records of a task's log were not sent", "well"]


def test_a_flood_is_counted_and_the_count_is_told_once_a_second(heard):
    process = heard.process(rate=1.0)
    for _ in range(1000):
        say(process, line("again"))
    assert heard.texts == ["again"] * 10  # twice what a process keeps to, as a burst

    for _ in range(3):
        heard.clock.advance(0.5)
        say(process, line("again"))

    assert sum("not sent" in text for text in heard.texts) == 1
    [count] = [fields["missed"] for _, _, fields in heard.told if "missed" in fields]
    assert count == 990


def test_a_flood_that_ends_with_its_process_is_told_then(heard):
    process = heard.process(rate=1.0)
    process.place(job(1), now=0.0)
    for _ in range(30):
        say(process, line("again"))

    process.hear_out()
    process.hear_out()

    assert heard.texts[10:] == ["20 records of a task's log were not sent"]
    assert heard.speakers[10:] == ["t1"]


def test_all_processes_together_have_ten_times_as_much_as_one(heard):
    logs = heard.logs(rate=1.0)
    for process in [heard.process(logs=logs) for _ in range(20)]:
        for _ in range(30):
            say(process, line("again"))

    assert heard.texts.count("again") == 50


def test_the_end_of_the_pipe_is_noticed(heard):
    process = heard.process()
    process.log.let_go()

    assert not process.hear(process.log)
