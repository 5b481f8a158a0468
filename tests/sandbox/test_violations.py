"""What a sandbox has refused: bounded and printable, whatever the task says."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from cardoon.message.protocol import MAX_HEADERS
from cardoon.sandbox.violations import (
    MAX_DETAIL,
    MAX_KINDS,
    Violation,
    Violations,
    escape,
    parse,
    tell,
)


def test_a_violation_is_a_line_for_people():
    assert Violation("read", "/etc/shadow", "kernel").describe() == (
        "sandbox: read /etc/shadow refused"
    )
    assert Violation("connect", "10.0.0.1:25", "task", 3).describe() == (
        "sandbox: connect 10.0.0.1:25 refused (3 times), as the task says"
    )


def test_the_same_is_counted_and_told_as_new_once():
    found = Violations()

    news = [found.add(Violation("read", path, "task")) for path in ("/a", "/b", "/a")]

    assert news == [True, True, False]
    assert found.all() == (Violation("read", "/a", "task", 2), Violation("read", "/b", "task", 1))


def test_what_is_beyond_twenty_kinds_is_only_counted():
    found = Violations()

    for number in range(1000):
        found.add(Violation("read", f"/{number}", "task"))
        found.add(Violation("socket", f"{number}", "kernel"))

    told = found.all()
    assert len(told) == MAX_KINDS + 2
    assert sum(one.count for one in told) == 2000
    assert {one.by for one in told if one.rule == "more"} == {"task", "kernel"}


def test_the_task_cannot_speak_for_the_kernel():
    told = [["read", "/x", "kernel", 1]]

    assert parse(told, by="task") == (Violation("read", "/x", "task"),)


def test_what_makes_no_sense_is_left_out():
    told = [
        ["read", "/x", "kernel", True],
        ["READ", "/x", "kernel", 1],
        ["read", "/x", "god", 1],
        ["read", "/x", "kernel", 0],
        ["read", 5, "kernel", 1],
        ["read"],
        None,
        ["read", "/y", "kernel", 2],
    ]

    assert parse(told) == (Violation("read", "/y", "kernel", 2),)
    assert parse({"a": 1}) == parse(None) == ()


def test_control_characters_do_not_reach_a_log():
    assert escape("/tmp/a\nERROR forged \x1b[2J") == "/tmp/a\\nERROR forged \\x1b[2J"
    assert escape(b"/tmp/\xff") == "/tmp/\\udcff"


def test_a_texts_own_code_is_not_run():
    class Bomb(str):
        __slots__ = ()

        def __str__(self):
            raise AssertionError("user code ran")

    assert escape(Bomb("x")) == "Bomb"


@given(st.text() | st.binary() | st.integers() | st.none())
def test_any_detail_is_short_and_printable(text):
    told = escape(text)

    assert len(told) <= MAX_DETAIL
    assert told.isascii()
    assert told == "" or told.isprintable()


@given(st.lists(st.tuples(st.text(), st.text(min_size=150), st.sampled_from(["kernel", "task"]))))
def test_they_fit_into_the_headers_of_a_result(many):
    found = Violations()
    for rule, detail, by in many:
        for one in parse([[rule, detail, by, 1], ["read", detail, by, 1]]):
            found.add(one)

    told = json.dumps(tell(found.all()))

    assert len(told) < MAX_HEADERS // 2
    assert parse(json.loads(told)) == found.all()
