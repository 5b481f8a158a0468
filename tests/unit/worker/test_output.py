"""What a task process writes, as the log shows it."""

from __future__ import annotations

import logging
import os

import pytest

from cardoon.log import LineFormatter
from cardoon.syslog.handler import NOT_SENT
from cardoon.worker.output import MAX_LINE, Output
from cardoon.worker.task_log import Terms


@pytest.fixture
def output():
    made = []

    def make(most=1 << 20):
        made.append(Output(most))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def told(caplog):
    caplog.set_level(1, "cardoon.task.output")
    return caplog


def say(output: Output, text: bytes) -> None:
    os.write(output.write_end, text)
    assert output.pump("shop.pay", "t1")


def lines(told) -> list[str]:
    return [record.getMessage() for record in told.records]


def test_lines_are_told_with_the_task_that_wrote_them(output, told):
    say(output(), b"one\ntwo\n")

    assert lines(told) == ["one", "two"]
    assert {(r.name, r.task_name, r.task_id) for r in told.records} == {
        ("cardoon.task.output", "shop.pay", "t1")
    }
    assert {record.levelno for record in told.records} == {logging.WARNING}


def test_a_line_that_comes_in_pieces_is_told_once_it_is_whole(output, told):
    mine = output()
    say(mine, b"al")
    say(mine, b"together\nre")
    assert lines(told) == ["altogether"]
    mine.finish("shop.pay", "t1")

    assert lines(told) == ["altogether", "re"]


def test_control_characters_are_spelled_out(output, told):
    say(output(), b"\x1b[2J\rforged \xe2\x80\xa8line\x00\n")

    assert lines(told) == ["\\x1b[2J\\rforged \\u2028line\\x00"]


def test_what_is_no_text_is_told_as_what_it_is_not(output, told):
    say(output(), b"\xff\xfe\n")

    assert lines(told) == ["\ufffd\ufffd"]


def test_a_long_line_is_cut_and_the_rest_counted(output, told):
    mine = output()
    say(mine, b"x" * 60_000)
    say(mine, b"y\nshort\n")
    mine.finish("shop.pay", "t1")

    assert lines(told)[0] == "x" * MAX_LINE
    assert lines(told)[1:] == ["short", f"{60_001 - MAX_LINE} bytes of its output are not shown"]


def test_no_more_is_told_than_the_profile_grants(output, told):
    mine = output(most=10)
    for _ in range(100):
        say(mine, b"0123456\n")
    mine.finish("shop.pay", "t1")

    assert lines(told) == ["0123456", "01", "790 bytes of its output are not shown"]


def test_a_record_of_logging_keeps_its_level_and_its_traceback_is_together(output, told):
    try:
        int("bad\nluck")
    except ValueError as error:
        caught = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("app", logging.ERROR, "f", 1, "said %s", ("a\nb",), caught)
    say(output(), LineFormatter().format(record).encode() + b"\nplain\n")

    assert told.records[0].getMessage() == "said a\\nb"
    assert [record.levelno for record in told.records[:-1]] == [logging.ERROR] * (
        len(told.records) - 1
    )
    assert told.records[-1].levelno == logging.WARNING


def test_the_end_of_the_pipe_is_told_once_the_process_is_gone(output):
    mine = output()
    mine.let_go()

    assert not mine.pump("shop.pay", "t1")
    mine.finish("shop.pay", "t1")
    mine.finish("shop.pay", "t1")


def for_syslog(told) -> list[str]:
    return [one.getMessage() for one in told.records if not one.__dict__.get(NOT_SENT)]


def test_what_the_task_has_logged_is_not_for_syslog_which_has_it_already(told):
    mine = Output(1 << 20, terms=Terms(logging.INFO, 100.0))

    say(mine, b"printed\n\x1e40logged\n  Traceback\n  of it\nprinted again\n  and indented\n")

    assert lines(told) == [
        "printed",
        "logged",
        "  Traceback",
        "  of it",
        "printed again",
        "  and indented",
    ]
    assert for_syslog(told) == ["printed", "printed again", "  and indented"]
    mine.close()


def test_of_more_lines_than_syslog_takes_it_is_told_how_many_are_not_there(told):
    mine = Output(1 << 20, terms=Terms(logging.INFO, 1.0))

    say(mine, b"again\n" * 1000)
    mine.finish("shop.pay", "t1")

    assert len(lines(told)) == 1001
    sent = for_syslog(told)
    assert sent[-1] == f"{1001 - len(sent)} lines of its output are not in syslog"
    assert 6 <= len(sent) <= 8


def test_without_terms_nothing_is_for_syslog(output, told):
    say(output(), b"printed\n")

    assert for_syslog(told) == []
