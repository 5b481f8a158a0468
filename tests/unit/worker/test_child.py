"""The worker's record of a process: the jobs it holds, and the bytes that go to it and come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cardoon.worker.child import Phase, TaskProcess
from cardoon.worker.ipc import (
    FROM_WORKER,
    Channel,
    ChannelClosedError,
    Frame,
    FrameType,
    IpcError,
    pack_frame,
)
from tests.unit.worker.processes import job


@pytest.fixture
def process():
    made = TaskProcess(1, slots=2)
    yield made
    made.close()


def test_as_many_jobs_have_begun_as_there_are_slots(process):
    for key in (1, 2, 3):
        process.place(job(key), now=10.0)

    assert [placed.job.key for placed in process.running] == [1, 2]
    assert [placed.begun for placed in process.jobs.values()] == [True, True, False]
    assert process.taken == 3


def test_the_next_in_line_begins_when_one_has_left(process):
    for key in (1, 2, 3):
        process.place(job(key, soft_limit=2.0, hard_limit=5.0), now=10.0)

    process.remove(1, now=20.0)

    started = {key: placed.started for key, placed in process.jobs.items()}
    assert started == {2: 10.0, 3: 20.0}
    assert (process.jobs[3].soft_at, process.jobs[3].hard_at) == (22.0, 25.0)


def test_a_job_that_is_not_there_cannot_be_removed(process):
    process.place(job(1), now=0.0)

    assert process.remove(2, now=0.0) is None
    assert process.remove(1, now=0.0).job.key == 1
    assert process.remove(1, now=0.0) is None


def test_jobs_reach_the_process_when_they_are_flushed(process):
    process.place(job(7), now=0.0)
    assert process.has_unsent

    process.flush()

    channel = Channel(process.far_end, FROM_WORKER)
    assert channel.receive() == Frame(FrameType.JOB, {"key": 7}, b"")
    assert not process.has_unsent


def test_a_process_that_does_not_read_is_waited_for_up_to_a_bound(process):
    process.queue(FrameType.JOB, {}, bytes(8 << 20))
    process.flush()
    assert process.has_unsent

    process.queue(FrameType.JOB, {}, bytes(64 << 20))
    with pytest.raises(IpcError, match="does not read"):
        process.flush()


def test_what_was_left_over_is_sent_when_the_process_reads_again(process):
    process.queue(FrameType.JOB, {"key": 1}, bytes(1 << 20))
    process.flush()
    assert process.has_unsent

    channel = Channel(process.far_end, FROM_WORKER)
    while (frame := channel.receive(wait=False)) is None:
        process.flush()

    assert (frame.head, len(frame.body)) == ({"key": 1}, 1 << 20)


def test_what_a_process_says_is_read_without_waiting(process):
    assert process.receive() == []

    process.far_end.sendall(pack_frame(FrameType.READY, {}))
    assert process.receive() == [Frame(FrameType.READY, {}, b"")]


def test_a_process_that_says_what_only_the_worker_may_say_breaks_a_rule(process):
    process.far_end.sendall(pack_frame(FrameType.JOB, {}))

    with pytest.raises(IpcError, match="not permitted"):
        process.receive()


def test_a_process_that_is_gone_is_noticed_both_ways(process):
    process.far_end.close()

    with pytest.raises(ChannelClosedError):
        process.receive()
    process.queue(FrameType.STOP, {})
    with pytest.raises(IpcError, match="gone"):
        process.flush()


def test_a_record_without_a_process_can_be_killed_and_closed_twice(process):
    process.kill()
    process.close()
    process.close()

    assert process.phase is Phase.DEAD
    with pytest.raises(IpcError, match="gone"):
        process.receive()


def test_a_process_is_killed_by_its_number(process):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.born(sleeper.pid, None)

    process.kill()

    assert sleeper.wait(20) == -signal.SIGKILL
    process.kill()  # nothing happens to whoever is dead


@pytest.mark.skipif(sys.platform != "linux", reason="handles of processes are Linux's")
def test_a_process_is_killed_by_its_handle(process):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.born(sleeper.pid, os.pidfd_open(sleeper.pid))

    process.kill(signal.SIGTERM)

    assert sleeper.wait(20) == -signal.SIGTERM
