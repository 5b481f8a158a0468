"""YAML: a subset in which nothing is constructed, repeated or guessed."""

from __future__ import annotations

import datetime as dt
import enum
import math
import sys
import time
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cardoon.contents import YAML
from cardoon.exceptions import EncodeError, ImproperlyConfigured, Refusal, RefusedError
from cardoon.message import serializers, yamled
from cardoon.message.serializers import decode_body, encode_body

MIB = 1 << 20


def round_trip(value):
    return decode_body(YAML, encode_body(value, YAML), max_bytes=MIB)


def decode(text):
    return decode_body(YAML, text.encode(), max_bytes=MIB)


def refusal_of(body):
    with pytest.raises(RefusedError) as refused:
        decode_body(YAML, body, max_bytes=MIB)
    return refused.value.reason


class Colour(enum.StrEnum):
    RED = "red"


@given(st.text() | st.from_regex(r"[-+]?[0-9_.:eExo]{1,8}") | st.sampled_from(["yes", "~", "<<"]))
def test_text_stays_text_whatever_it_looks_like(text):
    assert round_trip([text, {text: text}]) == [text, {text: text}]


@given(st.floats(allow_nan=False))
def test_numbers_stay_numbers(number):
    assert repr(round_trip(number)) == repr(number)


def test_what_json_cannot_say_comes_back():
    value = {1: "a", None: [math.inf, Colour.RED], "big": 10**300, True: ()}  # noqa: F601 - True is the key 1

    assert round_trip(value) == {1: [], None: [math.inf, "red"], "big": 10**300}
    assert math.isnan(round_trip(math.nan))


def test_rich_values_have_tags_of_our_own():
    assert encode_body([dt.date(2026, 1, 1), {5}], YAML).decode() == (
        '- !date "2026-01-01"\n- !set\n  - 5\n'
    )


def test_what_stands_in_two_places_is_written_twice():
    shared = [1]

    assert round_trip([shared, shared]) == [[1], [1]]
    assert b"&" not in encode_body([shared, shared], YAML)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({(1, 2): 0}, "a key of type tuple"),
        ({dt.date(2026, 1, 1): 0}, "a key of type date"),
        (object(), "builtins.object"),
        ("\ud800", "cannot carry"),
        ({(1,)}, "tuples within a set"),
    ],
)
def test_what_it_cannot_carry_is_said_to_the_sender(value, words):
    with pytest.raises(EncodeError, match=words):
        encode_body([value], YAML)


def test_a_value_within_itself_is_said_to_the_sender():
    value = []
    value.append(value)

    with pytest.raises(EncodeError, match="cannot carry"):
        encode_body(value, YAML)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: [1, 'x', null]\nb: {c: true}", {"a": [1, "x", None], "b": {"c": True}}),
        ("[yes, 1:30, 1_000, 0x10, 2026-01-01, <<, =]", None),
        ("[012, -5, +7, 1.5, 1e3, -.inf]", [12, -5, 7, 1.5, 1000.0, -math.inf]),
        ("!uuid 00000000-0000-4000-8000-000000000000", None),
        ("--- 5\n...\n", 5),
    ],
)
def test_what_people_write_is_read_by_the_core_schema(text, value):
    found = decode(text)

    if value is not None:
        assert found == value
    elif isinstance(found, list):
        assert found == [part.strip() for part in text.strip("[]").split(",")]


@pytest.mark.parametrize(
    "text",
    [
        "&a [1]",
        "*a",
        "[&a 1, *a]",
        "&a [*a]",
        "{<<: *a}",
        "!!python/object/apply:os.system ['id']",
        "!!python/name:os.system",
        "!!python/object/new:type {}",
        "!!str 1",
        "!!set {a}",
        "!!binary aGk=",
        "!!timestamp 2026-01-01",
        "!<tag:yaml.org,2002:int> 1",
        "!<date> 2026-01-01",
        "! x",
        "!date {a: 1}",
        "!date [1]",
        "!date '2026-13-01'",
        "!set x",
        "!set [1, 1]",
        "!set [[1]]",
        "!timedelta x",
        "!os.system id",
        "%TAG ! tag:x\n---\n!date '2026-01-01'",
        "%YAML 1.1\n---\n1",
        "---\n1\n---\n2",
        "",
        "# nothing",
        "{a: 1, a: 2}",
        "? [1]\n: 2",
        "? {a: 1}\n: 2",
        "[1, 2",
        "{a: 1]",
        "a: b: c",
        "'x",
        "[1e999]",
        "[" + "9" * 5000 + "]",
        "\x00",
        "\t- a",
        "[" * 100_000,
        "[" * 300 + "]" * 300,
        "- " * 100_000,
        "? " * 100_000,
        "{a: " * 100_000,
    ],
)
def test_nothing_else_is_read(text):
    assert refusal_of(text.encode()) is Refusal.UNDECODABLE


@pytest.mark.parametrize("body", [b"\xff", "[a]".encode("utf-16"), b"\xed\xa0\x80"])
def test_it_is_read_as_utf8(body):
    assert refusal_of(body) is Refusal.UNDECODABLE


def test_a_refusal_does_not_quote_the_body():
    with pytest.raises(RefusedError) as refused:
        decode("!uuid password")

    assert "password" not in str(refused.value)


LAUGHS = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "[" * (MIB // 2),
        "{" * (MIB // 2),
        "a: " * (MIB // 4),
        "&a " * (MIB // 4),
        "!" * MIB,
        "'" * (MIB - 1),
        "#" * MIB,
        "- [" * (MIB // 4),
        "? a\n" * (MIB // 64),
        "%" * MIB,
        '"\\' * (MIB // 2),
    ],
    ids=range(12),
)
def test_small_bodies_stay_small_and_quick(text):
    tracemalloc.start()
    started = time.perf_counter()

    try:
        assert refusal_of(text.encode()) is Refusal.UNDECODABLE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 16 * MIB
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("pure", [False, True])
def test_both_of_the_librarys_parsers_read_the_same(monkeypatch, pure):
    if pure:
        monkeypatch.setattr(yamled, "_LOADER", yaml.SafeLoader)
    value = [{"a": [1, "x\ny\u2028", None]}, dt.date(2026, 1, 1), {"k": {1, 2}}]

    assert round_trip(value) == value
    for text in ("&a [1]", "[" * 1000, "!!str 1", "{a: 1, a: 2}"):
        assert refusal_of(text.encode()) is Refusal.UNDECODABLE


def test_where_the_package_is_missing_the_error_says_what_to_install(monkeypatch):
    serializers._load.cache_clear()
    monkeypatch.delitem(sys.modules, "cardoon.message.yamled", raising=False)
    monkeypatch.delattr("cardoon.message.yamled", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(ImproperlyConfigured, match=r"PyYAML; pip install 'cardoon\[yaml\]'"):
        encode_body([1], YAML)
