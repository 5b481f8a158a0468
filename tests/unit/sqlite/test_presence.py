"""Telling the living from the dead, and what becomes of what the dead held."""

from __future__ import annotations

import fcntl
import os
import signal
import sys

import pytest

from cardoon import brokers
from cardoon.broker import Ack, Outgoing
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.clock import SystemClock
from cardoon.sqlite import upkeep
from cardoon.sqlite.database import Database
from cardoon.sqlite.presence import Life, Presence
from cardoon.testing import FakeClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.db"


def connect(path, **options):
    return SqliteBroker(Database(path, clock=FakeClock()), **options)


def publish(broker, *names):
    broker.publish([Outgoing("q", name, b"x") for name in names], timeout=10)


def receive(broker):
    return broker.receive(["q"], limit=10, lease=600, timeout=0)


def test_who_holds_the_lock_lives_and_who_let_go_is_dead(tmp_path):
    one, other = (Presence(tmp_path, random=os.urandom) for _ in range(2))
    name = one.hold()

    assert other.look(name) is Life.ALIVE
    assert one.look(name) is Life.ALIVE
    assert one.hold() == name == one.name
    one.release()
    one.release()
    assert other.look(name) is Life.DEAD
    assert one.name == ""


def test_two_may_look_at_the_same_time(tmp_path):
    one, other = (Presence(tmp_path, random=os.urandom) for _ in range(2))
    name = one.hold()
    one.release()
    looking = os.open(tmp_path / f"{name}.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)

    assert other.look(name) is Life.DEAD
    os.close(looking)


def test_nothing_is_known_of_who_has_no_lock_file(tmp_path):
    presence = Presence(tmp_path, random=os.urandom)

    assert presence.look("nobody") is Life.UNKNOWN
    presence.remove("nobody")


def test_who_comes_back_has_another_name(tmp_path):
    presence = Presence(tmp_path, random=os.urandom)
    first = presence.hold()
    presence.release()

    assert presence.hold() != first
    presence.release()


def test_what_a_killed_worker_held_is_taken_back_at_once(path, start):
    broker = brokers.connect(f"sqlite:///{path}", clock=SystemClock())
    publish(broker, "a")
    worker = start("hold", path)
    assert worker.stdout.readline() == "holds a\n"
    assert broker.maintain() == 0

    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=10)
    taken_back = broker.maintain()
    (again,) = broker.receive(["q"], limit=1, lease=30, timeout=10)

    assert taken_back == 1
    assert (again.attempt, again.crashes) == (2, 1)
    assert broker.maintain() == 0
    broker.close()


def test_a_child_of_a_killed_worker_does_not_pass_for_it(path, start):
    broker = brokers.connect(f"sqlite:///{path}", clock=SystemClock())
    publish(broker, "a")
    worker = start("hold_beside_child", path)
    child = int(worker.stdout.readline().removeprefix("child "))
    try:
        assert broker.maintain() == 0
        worker.kill()
        worker.wait(10)

        assert broker.maintain() == 1
    finally:
        os.kill(child, signal.SIGKILL)
        broker.close()


def test_a_worker_that_lives_keeps_what_it_holds(path):
    one, other = connect(path), connect(path)
    publish(one, "a")
    (held,) = receive(one)

    assert other.maintain() == 0
    assert one.settle([Ack(held)]) == [True]
    one.close()
    other.close()


def test_what_a_closed_broker_still_held_is_taken_back(path):
    one, other = connect(path), connect(path)
    publish(one, "a")
    receive(one)
    one.close()

    assert other.maintain() == 1
    other.close()


def test_a_closed_broker_that_held_nothing_leaves_no_trace(path):
    broker = connect(path)
    publish(broker, "a")
    broker.settle([Ack(each) for each in receive(broker)])
    database = broker.database

    broker.close()

    assert database.rows("upkeep.owners") == []
    database.close()


def test_closing_beside_a_writer_that_does_not_end_leaves_the_rest_to_others(path, monkeypatch):
    monkeypatch.setattr("cardoon.brokers.sqlite._LEAVE_SECONDS", 0.05)
    one, other = connect(path), connect(path)
    publish(one, "a")
    one.settle([Ack(each) for each in receive(one)])

    with other.database.write(durable=False):
        one.close()

    assert len(other.database.rows("upkeep.owners")) == 1
    other.maintain()
    assert other.database.rows("upkeep.owners") == []
    other.close()


def test_an_owner_that_is_dead_and_held_nothing_is_forgotten(path):
    one, other = connect(path), connect(path)
    publish(one, "a")
    one.settle([Ack(each) for each in receive(one)])
    one.database.close()  # without saying good-bye

    taken_back = other.maintain()

    assert taken_back == 0
    assert other.database.rows("upkeep.owners") == []
    assert not list(path.parent.glob("x.db-wake/*.lock"))
    other.close()


def test_after_a_restart_of_the_host_every_owner_is_dead(path):
    before, after = connect(path, boot="one"), connect(path, boot="two")
    publish(before, "a")
    receive(before)

    assert after.maintain() == 1
    before.database.close()
    after.close()


def test_an_owner_without_a_lock_file_is_judged_by_its_leases(path):
    one, other = connect(path), connect(path)
    publish(one, "a")
    receive(one)
    for lock in path.parent.glob("x.db-wake/*.lock"):
        lock.unlink()

    assert other.maintain() == 0
    other.database.clock.advance(600)
    assert other.maintain() == 1
    one.close()
    other.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names its boots")
def test_the_boot_has_a_name_on_linux():
    assert len(upkeep.load_boot_id()) == 36
    assert upkeep.load_boot_id() == upkeep.load_boot_id()
