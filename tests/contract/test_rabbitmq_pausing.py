"""Queues that rest on RabbitMQ, which knows nothing of it: workers stop taking, and nothing comes to harm.

The suite says what one broker does; here are several, as several workers and somebody's terminal.
"""

from __future__ import annotations

import itertools
import time
import uuid

import pika
import pytest

from cardoon import brokers
from cardoon.broker import Outgoing, Subscription
from cardoon.clock import SystemClock
from cardoon.rabbitmq.resting import LOOK_AGAIN_SECONDS
from cardoon.testing.setting import ids, message, publish, receive

LONG = 30.0
"""Seconds after which a test gives up on something that should happen soon."""

PATIENCE = LOOK_AGAIN_SECONDS + 2.0
"""Within which a worker notices; the second part is for a busy machine."""


@pytest.fixture
def prefix():
    return f"p{uuid.uuid4().hex}"


@pytest.fixture
def connect(rabbitmq, prefix, tmp_path):
    """Makes brokers that share a server and a companion."""
    made = []

    def make():
        clock = SystemClock()
        broker = brokers.connect(
            rabbitmq.url,
            clock=clock,
            timeout=LONG,
            transport={"global_keyprefix": prefix},
            companion=brokers.connect(f"sqlite:///{tmp_path}/store.db", clock=clock),
        )
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def lies_ready(rabbitmq, prefix):
    """Waits until so many messages lie ready on the server, with nobody."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    channel = connection.channel()

    def wait(count):
        deadline = time.monotonic() + LONG
        while (seen := _ready(channel, f"{prefix}.0.q")) != count:
            assert time.monotonic() < deadline, f"{seen} lie ready, not {count}"
            connection.sleep(0.02)

    yield wait
    connection.close()


def _ready(channel, name):
    return channel.queue_declare(name, passive=True).method.message_count


def test_another_worker_notices_that_a_queue_rests_and_that_it_goes_on(connect):
    worker, terminal = connect(), connect()
    worker.declare(["q", "r"])
    receive(worker, "q", "r")  # it has just asked
    terminal.pause(["q"])
    began = time.monotonic()

    for number in itertools.count():
        publish(terminal, message(f"m{number}"))
        if not receive(worker, "q", "r"):
            break
    assert time.monotonic() - began < PATIENCE
    publish(terminal, Outgoing("r", "other", b"x"))
    assert ids(worker.receive(["q", "r"], limit=9, lease=30, timeout=LONG)) == ["other"]

    terminal.resume(["q"])
    began = time.monotonic()
    (back,) = worker.receive(["q", "r"], limit=9, lease=30, timeout=LONG)
    assert time.monotonic() - began < PATIENCE
    assert (back.id, back.attempt, back.crashes) == (f"m{number}", 1, 0)


def test_what_a_worker_was_sent_goes_back_unharmed(connect, lies_ready):
    worker, other = connect(), connect()
    worker.declare(["q"])
    assert worker.receive(["q"], limit=8, lease=30, timeout=0.01) == []
    names = [f"m{number}" for number in range(8)]
    publish(other, *map(message, names))
    lies_ready(0)  # they are with the worker, which has not taken them

    worker.pause(["q"])
    assert receive(worker) == []
    lies_ready(8)
    assert [(depth.ready, depth.paused) for depth in other.depths()] == [(8, True)]
    assert receive(other) == []

    worker.resume(["q"])
    found = []
    while len(found) < 8:
        found += other.receive(["q"], limit=8, lease=30, timeout=LONG)
    assert sorted(ids(found)) == names
    assert {(each.attempt, each.crashes, each.retries) for each in found} == {(1, 0, 0)}


def test_what_a_busy_worker_was_sent_goes_back_though_it_takes_nothing(connect, lies_ready):
    """One that has no room does not ask who rests; nothing waits with it for long anyhow."""
    worker, other = connect(), connect()
    worker.declare(["q"])
    assert worker.receive(["q"], limit=8, lease=30, timeout=0.01) == []
    publish(other, message("a"))
    lies_ready(0)
    other.pause(["q"])

    deadline = time.monotonic() + LONG
    while [depth.ready for depth in other.depths()] != [1]:
        assert time.monotonic() < deadline, "it stays with the worker"
        worker.maintain()


def test_queues_rest_for_a_worker_that_starts_later(connect):
    terminal = connect()
    publish(terminal, message("a"))
    terminal.pause(["q"])
    terminal.close()

    worker = connect()
    assert receive(worker) == []
    worker.resume(["q"])

    assert ids(receive(worker)) == ["a"]


def test_copies_reach_the_subscribers_of_every_process(connect):
    sender, one, two = connect(), connect(), connect()
    queues = [Subscription("news", f"news>{name}") for name in ("one", "two")]
    for broker, subscription in zip((one, two), queues, strict=True):
        assert broker.subscribe([subscription], seconds=60) == [False]

    publish(sender, Outgoing("news", "a", b"hello", fanout=True))

    for broker, (_, queue) in zip((one, two), queues, strict=True):
        (copy,) = broker.receive([queue, "q"], limit=9, lease=30, timeout=LONG)
        assert (copy.queue, copy.frame) == (queue, b"hello")


def test_a_subscribers_queue_is_not_taken_from_the_server(connect, rabbitmq, prefix):
    """Whoever makes one there by hand feeds nobody."""
    worker = connect()
    worker.subscribe([Subscription("news", "news>one")], seconds=60)
    publish(connect(), Outgoing("news>one", "a", b"by hand"), message("b"))

    assert ids(receive(worker, "news>one", "q")) == ["b"]
