"""The codec: what it writes, and how little else it reads."""

from __future__ import annotations

import string

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cardoon.exceptions import EncodeError, MessageError
from cardoon.message import cbor

keys = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40)
values = st.recursive(
    st.none() | st.booleans() | keys,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
).filter(lambda value: depth_of(value) <= cbor.MAX_DEPTH)


def depth_of(value):
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def nested(depth):
    return b"\x81" * depth + b"\x00"


@given(values)
def test_what_is_written_is_read_back(value):
    assert cbor.decode(cbor.encode(value)) == value


@given(values)
def test_it_writes_what_an_independent_canonical_encoder_writes(value):
    # cbor2 sorts keys by length first (RFC 7049), which differs from RFC 8949 for mixed types.
    if depth_of(value) == 0 or not _has_mixed_keys(value):
        assert cbor.encode(value) == cbor2.dumps(value, canonical=True)


def _has_mixed_keys(value):
    if isinstance(value, list):
        return any(map(_has_mixed_keys, value))
    if isinstance(value, dict):
        encoded = [cbor.encode(key) for key in value]
        by_length = sorted(encoded, key=lambda each: (len(each), each))
        return sorted(encoded) != by_length or any(map(_has_mixed_keys, value.values()))
    return False


@given(st.binary(max_size=40))
@example(b"\x18\x17")
@example(b"\xa2\x01\x00\x01\x00")
@example(b"\xa2\x02\x00\x01\x00")
@example(b"\xa2\xf5\x00\xf6\x00")
def test_whatever_is_read_is_written_the_same(data):
    try:
        value = cbor.decode(data)
    except MessageError:
        return

    assert cbor.encode(value) == data


@given(values, st.data())
def test_bytes_cut_short_are_refused(value, data):
    encoded = cbor.encode(value)
    kept = data.draw(st.integers(0, len(encoded) - 1))

    with pytest.raises(MessageError):
        cbor.decode(encoded[:kept])


@given(values, st.binary(min_size=1, max_size=3))
def test_bytes_behind_the_end_are_refused(value, more):
    with pytest.raises(MessageError, match="behind the end"):
        cbor.decode(cbor.encode(value) + more)


@pytest.mark.parametrize(
    ("encoded", "what"),
    [
        (b"", "where an item should start"),
        (b"\x18\x17", "not the shortest"),
        (b"\x19\x00\xff", "not the shortest"),
        (b"\x1a\x00\x00\xff\xff", "not the shortest"),
        (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", "not the shortest"),
        (b"\x38\x17", "not the shortest"),
        (b"\x58\x01\x00", "not the shortest"),
        (b"\x19\x01", "within the head"),
        (b"\x1c", "definite length"),
        (b"\x1f", "definite length"),
        (b"\x5f\x41\x00\xff", "definite length"),
        (b"\x7f\x61a\xff", "definite length"),
        (b"\x9f\x00\xff", "definite length"),
        (b"\xbf\x00\x00\xff", "definite length"),
        (b"\x42\x00", "over the end"),
        (b"\x62a", "over the end"),
        (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "over the end"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "should start"),
        (b"\x61\xff", "not UTF-8"),
        (b"\x63\xed\xa0\x80", "not UTF-8"),
        (b"\xa1\x80\x00", "nested"),
        (b"\xa1\xf5\x00", "no integer, bytes or text"),
        (b"\xa1\xf6\x00", "no integer, bytes or text"),
        (b"\xa2\x01\x00\x01\x00", "ascending"),
        (b"\xa2\x02\x00\x01\x00", "ascending"),
        (b"\xc2\x41\x01", "tag, float or unknown"),
        (b"\xd8\x20\x00", "tag, float or unknown"),
        (b"\xf9\x00\x00", "tag, float or unknown"),
        (b"\xfb" + bytes(8), "tag, float or unknown"),
        (b"\xf7", "tag, float or unknown"),
        (b"\xf8\xff", "tag, float or unknown"),
        (b"\xff", "tag, float or unknown"),
    ],
)
def test_every_other_spelling_is_refused(encoded, what):
    with pytest.raises(MessageError, match=what):
        cbor.decode(encoded)


def test_eight_levels_are_read_and_nine_are_not():
    assert cbor.decode(nested(8)) == [[[[[[[[0]]]]]]]]

    with pytest.raises(MessageError, match="nested more than 8 deep"):
        cbor.decode(nested(9))


def test_a_hundred_thousand_levels_are_refused_like_nine():
    with pytest.raises(MessageError, match="nested"):
        cbor.decode(nested(100_000))


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (1.5, "no encoding for float"),
        (object(), "no encoding for object"),
        ("\ud800", "not Unicode"),
        (2**64, "64 bits"),
        (-(2**64) - 1, "64 bits"),
        ({True: 0}, "bool is no key"),
        ({None: 0}, "NoneType is no key"),
        ([[[[[[[[[]]]]]]]]], "nested more than 8 deep"),
    ],
)
def test_what_the_profile_lacks_is_not_written(value, what):
    with pytest.raises(EncodeError, match=what):
        cbor.encode(value)


def test_a_value_is_read_from_the_middle():
    value, end = cbor.decode_prefix(b"\x00\x82\x01\x02\x03", 1)

    assert (value, end) == ([1, 2], 4)


@pytest.mark.parametrize(
    ("read", "encoded"),
    [(cbor.read_uint, b"\x18\x64"), (cbor.read_bytes, b"\x43abc"), (cbor.read_text, b"\x63abc")],
)
def test_a_bound_is_kept(read, encoded):
    limit = 100 if read is cbor.read_uint else 3
    read(encoded, 0, limit)

    with pytest.raises(MessageError, match=f"over {limit - 1}"):
        read(encoded, 0, limit - 1)


@given(st.text(alphabet=string.printable, max_size=300), st.binary(max_size=300))
def test_strings_are_read_with_their_end(text, content):
    encoded = cbor.text_string(text) + cbor.byte_string(content)

    first, at = cbor.read_text(encoded, 0, 300)
    second, end = cbor.read_bytes(encoded, at, 300)

    assert (first, second, end) == (text, content, len(encoded))
