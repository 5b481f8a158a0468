"""MessagePack: what only it carries, and that no length or depth in it is believed."""

from __future__ import annotations

import datetime as dt
import enum
import math
import sys
import time
import tracemalloc

import msgpack
import pytest

from cardoon.contents import MSGPACK
from cardoon.exceptions import EncodeError, ImproperlyConfigured, Refusal, RefusedError
from cardoon.message import serializers
from cardoon.message.serializers import decode_body, encode_body

MIB = 1 << 20
TYPE = "__type__"


def round_trip(value):
    return decode_body(MSGPACK, encode_body(value, MSGPACK), max_bytes=MIB)


def refusal_of(body):
    with pytest.raises(RefusedError) as refused:
        decode_body(MSGPACK, body, max_bytes=MIB)
    return refused.value.reason


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [b"\xff\x00", {1: "a", -5: 2, None: 3, b"k": 4, 1.5: 5}, math.inf, [Colour.RED], (1 << 64) - 1],
)
def test_what_json_cannot_say_comes_back(value):
    assert round_trip(value) == value


def test_it_is_what_any_reader_of_msgpack_reads():
    assert msgpack.unpackb(encode_body([[1, "ä"], {"x": b"y"}], MSGPACK)) == [[1, "ä"], {"x": b"y"}]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1 << 64, "at most 64 bits"),
        (dt.timedelta.max, "of 290,000 years"),
        ({(1, 2): 0}, "unhashable"),
        (object(), "builtins.object"),
        ("\ud800", "surrogates"),
        ({TYPE: "date"}, "'__type__' is reserved"),
        ({"mine": {TYPE: 1}, "ours": dt.date(2026, 1, 1)}, "'__type__' is reserved"),
    ],
)
def test_what_it_cannot_carry_is_said_to_the_sender(value, words):
    with pytest.raises(EncodeError, match=words):
        encode_body([value], MSGPACK)


def test_a_value_within_itself_is_said_to_the_sender():
    value = []
    value.append(value)

    with pytest.raises(EncodeError, match="cannot carry"):
        encode_body(value, MSGPACK)


@pytest.mark.parametrize(
    "value",
    [TYPE, [TYPE, dt.date(2026, 1, 1)], {"x": b"\xa8__type__"}, {"a\ua8a8\xa8__type__": 1}],
)
def test_bytes_that_look_like_the_reserved_key_are_not(value):
    assert round_trip(value) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x91",
        b"\x90\x90",
        b"\xc1",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\x82\x01\x02\x01\x03",
        b"\x81\x90\x90",
        b"\xc7\x01\x05a",
        b"\xd4\x01a",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7,
        *(head + b"\xff" * 4 for head in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf")),
        msgpack.packb({TYPE: "os.system", "__value__": "id"}),
        msgpack.packb({TYPE: "uuid", "__value__": 5}),
        msgpack.packb({TYPE: [1], "__value__": 5}),
    ],
)
def test_no_garbage_is_decoded(body):
    assert refusal_of(body) is Refusal.UNDECODABLE


def test_a_time_stamp_of_another_writer_is_a_datetime():
    moment = dt.datetime(2026, 10, 21, tzinfo=dt.UTC)

    assert decode_body(MSGPACK, msgpack.packb(moment, datetime=True), max_bytes=MIB) == moment


@pytest.mark.parametrize(
    "body",
    [
        (b"\xdd" + (MIB - 10).to_bytes(4, "big")) * 100 + bytes(MIB - 600),
        (b"\xdd\x00\x0f\xff\xff" * 200_000),
        (b"\xdf" + (MIB // 2 - 10).to_bytes(4, "big")) * 100,
        (b"\x81\x01" * (MIB // 2)),
        b"\x91" * MIB,
        b"\xdd\xff\xff\xff\xff" + b"\x90" * (MIB - 5),
        b"\xc6" + (MIB - 5).to_bytes(4, "big"),
    ],
    ids=["lists", "lists in lists", "maps", "deep maps", "deep", "too many", "too long"],
)
def test_a_length_that_is_claimed_takes_no_memory(body):
    tracemalloc.start()
    started = time.perf_counter()

    try:
        assert refusal_of(body) is Refusal.UNDECODABLE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * MIB
    assert time.perf_counter() - started < 5


def test_many_small_values_take_a_bounded_multiple():
    body = b"\xdd" + (MIB - 5).to_bytes(4, "big") + b"\x90" * (MIB - 5)
    tracemalloc.start()

    try:
        assert len(decode_body(MSGPACK, body, max_bytes=MIB)) == MIB - 5
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 80 * MIB


def test_where_the_package_is_missing_the_error_says_what_to_install(monkeypatch):
    serializers._load.cache_clear()
    monkeypatch.delitem(sys.modules, "cardoon.message.msgpacked", raising=False)
    monkeypatch.delattr("cardoon.message.msgpacked", raising=False)
    monkeypatch.setitem(sys.modules, "msgpack", None)

    with pytest.raises(ImproperlyConfigured, match=r"pip install 'cardoon\[msgpack\]'"):
        encode_body([1], MSGPACK)
    assert refusal_of(b"\x90") is Refusal.CODEC_NOT_ACCEPTED
