"""The outbox: nobody waits for who delivers, and what is too much is dropped."""

from __future__ import annotations

import logging
import threading

import pytest

from cardoon.worker.outbox import Outbox
from tests.unit.stage import PATIENCE


@pytest.fixture
def make_outbox():
    made = []

    def make(deliver, **options):
        made.append(Outbox(deliver, name="test", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.join(PATIENCE)


def test_things_are_delivered_in_order_by_another_thread(make_outbox):
    got, done = [], threading.Event()

    def deliver(item):
        got.append((item, threading.current_thread().name))
        if item == 2:
            done.set()

    outbox = make_outbox(deliver)
    for item in range(3):
        assert outbox.put(item, 1)
    outbox.start()

    assert done.wait(PATIENCE)
    assert got == [(0, "test"), (1, "test"), (2, "test")]


def test_what_is_too_much_is_dropped_and_said(make_outbox, caplog):
    outbox = make_outbox(lambda _: None)
    assert outbox.put("a", 100, most=50)

    with caplog.at_level(logging.WARNING):
        assert [outbox.put("b", 1, most=50) for _ in range(3)] == [False] * 3
    assert outbox.put("important", 1, most=1000)

    assert [line.message for line in caplog.records] == [
        "receivers of signals are too slow; notices dropped: 1"
    ]


def test_a_delivery_that_fails_does_not_end_the_thread(make_outbox, caplog):
    done = threading.Event()

    def deliver(item):
        if item == "bad":
            raise ValueError("no")
        done.set()

    outbox = make_outbox(deliver)
    outbox.start()
    outbox.put("bad", 1)
    outbox.put("good", 1)

    assert done.wait(PATIENCE)
    assert "could not be delivered" in caplog.text


def test_a_heart_beats_whether_or_not_there_is_something_to_deliver(make_outbox):
    beats = threading.Semaphore(0)
    outbox = make_outbox(lambda _: None, beat=beats.release, interval=0.01)
    outbox.start()

    for _ in range(3):
        assert beats.acquire(timeout=PATIENCE)
        outbox.put("x", 1)


def test_a_closed_outbox_takes_nothing(make_outbox):
    outbox = make_outbox(lambda _: None)
    outbox.close()
    outbox.close()

    assert not outbox.put("late", 1)
