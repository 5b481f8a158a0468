"""Health: what makes a worker unready, what makes it dead, and what does neither."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from cardoon.brokers.memory import MemoryBroker
from cardoon.exceptions import OperationalError
from cardoon.testing import FakeClock
from cardoon.worker.health import Health, Judged, is_frozen
from cardoon.worker.observatory import hang_up
from cardoon.worker.probing import Probe
from cardoon.worker.vitals import (
    LOOP_SECONDS,
    STORE_SECONDS,
    WRITING_SECONDS,
    Deed,
    Loop,
    Vitals,
)
from tests.unit.stage import PATIENCE, held_of


class Scene:
    """A worker that works, until a test says otherwise."""

    def __init__(self, stage, probe=None):
        self.clock = stage.clock
        self.stage = stage
        self.vitals = Vitals(self.clock)
        parts = Judged(stage.pool, None, stage.settler, stage.held, lease=30.0, audit=stage.audit)
        self.health = Health(self.vitals, parts, probe=probe, clock=self.clock)
        self.health.has_begun = True
        self.work()

    def work(self, but=()):
        for loop in Loop:
            if loop not in but:
                self.vitals.turn(loop)
        for deed in Deed:
            if deed not in but:
                self.vitals.done(deed)

    def pass_time(self, seconds, but=()):
        self.clock.advance(seconds)
        self.work(but)

    def reasons(self):
        return " ".join(self.health.ready().reasons)


@pytest.fixture
def scene(stage):
    return Scene(stage)


def test_one_that_works_is_live_and_ready(scene):
    assert scene.health.live().is_good
    assert scene.health.ready().is_good
    assert scene.health.ready().details["tasks_held"] == 0


def test_one_that_has_not_begun_or_that_stops_is_live_and_not_ready(scene):
    scene.health.has_begun = False
    assert "starting" in scene.reasons()
    scene.health.is_stopping = True
    assert "stopping" in scene.reasons()
    assert scene.health.live().is_good


def test_one_that_may_not_run_what_it_cannot_record_says_so_and_blames_no_broker(make_stage):
    scene = Scene(make_stage(settings={"security_audit_required": True}))
    audit = scene.stage.audit
    audit.record("a")
    audit.close()
    audit.path.chmod(0o666)
    audit.record("b")
    scene.pass_time(STORE_SECONDS + 1, but=[Deed.CLAIM])

    [reason] = scene.health.ready().reasons
    assert reason.startswith(f"audit log: {audit.path} cannot be written (")
    assert "writable by others" in reason
    assert "make room" in reason
    assert scene.health.live().is_good

    audit.path.chmod(0o600)
    audit.retry()
    scene.work()
    assert scene.health.ready().is_good


@pytest.mark.parametrize("loop", list(Loop))
def test_a_loop_that_does_not_turn_is_the_end_of_both(scene, loop):
    scene.pass_time(LOOP_SECONDS + 1, but=[loop])

    assert f"{loop}: has not turned" in scene.reasons()
    assert not scene.health.live().is_good


def test_a_broker_that_does_not_answer_makes_it_unready_and_not_dead(scene):
    scene.pass_time(STORE_SECONDS + 1, but=list(Deed))

    assert "broker: no answer for 21 s" in scene.reasons()
    assert scene.health.live().is_good


def test_claims_that_fail_while_there_is_room_make_it_unready(scene):
    scene.pass_time(STORE_SECONDS + 1, but=[Deed.CLAIM])
    assert "no claim has succeeded" in scene.reasons()

    scene.stage.pool.room = 0  # then nobody asks for messages

    assert scene.health.ready().is_good


def test_outcomes_that_cannot_be_written_make_it_unready(scene):
    scene.stage.settler.failing_since = scene.clock.monotonic()
    scene.pass_time(WRITING_SECONDS + 1)

    assert "outcomes: could not be written for 21 s" in scene.reasons()


def test_leases_that_are_not_renewed_make_it_unready_if_there_are_any(scene):
    scene.pass_time(28, but=[Deed.RENEWAL])
    assert scene.health.ready().is_good

    scene.stage.send()
    [job] = scene.stage.consume()
    assert held_of(scene.stage, job)

    assert "leases: not renewed for 28 s of 30" in scene.reasons()


class Results:
    """A result backend that answers until it is told not to."""

    answers = True

    def load(self, _task_ids):
        if not self.answers:
            raise OperationalError("gone")
        return {}


def test_a_backend_of_its_own_is_asked_and_missed(stage):
    results = Results()
    probe = Probe(MemoryBroker(clock=FakeClock()), results, is_shared=False, clock=stage.clock)
    scene = Scene(stage, probe)
    scene.pass_time(STORE_SECONDS - 1)
    probe.ask()
    results.answers = False

    scene.pass_time(STORE_SECONDS + 1)
    probe.ask()

    assert "result backend: no answer for 21 s" in scene.reasons()
    assert probe.failures == 1
    results.answers = True
    probe.ask()
    assert scene.health.ready().is_good


def test_a_backend_that_is_the_broker_s_own_store_is_not_asked(stage):
    probe = Probe(MemoryBroker(clock=FakeClock()), Results(), is_shared=True, clock=stage.clock)

    probe.ask()

    assert probe.backend_at is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_a_signal_holds_is_known():
    with subprocess.Popen(["sleep", "60"]) as held:
        try:
            assert not is_frozen(held.pid)
            os.kill(held.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, held.pid, os.WSTOPPED)
            assert is_frozen(held.pid)
        finally:
            held.kill()
    assert not is_frozen(held.pid)


def test_to_hang_up_wakes_whoever_waits_for_a_server_and_nobody_else():
    here = ("127.0.0.1", 0)
    with (
        socket.create_server(here) as server,
        socket.create_server(here) as other,
        socket.create_connection(server.getsockname()) as waiting,
        socket.create_connection(other.getsockname()) as left,
    ):
        heard = []
        thread = threading.Thread(target=lambda: heard.append(waiting.recv(1)))
        thread.start()

        assert hang_up([server.getsockname()[:2]]) == 1

        thread.join(PATIENCE)
        assert heard == [b""]
        left.setblocking(False)
        with pytest.raises(BlockingIOError):
            left.recv(1)
