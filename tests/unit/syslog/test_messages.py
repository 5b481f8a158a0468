"""Messages of RFC 5424: whole, bounded, and one line each, whatever is put into them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.syslog.messages import MAX_BYTES, Entry, Origin, Repeats, Severity, pack
from cardoon.syslog.texts import CUT, as_word, cut, escape, quote
from tests.servers.syslog import parse_structured

ORIGIN = Origin(host="w1", pid=411, stream="9362864500b20322")
WHOLE = re.compile(
    r"<(\d{1,3})>1 (\S+) (\S{1,255}) (\S{1,48}) (\d+) (\S{1,32}) (-|(?:\[(?:[^\]\\\"]|\"(?:[^\"\\\]]|\\.)*\")*\])+) (.*)"
)


def entry(text="it happened", **fields):
    return Entry(
        event="message.replay",
        severity=Severity.CRITICAL,
        facility=10,
        moment=1.5,
        text=text,
        fields=fields,
    )


def parse(octets):
    found = WHOLE.fullmatch(octets.decode())
    assert found, octets
    return parse_structured(found[7]), found[8].removeprefix("\ufeff")


def test_a_message_says_when_where_what_and_which():
    assert pack(entry(task="shop.add"), ORIGIN, 17) == (
        b"<82>1 1970-01-01T00:00:01.500000Z w1 cardoon 411 message.replay "
        b'[cardoon@32473 event="message.replay" task="shop.add"]'
        b'[stream@32473 id="9362864500b20322" seq="17"] it happened'
    )


def test_a_text_beyond_ascii_has_the_mark_that_the_rfc_wants():
    assert pack(entry("grün"), ORIGIN, 1).endswith(b"] \xef\xbb\xbfgr\xc3\xbcn")


def test_parameters_are_quoted():
    octets = pack(entry(task='a"]\\ b'), ORIGIN, 1)

    assert rb'task="a\"\]\\ b"' in octets
    assert parse(octets)[0]["task"] == 'a"]\\ b'


@pytest.mark.parametrize(
    "text",
    [
        "a\n<0>1 - evil su - - -",
        "a\r",
        "a\x00b",
        "\x1b[2J",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\ud800",
        "\x85",
    ],
)
def test_what_could_end_or_disguise_a_line_is_spelled_out(text):
    octets = pack(entry(text, task=text), ORIGIN, 1)

    told, shown = parse(octets)
    assert told["task"] == shown == escape(text)
    assert shown.isascii()


def test_a_long_text_is_cut_between_characters_and_marked():
    octets = pack(entry("ü" * 10_000), ORIGIN, 1, most=500)

    assert len(octets) <= 500
    assert parse(octets)[1].endswith("ü" + CUT)


def test_parameters_that_have_no_room_are_counted():
    octets = pack(entry(**{f"f{n}": "x" * 500 for n in range(30)}), ORIGIN, 1, most=2000)

    told, text = parse(octets)
    assert len(octets) <= 2000
    assert int(told["omitted"]) + sum(name.startswith("f") for name in told) == 30
    assert text == "it happened"


def test_no_cut_parts_a_backslash_from_what_it_quotes():
    for length in range(580, 620):
        told, _ = parse(pack(entry(task="x" * length + '"\\]' * 10), ORIGIN, 1))
        assert told["task"].startswith("x" * 580)


@given(st.text(), st.text(), st.integers(600, MAX_BYTES))
def test_whatever_is_put_into_it_a_message_is_one_line_within_its_bound(text, value, most):
    octets = pack(entry(text, **{"task": value, value: text}), ORIGIN, 1, most=most)

    parse(octets)
    assert len(octets) <= most
    assert not re.search(rb"[\x00-\x1f\x7f]", octets)


@given(st.text(), st.integers(20, 200))
def test_a_cut_text_is_within_its_bytes(text, most):
    shown = cut(escape(text), most)

    assert len(shown.encode()) <= most


def test_fields_of_the_header_have_no_spaces_and_are_never_empty():
    assert as_word("a b\nü", 48) == "a_b__"
    assert as_word("", 48) == "-"
    assert quote("plain") == "plain"


def test_how_often_it_repeats_is_in_an_element_of_its_own():
    several = replace(entry(times="forged", count=3), repeats=Repeats(41, 1.5, 2.25))
    octets = pack(several, ORIGIN, 17).decode()

    assert (
        '[cardoon@32473 event="message.replay" times="forged" count="3"]'
        '[repeats@32473 times="41" first="1970-01-01T00:00:01.500000Z" '
        'last="1970-01-01T00:00:02.250000Z"][stream@32473 '
    ) in octets
