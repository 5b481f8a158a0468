"""Bodies: what is encoded comes back, and nothing that arrives does harm."""

from __future__ import annotations

import bz2
import dataclasses
import datetime as dt
import decimal
import enum
import json
import lzma
import tracemalloc
import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.contents import MSGPACK, PICKLE, YAML, all_codecs
from cardoon.exceptions import EncodeError, Refusal, RefusedError
from cardoon.message.serializers import CODECS, JSON, JSON_ZLIB, decode_body, encode_body

ENOUGH = 1 << 20
ALL = sorted(all_codecs([JSON, MSGPACK, YAML]))
"""Every codec but pickle, compressed in every way."""
WRITTEN = (JSON, MSGPACK, YAML)
TYPE = "__type__"

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text().filter(lambda key: key != TYPE), inner, max_size=4)
    ),
    max_leaves=12,
)
offsets = st.none() | st.integers(-86_399, 86_399).map(
    lambda seconds: dt.timezone(dt.timedelta(seconds=seconds))
)
rich = (
    st.datetimes(timezones=offsets).map(lambda moment: moment.replace(fold=0))
    | st.dates()
    | st.times().map(lambda moment: moment.replace(fold=0))
    | st.timedeltas(-dt.timedelta(days=10**8), dt.timedelta(days=10**8))
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary(max_size=100)
    | st.sets(st.text() | st.dates(), max_size=3)
    | st.frozensets(st.integers(-9, 9) | st.frozensets(st.booleans()), max_size=3)
)


def round_trip(value, codec=JSON):
    return decode_body(codec, encode_body(value, codec), max_bytes=ENOUGH)


def refusal_of(body, codec=JSON, max_bytes=ENOUGH):
    with pytest.raises(RefusedError) as refused:
        decode_body(codec, body, max_bytes=max_bytes)
    return refused.value.reason


@given(plain, st.sampled_from(ALL))
def test_plain_values_come_back(value, codec):
    assert round_trip(value, codec) == value


@given(
    st.recursive(plain | rich, lambda inner: st.lists(inner, max_size=3), max_leaves=8),
    st.sampled_from(WRITTEN),
)
def test_rich_values_come_back_as_what_they_were(value, codec):
    found = round_trip(value, codec)

    assert found == value
    assert shape_of(found) == shape_of(value)


def shape_of(value):
    """A value as text that tells 1 from True and from 1.0; of sets, whose order is any, the types."""
    if isinstance(value, list):
        return [shape_of(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(type(one).__name__ for one in value)
    return repr(value)


@given(
    st.dictionaries(st.text().filter(lambda key: key != TYPE), rich, max_size=4),
    st.sampled_from(WRITTEN),
)
def test_rich_values_come_back_within_objects(value, codec):
    assert round_trip(value, codec) == value


def test_an_aware_datetime_keeps_its_offset():
    moment = dt.datetime(2026, 10, 21, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))

    back = round_trip(moment)

    assert (back, back.utcoffset()) == (moment, dt.timedelta(hours=2))


def test_json_is_compact_and_in_utf8():
    assert encode_body([1, {"ä": None}], JSON) == '[1,{"ä":null}]'.encode()


def test_tuples_come_back_as_lists():
    assert round_trip((1, (2,))) == [1, [2]]


@pytest.mark.parametrize(("key", "text"), [(1, "1"), (1.5, "1.5"), (None, "null"), (True, "true")])
def test_keys_become_text_as_in_celery(key, text):
    assert round_trip({key: 0}) == {text: 0}


def test_two_keys_that_become_the_same_text_are_refused_by_the_receiver():
    assert refusal_of(encode_body({1: "a", "1": "b"}, JSON)) is Refusal.UNDECODABLE


class Colour(enum.IntEnum):
    RED = 1


class Moment(dt.datetime):
    """As several libraries have it, with a way of its own to write it."""

    def isoformat(self, *_):
        return "soon"


def test_subclasses_come_back_as_what_they_are_based_on():
    assert round_trip([Colour.RED, Moment(2026, 1, 1)]) == [
        1,
        dt.datetime(2026, 1, 1),  # noqa: DTZ001 - as naive as the other
    ]


def test_a_bytearray_comes_back_as_bytes():
    assert round_trip(bytearray(b"abc")) == b"abc"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({(1, 2)}, "tuples within a set"),
        (object(), "builtins.object; pass plain values.*an id for an object"),
        (json.JSONDecoder, "builtins.type"),
        (Exception("secret"), "builtins.Exception"),
        (dt.time(tzinfo=dt.timezone(dt.timedelta(microseconds=1))), "whole seconds"),
        (float("nan"), "cannot carry this value"),
        (float("-inf"), "cannot carry this value"),
        ("\ud800", "cannot carry this value"),
        ({(1, 2): 0}, "cannot carry this value"),
        pytest.param(10**5000, "cannot carry this value", id="5001 digits"),
    ],
)
def test_what_json_cannot_carry_is_said_to_the_sender(value, what):
    with pytest.raises(EncodeError, match=what):
        encode_body([value], JSON)


