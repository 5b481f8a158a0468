"""The dispatcher: many events under one signature, and nobody waits for it."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from cardoon.events import dispatcher as module
from cardoon.events.frames import CHANNEL, MAX_FRAME_EVENTS
from cardoon.exceptions import OperationalError
from tests.unit.events.wires import PATIENCE, event, wait_until


class Gate:
    """A broker that lets nothing through until it is opened."""

    def __init__(self, broker):
        self.broker = broker
        self.open = threading.Event()
        self.tried = threading.Event()

    def post(self, channel, frames, **options):
        self.tried.set()
        assert self.open.wait(PATIENCE)
        self.broker.post(channel, frames, **options)

    def posted(self, *args, **options):
        return self.broker.posted(*args, **options)

    def position(self, channel):
        return self.broker.position(channel)


class Broken(Gate):
    """A broker that is away until it is opened."""

    def post(self, channel, frames, **options):
        self.tried.set()
        if not self.open.is_set():
            raise OperationalError("the store is away")
        self.broker.post(channel, frames, **options)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.01)


def test_events_gather_and_are_signed_as_one_frame(wire):
    sender = wire.dispatcher()
    for number in range(3):
        sender.put([event(uuid=f"t{number}")])

    assert sender.flush()

    assert wire.broker.position(CHANNEL) == 1
    assert [one["uuid"] for one in wire.received()] == ["t0", "t1", "t2"]
    sender.close()


def test_what_all_events_have_in_common_is_said_of_each(wire):
    with wire.dispatcher() as sender:
        sender.send("task-started", uuid="t1")

    [got] = wire.received()
    assert got["hostname"] == "w1@host"
    assert got["type"] == "task-started"
    assert got["pid"] > 0
    assert got["clock"] == 1
    assert isinstance(got["utcoffset"], int)
    assert got["timestamp"] == got["local_received"] == wire.clock.now()
    assert got["signer"].startswith("CN=alice")


def test_a_thread_sends_them_without_being_asked_to(wire):
    sender = wire.dispatcher(interval=0.01)

    sender.send("task-started", uuid="t1")

    wait_until(lambda: wire.broker.position(CHANNEL) == 1)
    sender.close()


def test_a_heartbeat_comes_every_so_often(wire):
    sender = wire.dispatcher(heartbeat=0.02, interval=0.01)
    sender.beat = lambda: {"active": 3}
    sender.start()

    wait_until(lambda: wire.broker.position(CHANNEL) >= 3)
    sender.close()

    beats = wire.received()
    assert {one["type"] for one in beats} == {"worker-heartbeat"}
    assert beats[0]["active"] == 3


def test_what_fails_to_make_a_heartbeat_does_not_end_the_thread(wire, caplog):
    sender = wire.dispatcher(heartbeat=0.02, interval=0.01)
    sender.beat = lambda: 1 / 0
    sender.start()
    wait_until(lambda: "a heartbeat could not be made" in caplog.text)

    sender.send("task-started", uuid="t1")

    wait_until(lambda: wire.broker.position(CHANNEL) >= 1)
    sender.close()


def test_a_heartbeat_can_be_asked_for(wire):
    sender = wire.dispatcher(heartbeat=3600.0, interval=0.01)
    sender.beat = dict
    sender.start()

    sender.beat_now()

    wait_until(lambda: wire.broker.position(CHANNEL) == 1)
    sender.close()


def test_more_than_a_frame_holds_becomes_several_in_order(wire):
    sender = wire.dispatcher()
    sender.put([event(uuid=f"t{number}") for number in range(MAX_FRAME_EVENTS + 1)])

    assert sender.flush()

    assert wire.broker.position(CHANNEL) == 2
    assert [one["uuid"] for one in wire.received()][-2:] == ["t499", "t500"]
    sender.close()


def test_large_events_fill_a_frame_earlier(wire):
    sender = wire.dispatcher()
    sender.put([event(uuid=f"t{number}", text="x" * 15_000) for number in range(30)])

    assert sender.flush()

    assert wire.broker.position(CHANNEL) == 3
    assert len(wire.received()) == 30
    sender.close()


def test_what_does_not_fit_or_cannot_travel_is_dropped_and_counted(wire, caplog):
    sender = wire.dispatcher()
    sender.put([event(text="x" * 20_000), event(text=object()), event(type=""), event(uuid="good")])

    assert sender.flush()

    assert [one["uuid"] for one in wire.received()] == ["good"]
    assert sender.dropped == 3
    assert "events dropped so far: 1" in caplog.text
    sender.close()


def test_a_flood_is_dropped_and_the_next_frame_says_how_many(wire):
    gate = Gate(wire.broker)
    sender = wire.dispatcher(interval=0.001)
    sender._broker = gate
    sender.put([event()])
    assert gate.tried.wait(PATIENCE)  # it waits for the broker now

    sender.put([event(uuid=f"t{number}") for number in range(module.MAX_WAITING + 7)])

    assert sender.dropped == 7
    gate.open.set()
    sender.close(PATIENCE)
    found = wire.received()
    assert len([one for one in found if one["type"] == "task-started"]) == module.MAX_WAITING + 1
    assert [(one["reason"], one["count"]) for one in found if one["type"] == "events-lost"] == [
        ("dropped", 7)
    ]
    assert wire.receiver.lost == {"dropped": 7}


def test_who_sends_an_event_waits_for_nothing_while_the_broker_hangs(wire):
    gate = Gate(wire.broker)
    sender = wire.dispatcher(interval=0.001)
    sender._broker = gate
    sender.put([event()])
    assert gate.tried.wait(PATIENCE)

    began = time.monotonic()
    for _ in range(1000):
        sender.send("task-started", uuid="t1")

    assert time.monotonic() - began < 2.0
    gate.open.set()
    sender.close(PATIENCE)


def test_a_broker_that_is_away_gets_the_same_frame_later(wire, caplog):
    away = Broken(wire.broker)
    sender = wire.dispatcher()
    sender._broker = away
    sender.put([event(uuid="t1")])
    with caplog.at_level(logging.WARNING):
        assert not sender.flush()
    assert "the store is away" in caplog.text
    sender.put([event(uuid="t2")])

    away.open.set()
    assert sender.flush()

    assert [one["uuid"] for one in wire.received()] == ["t1", "t2"]
    assert wire.receiver.lost == {}
    sender.close()


def test_a_frame_that_is_too_old_to_be_taken_is_given_up_and_missed(wire):
    away = Broken(wire.broker)
    sender = wire.dispatcher()
    sender.put([event(uuid="t0")])
    assert sender.flush()
    assert len(wire.received()) == 1
    sender._broker = away
    sender.put([event(uuid="t1")])
    assert not sender.flush()
    wire.clock.advance(61)
    away.open.set()
    sender.put([event(uuid="t2")])

    assert sender.flush()

    assert [one.get("uuid") for one in wire.received()] == [None, "t2"]
    assert wire.receiver.lost == {"gap": 1}
    sender.close()


def test_only_the_wanted_groups_are_sent(wire):
    with wire.dispatcher(groups={"worker"}) as sender:
        sender.send("task-started", uuid="t1")
        sender.send("worker-online")
        assert not sender.wants("task-started")

    assert [one["type"] for one in wire.received()] == ["worker-online"]


def test_one_that_is_not_enabled_sends_nothing(wire):
    with wire.dispatcher(enabled=False) as sender:
        sender.send("worker-online")
        sender.put([event()])

    assert wire.received() == []


def test_closing_twice_and_sending_after_it_is_fine(wire):
    sender = wire.dispatcher()
    sender.send("task-started", uuid="t1")
    sender.close()
    sender.close()

    sender.send("task-started", uuid="t2")

    assert [one["uuid"] for one in wire.received()] == ["t1"]


@pytest.mark.parametrize(
    ("hostname", "shown"), [("w\x1b[2J@h", "w?[2J@h"), ("", "?"), ("x" * 999, "x" * 320)]
)
def test_a_name_that_no_receiver_takes_is_made_one_that_they_do(wire, hostname, shown):
    with wire.dispatcher(hostname=hostname) as sender:
        sender.send("worker-online")

    assert [one["hostname"] for one in wire.received()] == [shown]
