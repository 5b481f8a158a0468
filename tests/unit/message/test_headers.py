"""Signed headers: what they say, and what is no header at all."""

from __future__ import annotations

import json

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.headers import asked_task, check_inner, inner_task, parse_headers, with_asked


def refusal_of(read, *args):
    with pytest.raises(RefusedError) as refused:
        read(*args)
    return refused.value.reason


@pytest.mark.parametrize("headers", [b"[1]", b"7", b"null", b'"x"', b"{", b"\xff", b"[" * 20_000])
def test_what_is_no_json_object_is_refused(headers):
    assert refusal_of(parse_headers, headers) is Refusal.BAD_CLAIMS


def test_none_at_all_say_nothing():
    assert parse_headers(b"") == {}


@pytest.mark.parametrize("name", ["a", "x" * 256, "é" * 128, "celery.map"])
def test_the_task_that_was_asked_for_is_what_they_say(name):
    assert asked_task("own", json.dumps({"asked": name}).encode()) == name


@pytest.mark.parametrize("headers", [b"", b"{}", b'{"shadow":"x"}'])
def test_it_is_their_own_where_they_say_nothing(headers):
    assert asked_task("own", headers) == "own"


@pytest.mark.parametrize("name", ["", "x" * 257, "é" * 129, "a\x00", "\ud800", 7, None, ["a"]])
def test_a_name_that_no_task_can_have_is_refused(name):
    headers = json.dumps({"asked": name}).encode()

    assert refusal_of(asked_task, "own", headers) is Refusal.BAD_CLAIMS


def test_who_is_asked_is_written_and_taken_out_beside_all_else():
    written = with_asked(b'{"shadow":"x","asked":"forged"}', "true")

    assert json.loads(written) == {"shadow": "x", "asked": "true"}
    assert json.loads(with_asked(written, None)) == {"shadow": "x"}
    assert with_asked(b'{"asked":"forged"}', None) == b""
    assert refusal_of(with_asked, b"[", "true") is Refusal.BAD_CLAIMS


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        (({"task": "a"}, []), {}, "a"),
        ((), {"task": {"task": "b"}}, "b"),
        (({"task": "a"},), {"task": {"task": "b"}}, "a"),
        (("a",), {}, None),
        (({"task": 7},), {}, None),
        ((), {}, None),
    ],
)
def test_a_map_names_the_task_that_it_runs(args, kwargs, name):
    assert inner_task(args, kwargs) == name


def test_a_map_of_another_task_than_its_headers_name_is_denied():
    args = ({"task": "a"}, [1])

    check_inner({"inner": "a"}, args, {})
    check_inner({}, args, {})
    assert refusal_of(check_inner, {"inner": "b"}, args, {}) is Refusal.DENIED
