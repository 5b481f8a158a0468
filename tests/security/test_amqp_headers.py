"""A message's AMQP headers can break the library that reads them; they must not break who takes messages."""

from __future__ import annotations

import calendar
import struct
import uuid
from datetime import UTC, datetime

import pika
import pytest
from pika import frame, spec

from cardoon import backends, brokers
from cardoon.clock import SystemClock
from cardoon.rabbitmq.frames import Reader
from cardoon.rabbitmq.stream import Link
from cardoon.testing.backends import LONG, result
from cardoon.testing.setting import ids, message, publish

BEHIND_ALL_DATES = 2**63
"""Seconds since the epoch: a timestamp that AMQP can say, and Python cannot."""


@pytest.fixture
def place(rabbitmq, tmp_path):
    """A broker with a result backend beside it, on a prefix of its own."""
    clock = SystemClock()
    prefix = f"h{uuid.uuid4().hex}"
    broker = brokers.connect(
        rabbitmq.url,
        clock=clock,
        transport={"global_keyprefix": prefix},
        companion=brokers.connect(f"sqlite:///{tmp_path}/store.db", clock=clock),
    )
    backend = backends.connect("rpc://", clock=clock, beside=broker)
    yield prefix, broker, backend
    backend.close()
    broker.close()


@pytest.fixture
def attack(rabbitmq, monkeypatch):
    """Sends what no date can be made of in a header, as a client of another make may."""

    def send(queue):
        connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
        channel = connection.channel()
        channel.confirm_delivery()
        with monkeypatch.context() as patch:
            patch.setattr(calendar, "timegm", lambda _: BEHIND_ALL_DATES)
            properties = pika.BasicProperties(headers={"id": "odd", "x": datetime.now(UTC)})
            assert struct.pack(">Q", BEHIND_ALL_DATES) in b"".join(properties.encode())
            channel.basic_publish("", queue, b"not signed", properties)
        connection.close()

    return send


def test_a_worker_goes_on_taking_tasks(place, attack):
    prefix, broker, _ = place
    broker.declare(["q"])
    attack(f"{prefix}.0.q")
    publish(broker, message("good"))

    found = []
    while len(found) < 2:
        taken = broker.receive(["q"], limit=2, lease=30, timeout=LONG)
        assert taken, f"only {ids(found)} came"
        found += taken

    assert {each.frame for each in found} == {b"not signed", message("good").frame}


def test_a_client_goes_on_taking_results(place, attack):
    prefix, _, backend = place
    address = backend.listen(timeout=LONG)
    attack(f"{prefix}.reply.{address}")

    backend.store([result("a")._replace(reply=address)])

    assert [each.task_id for each in backend.wait(["a"], timeout=LONG)] == ["a"]
    assert backend.load(["odd"]) == {}


ODD_FIELDS = [
    b"T" + b"\xff" * 8,
    b"d" + struct.pack(">d", float("nan")),
    b"d" + struct.pack(">d", float("inf")),
    b"f" + struct.pack(">f", float("nan")),
    b"?",
    b"S" + b"\xff" * 4,
    b"l\x00",
    b"F\x00\x00\x00\x01",
    b"A" + b"\xff" * 4,
    (b"A\x00\x00\xff\x00" * 5000),
]
"""Of those that a server would not let through, too: it may be another one, or nobody's."""


@pytest.fixture(params=ODD_FIELDS)
def header(request):
    """A header frame with an odd field, of a message of three bytes."""
    table = b"\x01x" + request.param
    payload = struct.pack(">HHQH", 60, 0, 3, 0x2000) + struct.pack(">I", len(table)) + table
    return struct.pack(">BHL", 2, 1, len(payload)) + payload + b"\xce"


def test_no_header_of_a_result_raises_anything(header):
    connection = Link.__new__(Link)
    connection._frame_buffer = header + b"\x03"

    consumed, read = connection._read_frame()

    assert consumed == len(header)
    assert (read.channel_number, read.body_size) == (1, 3)


def test_no_header_of_a_task_raises_anything(header):
    arrived = []
    reader = Reader(1, on_message=arrived.append)
    reader.take(frame.Method(1, spec.Basic.Deliver("c", 7, False, "", "q")).marshal())

    assert reader.take(header)
    assert reader.take(frame.Body(1, b"abc").marshal())

    assert [(each.tag, each.id, each.body) for each in arrived] == [(7, None, b"abc")]
