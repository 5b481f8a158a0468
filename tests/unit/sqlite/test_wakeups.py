"""Hints between processes."""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon import backends, brokers
from cardoon.broker import Outgoing
from cardoon.clock import SystemClock
from cardoon.sqlite.wakeups import Bell, Wakeups, make_short_directory
from cardoon.testing import FakeClock

LONG = 30.0


@pytest.fixture
def only_hints(monkeypatch):
    """Let nobody look again without a hint before the test has failed."""
    monkeypatch.setattr("cardoon.brokers.sqlite._LOOK_AGAIN_SECONDS", LONG)
    monkeypatch.setattr("cardoon.arrivals.LOOK_AGAIN_SECONDS", LONG)


@pytest.fixture
def wakeups(tmp_path):
    wakeups = Wakeups(tmp_path, random=os.urandom)
    yield wakeups
    wakeups.close()


def is_woken(listener):
    start = time.monotonic()
    listener.wait(LONG)
    return time.monotonic() - start < LONG / 2


def sockets(directory):
    return sorted(each.name[0] for each in directory.iterdir() if each.suffix == ".sock")


def test_a_hint_wakes_who_waits_for_it(wakeups):
    with wakeups.listen(Bell.MESSAGES) as listener:
        wakeups.ring(Bell.MESSAGES)

        assert is_woken(listener)


def test_a_hint_about_something_else_does_not_wake(wakeups):
    with wakeups.listen(Bell.MESSAGES) as listener:
        wakeups.ring(Bell.RESULTS)
        start = time.monotonic()
        listener.wait(0.02)

        assert time.monotonic() - start >= 0.019


def test_a_hint_wakes_everyone(tmp_path, wakeups):
    other = Wakeups(tmp_path, random=os.urandom)
    with (
        wakeups.listen(Bell.RESULTS) as one,
        wakeups.listen(Bell.RESULTS) as two,
        other.listen(Bell.RESULTS) as three,
    ):
        wakeups.ring(Bell.RESULTS)

        assert [is_woken(each) for each in (one, two, three)] == [True] * 3
    other.close()


def test_a_listener_is_heard_of_although_the_directory_shows_no_change(tmp_path, wakeups):
    tick = time.time_ns() + 10**10
    earlier = Wakeups(tmp_path, random=os.urandom)
    with earlier.listen(Bell.MESSAGES):
        os.utime(tmp_path, ns=(tick, tick))
        wakeups.ring(Bell.MESSAGES)

        with wakeups.listen(Bell.MESSAGES) as later:
            # The clock of a file system is coarse: both listeners came within one tick of it.
            os.utime(tmp_path, ns=(tick, tick))
            wakeups.ring(Bell.MESSAGES)
            assert is_woken(later)
    earlier.close()


def test_drained_hints_are_forgotten(wakeups):
    with wakeups.listen(Bell.MESSAGES) as listener:
        for _ in range(100):
            wakeups.ring(Bell.MESSAGES)
        listener.drain()
        start = time.monotonic()
        listener.wait(0.02)

        assert time.monotonic() - start >= 0.019


def test_ringing_never_blocks_and_never_fails(tmp_path, wakeups):
    Wakeups(tmp_path / "missing", random=os.urandom).ring(Bell.MESSAGES)
    with wakeups.listen(Bell.MESSAGES):
        for _ in range(1000):
            wakeups.ring(Bell.MESSAGES)


def test_a_listener_is_kept_for_the_next_caller(tmp_path, wakeups):
    with wakeups.listen(Bell.MESSAGES) as first, wakeups.listen(Bell.MESSAGES):
        assert sockets(tmp_path) == ["q", "q"]
    assert sockets(tmp_path) == ["q"]

    with wakeups.listen(Bell.MESSAGES) as again:
        assert sockets(tmp_path) == ["q"]
        wakeups.ring(Bell.MESSAGES)
        assert is_woken(again)
    assert first is not None


def test_closing_removes_the_sockets_even_of_who_listens_at_the_moment(tmp_path, wakeups):
    with wakeups.listen(Bell.RESULTS), wakeups.listen(Bell.MESSAGES):
        wakeups.close()
        wakeups.close()
        assert sockets(tmp_path) == ["q", "r"]

    assert sockets(tmp_path) == []


