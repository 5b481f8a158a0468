"""Parsers of setting values: a checked value, or a `ValueError` that ends a sentence."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon import option

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(max_size=8),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.floats() | st.integers(), max_size=3),
    st.timedeltas(),
    st.just(10**400),
)
PARSERS = [
    option.text,
    option.url,
    option.boolean,
    option.status_address,
    option.integer(0, 9),
    option.seconds(0, 10),
    option.choice("a", "b"),
    option.names,
    option.paths,
    option.mapping("x"),
    option.optional(option.integer(0, 9)),
    option.timezone,
]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__qualname__)
@given(value=ANYTHING)
def test_any_value_is_parsed_or_refused_with_a_value_error(parse, value):
    told = "taken"

    try:
        parse(value)
    except ValueError as error:
        told = str(error)

    assert told


@given(st.integers())
def test_an_integer_is_taken_within_its_bounds_only(number):
    parse = option.integer(-5, 5)

    if -5 <= number <= 5:
        assert parse(number) == parse(str(number)) == number
    else:
        with pytest.raises(ValueError, match="between -5 and 5"):
            parse(number)


@given(st.floats(allow_nan=False))
def test_seconds_are_taken_within_their_bounds_only(number):
    parse = option.seconds(0, 60)

    if 0 <= number <= 60:
        assert parse(number) == number
    else:
        with pytest.raises(ValueError, match="between 0 and 60 seconds"):
            parse(number)


def test_seconds_may_be_a_timedelta():
    assert option.seconds(0, 100)(timedelta(minutes=1)) == 60.0


@pytest.mark.parametrize("value", [math.nan, 10**400, True, "soon", None])
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ValueError, match="seconds"):
        option.seconds(0, 100)(value)


@pytest.mark.parametrize("value", [True, 1.5, "1.5", None])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="is not a whole number"):
        option.integer(0, 9)(value)


@pytest.mark.parametrize("word", ["1", "true", "YES", "on", True])
def test_words_for_true_are_true(word):
    assert option.boolean(word) is True


@pytest.mark.parametrize("word", ["0", "False", "no", "OFF", False])
def test_words_for_false_are_false(word):
    assert option.boolean(word) is False


def test_another_word_is_no_boolean():
    with pytest.raises(ValueError, match="neither true nor false"):
        option.boolean("perhaps")


def test_text_may_be_a_path():
    assert option.text(Path("a/b")) == "a/b"


@pytest.mark.parametrize("value", [5, None, b"bytes"])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match="is not text"):
        option.text(value)


def test_no_url_is_an_empty_one():
    assert option.url(None) == ""


def test_a_url_has_a_scheme():
    with pytest.raises(ValueError, match=r"sqlite:///tasks.db"):
        option.url("tasks.db")


def test_a_wrong_choice_names_the_right_ones():
    with pytest.raises(ValueError, match=r"use sha256, sha384$"):
        option.choice("sha256", "", "sha384")("md5")


def test_names_may_be_one_string_with_commas():
    assert option.names("a, b,,c") == ("a", "b", "c")


@pytest.mark.parametrize("value", [["a"], ("a",), {"a"}, frozenset({"a"})])
def test_names_may_be_any_collection(value):
    assert option.names(value) == ("a",)


@pytest.mark.parametrize("value", [5, None, {"a": "b"}, [5]])
def test_what_are_no_names_is_refused(value):
    with pytest.raises(ValueError, match=r"list of strings|is not text"):
        option.names(value)


def test_paths_may_be_given_by_trust_domain():
    assert option.paths({"acme": Path("ca.pem")}) == {"acme": "ca.pem"}


def test_one_path_is_a_list_of_one():
    assert option.paths(Path("ca.pem")) == ("ca.pem",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "is not a dict"),
        ({"y": 1}, "unknown key 'y'; use x"),
        ({"x": -1}, "not between 0 and"),
        ({"x": math.inf}, "not between 0 and"),
        ({"x": math.nan}, "not between 0 and"),
        ({"x": 10**400}, "not between 0 and"),
        ({"x": True}, "not a number"),
        ({"x": "1"}, "not a number"),
    ],
)
def test_a_mapping_has_known_keys_and_finite_numbers(value, message):
    with pytest.raises(ValueError, match=message):
        option.mapping("x")(value)


def test_a_mapping_is_copied():
    given = {"x": 1}

    parsed = option.mapping("x")(given)

    given["x"] = 2
    assert parsed == {"x": 1}


@pytest.mark.parametrize("value", [None, ""])
def test_an_optional_value_may_be_missing(value):
    assert option.optional(option.integer(0, 9))(value) is None


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin"])
def test_a_time_zone_of_the_database_is_taken(name):
    assert option.timezone(name) == name


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../etc/passwd", "", "a\0b"])
def test_what_is_no_time_zone_is_refused(name):
    with pytest.raises(ValueError, match="is not a time zone"):
        option.timezone(name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        (None, ""),
        (9464, "127.0.0.1:9464"),
        ("[::1]:80", "[::1]:80"),
        ("unix:/a", "unix:/a"),
    ],
)
def test_a_status_address_is_written_in_one_way(value, expected):
    assert option.status_address(value) == expected


@pytest.mark.parametrize("value", ["somewhere", "host:port", "unix:", 99999, True])
def test_what_is_no_status_address_is_refused(value):
    with pytest.raises(ValueError, match="is not"):
        option.status_address(value)
