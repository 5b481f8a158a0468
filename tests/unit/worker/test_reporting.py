"""What a process tells of each job."""

from __future__ import annotations

import socket

import pytest

from cardoon.worker.ipc import FROM_CHILD, Channel, Frame, FrameType
from cardoon.worker.jobs import Answer
from cardoon.worker.reporting import Reporter, resident_kib

JOB = Frame(FrameType.JOB, {"key": 7})


@pytest.fixture
def ends():
    near, far = socket.socketpair()
    yield Channel(near, {}), Channel(far, FROM_CHILD)
    near.close()
    far.close()


def test_an_outcome_names_its_job_and_how_long_it_took(ends):
    near, far = ends

    Reporter(near, max_memory_kib=None).send(JOB, Answer({"kind": "succeeded"}, b"5"), 0.1234567)

    assert far.receive() == Frame(
        FrameType.OUTCOME, {"key": 7, "runtime": 0.123457, "kind": "succeeded"}, b"5"
    )


def test_the_time_is_taken_around_the_block_that_runs_the_job(ends):
    near, far = ends

    with Reporter(near, max_memory_kib=None).timed(JOB) as report:
        report.answer = Answer({"kind": "ignored"})

    frame = far.receive()
    assert frame.head["kind"] == "ignored"
    assert 0 <= frame.head["runtime"] < 20


def test_a_job_without_an_answer_is_handed_back(ends):
    near, far = ends

    with Reporter(near, max_memory_kib=None).timed(JOB):
        pass

    assert far.receive().head["kind"] == "handed_back"


@pytest.mark.parametrize(("limit", "full"), [(1, True), (1 << 40, None), (None, None)])
def test_a_process_says_when_it_takes_more_memory_than_it_may(ends, limit, full):
    near, far = ends

    Reporter(near, max_memory_kib=limit).send(JOB, Answer({"kind": "ignored"}), 0.0)

    assert far.receive().head.get("full") is full


def test_a_python_process_takes_some_megabytes():
    assert 1024 < resident_kib() < 1 << 30