def test_what_the_dead_left_behind_is_removed(tmp_path, wakeups):
    dead = Wakeups(tmp_path, random=os.urandom)
    with dead.listen(Bell.MESSAGES):
        pass
    dead.abandon()  # as the kernel does at a death
    assert sockets(tmp_path) == ["q"]

    wakeups.ring(Bell.MESSAGES)

    assert sockets(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a short directory takes its place")
def test_a_directory_far_down_can_be_reached(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    sender, receiver = (Wakeups(deep, random=os.urandom) for _ in range(2))
    with receiver.listen(Bell.MESSAGES) as listener:
        sender.ring(Bell.MESSAGES)

        assert is_woken(listener)
    receiver.close()
    sender.close()
    assert sockets(deep) == []


def test_where_no_socket_can_be_made_callers_poll_and_are_told_once(tmp_path, caplog):
    wakeups = Wakeups(tmp_path / "missing", random=os.urandom)

    with caplog.at_level(logging.WARNING, "cardoon.sqlite"):
        for _ in range(2):
            with wakeups.listen(Bell.MESSAGES) as listener:
                listener.drain()
                start = time.monotonic()
                listener.wait(LONG)
                assert time.monotonic() - start < 1

    assert [record.message.split(":")[0] for record in caplog.records] == ["polling for messages"]


def test_a_short_directory_is_private_and_the_same_for_everyone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    far = tmp_path / "far"

    short = make_short_directory(far)

    assert short == make_short_directory(far)
    assert short != make_short_directory(tmp_path / "farther")
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    assert short.parent == tmp_path


@pytest.mark.parametrize("trap", ["open to all", "link"])
def test_a_short_directory_that_another_prepared_is_not_used(tmp_path, monkeypatch, trap):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    far = tmp_path / "far"
    short = make_short_directory(far)
    if trap == "link":
        short.rmdir()
        short.symlink_to(tmp_path)
    else:
        short.chmod(0o777)

    assert make_short_directory(far) == far


@pytest.mark.usefixtures("only_hints")
def test_a_message_from_another_process_arrives_at_once(tmp_path, start):
    broker = brokers.connect(f"sqlite:///{tmp_path}/x.db", clock=SystemClock())
    sender = start("publish", tmp_path / "x.db", "a")
    assert sender.stdout.readline() == "ready\n"
    assert broker.receive(["q"], limit=1, lease=30, timeout=0) == []

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(broker.receive, ["q"], limit=1, lease=30, timeout=LONG)
        sender.communicate("go\n", timeout=LONG)
        (delivery,) = waiting.result(LONG / 2)

    assert delivery.id == "a"
    broker.close()


@pytest.mark.usefixtures("only_hints")
def test_a_result_from_another_process_arrives_at_once(tmp_path, start):
    backend = backends.connect(f"sqlite:///{tmp_path}/x.db", clock=SystemClock())
    worker = start("store", tmp_path / "x.db", "a")
    assert worker.stdout.readline() == "ready\n"

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(lambda: list(backend.wait(["a"], timeout=LONG)))
        worker.communicate("go\n", timeout=LONG)
        (result,) = waiting.result(LONG / 2)

    assert result.frame == b"frame"
    backend.close()


@pytest.mark.usefixtures("only_hints")
def test_a_scheduled_message_arrives_when_it_is_due(tmp_path):
    clock = SystemClock()
    broker = brokers.connect(f"sqlite:///{tmp_path}/x.db", clock=clock)
    due = clock.now() + 0.1
    broker.publish([Outgoing("q", "a", b"x", run_at=due)], timeout=10)

    (delivery,) = broker.receive(["q"], limit=1, lease=30, timeout=LONG)

    assert delivery.id == "a"
    assert 0 <= clock.now() - due < LONG / 2
    broker.close()


def test_who_waits_looks_again_without_a_hint(tmp_path):
    clock = FakeClock()
    broker = brokers.connect(f"sqlite:///{tmp_path}/x.db", clock=clock)
    broker.publish([Outgoing("q", "a", b"x", run_at=clock.now() + 60)], timeout=10)

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(broker.receive, ["q"], limit=1, lease=30, timeout=LONG)
        clock.advance(60)  # nobody is told

        assert len(waiting.result(LONG)) == 1
    broker.close()
