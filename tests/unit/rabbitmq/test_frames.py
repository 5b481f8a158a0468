"""What is written by hand pika reads, and what pika writes is read by hand."""

from __future__ import annotations

import struct
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pika import BasicProperties, frame, spec

from cardoon.rabbitmq.frames import (
    CONTENT_TYPE,
    HEAD,
    MAX_BODY_BYTES,
    Arrival,
    Reader,
    write_message,
)

CHANNEL = 1
SHORT = st.text(max_size=60)
MOMENTS = st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | MOMENTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=6,
)


class Heard:
    """A reader, and what it has told."""

    def __init__(self) -> None:
        self.messages = []
        self.confirms = []
        self.reader = Reader(
            CHANNEL,
            on_message=self.messages.append,
            on_confirm=lambda tag, several: self.confirms.append((tag, several)),
        )

    def take(self, *frames):
        """Hand it frames; whether it took each."""
        return [self.reader.take(each) for each in frames]


def method(value, channel=CHANNEL):
    return frame.Method(channel, value).marshal()


def delivery(body, properties=None, *, tag=7, is_copy=False, piece=100):
    """A message as pika's own server would send it."""
    return [
        method(spec.Basic.Deliver("consumer", tag, is_copy, "x", "some.queue")),
        frame.Header(CHANNEL, len(body), properties or BasicProperties()).marshal(),
        *(
            frame.Body(CHANNEL, body[start : start + piece]).marshal()
            for start in range(0, len(body), piece)
        ),
    ]


def split(written):
    """Frames of what was written together."""
    frames = []
    while written:
        size = HEAD.size + HEAD.unpack_from(written)[2] + 1
        frames.append(written[:size])
        written = written[size:]
    return frames


@given(SHORT, st.text(max_size=300), st.binary(max_size=700))
@example("q", "id", b"")
def test_pika_reads_what_is_written(queue, name, body):
    frames = split(write_message(CHANNEL, queue, name, body, most=100))

    sent, header, *pieces = [frame.decode_frame(each)[1] for each in frames]

    assert all(len(each) <= 100 for each in frames[2:])
    assert (sent.method.exchange, sent.method.routing_key) == ("", queue)
    assert sent.method.mandatory
    assert not sent.method.immediate
    assert header.body_size == len(body)
    assert header.properties == BasicProperties(
        content_type=CONTENT_TYPE.decode(), headers={"id": name}, delivery_mode=2
    )
    assert b"".join(each.fragment for each in pieces) == body


@given(st.dictionaries(SHORT, VALUES, max_size=4), SHORT, st.binary(max_size=300), st.booleans())
def test_what_pika_writes_is_read(others, name, body, is_copy):
    heard = Heard()
    properties = BasicProperties(
        content_type="a", content_encoding="b", headers={**others, "id": name}, priority=3
    )

    taken = heard.take(*delivery(body, properties, is_copy=is_copy))

    assert all(taken)
    assert heard.messages == [Arrival("consumer", 7, is_copy, name, body)]


@pytest.mark.parametrize(
    "headers", [None, {}, {"id": 4}, {"id": b"\xff"}, {"id": None}, {"other": "x"}]
)
def test_who_names_no_id_has_none(headers):
    heard = Heard()

    heard.take(*delivery(b"x", BasicProperties(headers=headers)))

    assert [each.id for each in heard.messages] == [None]


@given(st.integers(0, 2**16 - 1), st.binary(max_size=80))
@example(1 << 13, b"\x00\x00\x00\x09\x02idS\xff\xff\xff\xff")
@example(1 << 13, b"\xff\xff\xff\xff\x02idS\x00\x00\x00\x01x")
@example(1 << 13, b"\x00\x00\x00\x07\x02id\x00\x00\x00\x00")
def test_properties_without_sense_are_passed_over(flags, noise):
    heard = Heard()
    content = struct.pack(">HHQH", 60, 0, 1, flags) + noise
    header = HEAD.pack(2, CHANNEL, len(content)) + content + b"\xce"
    first, _, last = delivery(b"x")

    assert all(heard.take(first, header, last))

    assert [each.body for each in heard.messages] == [b"x"]


@given(st.integers(0, 2**63 - 1), st.booleans())
def test_confirms_are_read(tag, several):
    heard = Heard()

    assert heard.take(method(spec.Basic.Ack(tag, several))) == [True]

    assert heard.confirms == [(tag, several)]


def test_all_else_is_left_to_pika():
    heard = Heard()
    returned = [
        method(spec.Basic.Return(312, "NO_ROUTE", "", "q")),
        *delivery(b"x", BasicProperties(headers={"id": "a"}))[1:],
    ]
    elsewhere = [method(spec.Basic.Ack(1), channel=2), frame.Heartbeat().marshal()]

    taken = heard.take(*returned, method(spec.Basic.Nack(1)), *elsewhere)

    assert not any(taken)
    assert heard.messages == heard.confirms == []


@pytest.mark.parametrize(
    "frames",
    [
        [delivery(b"x")[0], delivery(b"x")[2]],
        [*delivery(b"x"), *delivery(b"xy")[:2], frame.Body(CHANNEL, b"xyz").marshal()],
        [delivery(b"x")[0], frame.Header(CHANNEL, MAX_BODY_BYTES + 1, BasicProperties()).marshal()],
        [method(spec.Basic.Ack(1))[:-1] + b"x"],
        [HEAD.pack(1, CHANNEL, 1) + b"x\xce"],
    ],
    ids=["no header", "too long", "too much", "no end", "too short"],
)
def test_a_server_that_makes_no_sense_is_not_believed(frames):
    with pytest.raises((ValueError, struct.error)):
        Heard().take(*frames)