def test_a_value_within_itself_is_said_to_the_sender():
    value = []
    value.append(value)

    with pytest.raises(EncodeError, match="cannot carry"):
        encode_body(value, JSON)


def test_a_value_that_is_too_deep_is_said_to_the_sender():
    value = []
    for _ in range(100_000):
        value = [value]

    with pytest.raises(EncodeError, match="cannot carry"):
        encode_body(value, JSON)


@pytest.mark.parametrize(
    "value",
    [
        {TYPE: "datetime"},
        {"a": 1, TYPE: 2},
        [{"a": {TYPE: None}}],
        {TYPE: "datetime", "__value__": "2026-01-01T00:00:00"},
        {"mine": {TYPE: 1}, "ours": dt.date(2026, 1, 1)},
    ],
)
def test_the_reserved_key_is_refused_in_what_users_send(value):
    with pytest.raises(EncodeError, match="'__type__' is reserved"):
        encode_body(value, JSON)


@pytest.mark.parametrize(
    "value",
    [
        TYPE,
        '{"__type__":1}',
        {'"__type__': 1, "x": '"__type__":'},
        {'{"__type__': 1, ',"__type__': 2},
        [dt.date(2026, 1, 1), '{"__type__":"date"}', {"\\": TYPE}],
        {"__value__": 1},
    ],
)
def test_text_that_looks_like_the_reserved_key_is_not(value):
    assert round_trip(value) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[1",
        b"[1]]",
        b"[1] 2",
        b"'a'",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[-1e999]",
        b'{"a":1,"a":2}',
        b'[{"b":{"a":1,"a":1}}]',
        b"\xff",
        b"\xef\xbb\xbf[]",
        '["a"]'.encode("utf-16"),
        '["a"]'.encode("utf-32"),
        b'["\xed\xa0\x80"]',
        rb'["\ud800"]',
        rb'["\uD83D\u0020"]',
        rb'["\\\udc00"]',
        rb'["\ude00\ud83d"]',
        b'["\x01"]',
        b"[" + b"9" * 5000 + b"]",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_no_garbage_is_decoded(body):
    assert refusal_of(body) is Refusal.UNDECODABLE


@pytest.mark.parametrize(
    ("escaped", "text"),
    [(rb'["\ud83d\ude00"]', "\U0001f600"), (rb'["\\ud800"]', r"\ud800"), (rb'["\u00e4"]', "ä")],
)
def test_escapes_that_spell_characters_are_read(escaped, text):
    assert decode_body(JSON, escaped, max_bytes=ENOUGH) == [text]


@pytest.mark.parametrize(
    "tagged",
    [
        {TYPE: "datetime"},
        {TYPE: "datetime", "value": "2026-01-01"},
        {TYPE: "datetime", "__value__": "2026-01-01T00:00:00", "more": 1},
        {TYPE: "datetime", "__value__": "2026-01-01"},
        {TYPE: "datetime", "__value__": "2026-13-01T00:00:00"},
        {TYPE: "datetime", "__value__": 5},
        {TYPE: "datetime", "__value__": None},
        {TYPE: "date", "__value__": "20260101"},
        {TYPE: "time", "__value__": "25:00:00"},
        {TYPE: "timedelta", "__value__": "1"},
        {TYPE: "timedelta", "__value__": 10**40},
        {TYPE: "timedelta", "__value__": 1.5},
        {TYPE: "decimal", "__value__": "one"},
        {TYPE: "decimal", "__value__": 1},
        {TYPE: "decimal", "__value__": "1E+99999999999999999999"},
        {TYPE: "decimal", "__value__": [0, [1], 2]},
        {TYPE: "uuid", "__value__": "x"},
        {TYPE: "uuid", "__value__": 5},
        {TYPE: "uuid", "__value__": "{00000000-0000-4000-8000-000000000000}"},
        {TYPE: "bytes", "__value__": "!"},
        {TYPE: "bytes", "__value__": "YQ"},
        {TYPE: "bytes", "__value__": "ä"},
        {TYPE: "bytes", "__value__": 1},
        {TYPE: "os.system", "__value__": "id"},
        {TYPE: ["datetime"], "__value__": "x"},
        {TYPE: {TYPE: "date", "__value__": "2026-01-01"}, "__value__": "x"},
        {TYPE: None, "__value__": None},
    ],
)
def test_no_other_tag_becomes_an_object(tagged):
    assert refusal_of(json.dumps([tagged]).encode()) is Refusal.UNDECODABLE


def test_a_refusal_does_not_quote_the_body():
    with pytest.raises(RefusedError) as refused:
        decode_body(JSON, b'{"__type__":"uuid","__value__":"password"}', max_bytes=ENOUGH)

    assert "password" not in str(refused.value)


@given(st.binary(max_size=100), st.sampled_from(ALL))
def test_no_bytes_raise_anything_but_a_refusal(body, codec):
    reason = Refusal.UNDECODABLE

    try:
        decode_body(codec, body, max_bytes=ENOUGH)
    except RefusedError as error:
        reason = error.reason

    assert reason is Refusal.UNDECODABLE


@given(plain | rich, st.sampled_from(ALL), st.data())
def test_no_truncated_body_raises_anything_but_a_refusal(value, codec, data):
    body = encode_body([value], codec)
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    reason = None

    try:
        decode_body(codec, cut, max_bytes=ENOUGH)
    except RefusedError as error:
        reason = error.reason

    assert reason in (None, Refusal.UNDECODABLE)


@pytest.mark.parametrize(
    "codec", ["", "json", "yaml", f"{JSON}+zstd", f"{JSON}+", f"{JSON}+zlib+zlib", "+zlib"]
)
def test_other_codecs_are_refused(codec):
    assert refusal_of(b"[]", codec) is Refusal.CODEC_NOT_ACCEPTED
    with pytest.raises(EncodeError, match="unknown"):
        encode_body([], codec)


@pytest.mark.parametrize("codec", sorted(all_codecs([PICKLE])))
def test_a_pickle_is_read_by_nobody_who_does_not_ask_for_it(codec):
    body = encode_body([1], codec)

    assert refusal_of(body, codec) is Refusal.CODEC_NOT_ACCEPTED
    assert decode_body(codec, body, max_bytes=ENOUGH, unpickle=True) == [1]


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_body_may_be_as_large_as_agreed_and_no_larger(codec):
    body = encode_body("x" * 998, codec)

    assert decode_body(codec, body, max_bytes=1000) == "x" * 998
    assert refusal_of(body, codec, max_bytes=999) is Refusal.BOMB


def test_a_bomb_is_stopped_before_it_takes_memory():
    bomb = zlib.compress(bytes(200 << 20))
    tracemalloc.start()

    try:
        reason = refusal_of(bomb, JSON_ZLIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert reason is Refusal.BOMB
    assert peak < 3 * ENOUGH


PACKERS = {"zlib": zlib.compress, "bzip2": bz2.compress, "lzma": lzma.compress}


DICTIONARIES = {"lzma": 16}
"""MiB that unpacking may take besides, whatever the bound."""


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("kind", WRITTEN)
def test_no_bomb_takes_more_memory_than_agreed(name, kind):
    bomb = PACKERS[name](bytes(16 << 20))
    tracemalloc.start()

    try:
        reason = refusal_of(bomb, f"{kind}+{name}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert reason is Refusal.BOMB
    assert peak < (3 + DICTIONARIES.get(name, 0)) * ENOUGH


def test_a_dictionary_larger_than_agreed_is_refused():
    huge = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    asks_for_half_a_gigabyte = lzma.LZMACompressor(filters=huge[:1], format=lzma.FORMAT_XZ)
    body = asks_for_half_a_gigabyte.compress(b"[]") + asks_for_half_a_gigabyte.flush()

    assert refusal_of(body, f"{JSON}+lzma") is Refusal.UNDECODABLE


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("other", PACKERS)
def test_only_exactly_one_stream_of_the_named_kind_is_read(name, other):
    packed = PACKERS[other](b"[]")
    wrong = [packed[:-1], packed + b"\x00", packed * 2, PACKERS[name](packed)]

    if name == other:
        assert decode_body(f"{JSON}+{name}", packed, max_bytes=ENOUGH) == []
    else:
        wrong.append(packed)
    for body in wrong:
        assert refusal_of(body, f"{JSON}+{name}") is Refusal.UNDECODABLE


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        zlib.compress(b"[]")[:-1],
        zlib.compress(b"[]") + b"\x00",
        zlib.compress(b"[]") * 2,
        zlib.compress(zlib.compress(b"[]")),
    ],
)
def test_only_exactly_one_zlib_stream_is_read(body):
    assert refusal_of(body, JSON_ZLIB) is Refusal.UNDECODABLE


def test_uuids_and_decimals_come_back():
    value = {"id": uuid.UUID(int=7), "price": decimal.Decimal("19.90")}

    assert round_trip(value) == value
    assert str(round_trip(value)["price"]) == "19.90"


class Suit(enum.Enum):
    HEARTS = "h"


@dataclasses.dataclass
class Card:
    suit: Suit
    since: dt.date
    rank: int = 1
    label: str = dataclasses.field(default="", init=False)


@pytest.mark.parametrize("codec", WRITTEN)
def test_enums_and_dataclasses_are_written_as_plain_values(codec):
    card = Card(Suit.HEARTS, dt.date(2026, 1, 1))

    assert round_trip([card, Suit.HEARTS], codec) == [
        {"suit": "h", "since": dt.date(2026, 1, 1), "rank": 1},
        "h",
    ]


@pytest.mark.parametrize(
    "tagged",
    [
        {TYPE: "set", "__value__": "ab"},
        {TYPE: "set", "__value__": [1, 1]},
        {TYPE: "set", "__value__": [[1]]},
        {TYPE: "set", "__value__": None},
        {TYPE: "frozenset", "__value__": [{}]},
        {TYPE: "frozenset", "__value__": [0, False]},
    ],
)
def test_no_other_set_is_read(tagged):
    assert refusal_of(json.dumps([tagged]).encode()) is Refusal.UNDECODABLE
