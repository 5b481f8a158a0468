"""Logging: what a line says, and what no message can make it say."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.context import Request, carrying_out
from cardoon.exceptions import ImproperlyConfigured
from cardoon.log import (
    LEVELS,
    MAX_MESSAGE,
    TASK_LOGGER,
    JsonFormatter,
    TaskFormatter,
    log_formats,
    release_logging,
    setup_logging,
    trace_id_of,
)
from cardoon.utils.log import get_task_logger

FORMAT = "%(levelname)s %(task_name)s[%(task_id)s] %(message)s"


def record(message, *args, exc_info=None, sinfo=None):
    return logging.LogRecord("x", logging.INFO, "file.py", 1, message, args, exc_info, sinfo=sinfo)


def test_a_line_names_the_task_that_runs():
    with carrying_out(Request(task="shop.pay", id="t1")):
        line = TaskFormatter(FORMAT).format(record("paid %d", 5))

    assert line == "INFO shop.pay[t1] paid 5"


def test_outside_of_a_task_a_line_names_none():
    assert TaskFormatter(FORMAT).format(record("hello")) == "INFO ???[???] hello"


@given(st.text())
def test_no_message_makes_more_than_one_line(text):
    line = TaskFormatter(FORMAT).format(record("said %s", text))

    assert len(line.splitlines()) == 1
    assert all(char == "\t" or not 0 <= ord(char) < 32 for char in line)


@given(st.text())
def test_no_exception_begins_a_line_that_looks_like_a_record(text):
    error = ValueError(text)
    shown = TaskFormatter(FORMAT).format(record("failed", exc_info=(ValueError, error, None)))

    first, second, *rest = shown.split("\n")
    assert first == "INFO ???[???] failed"
    assert second.startswith("ValueError")
    assert all(line.startswith("  ") for line in rest)
    assert "\r" not in shown
    assert "\x1b" not in shown


def test_a_stack_is_indented_like_a_traceback():
    shown = TaskFormatter(FORMAT).format(record("here", sinfo="Stack:\nforged \x1b[2K line"))

    assert shown.split("\n")[1:] == ["Stack:", "  forged \\x1b[2K line"]


@pytest.fixture
def loggers():
    """Puts the loggers back as they were."""
    root, task = logging.getLogger(), logging.getLogger(TASK_LOGGER)
    before = [(one, one.handlers[:], one.level, one.propagate) for one in (root, task)]
    for one in (root, task):
        one.handlers = []
    yield root, task
    for one, handlers, level, propagate in before:
        for handler in one.handlers:
            handler.close()
        one.handlers, one.level, one.propagate = handlers, level, propagate
    logging.captureWarnings(capture=False)


def setup(**wishes):
    given = {"logfile": None, "log_format": "W %(message)s", "task_format": "T %(message)s"}
    setup_logging("info", **{**given, "hijack": True, **wishes})


def test_the_worker_and_its_tasks_log_each_in_their_format(loggers, tmp_path):
    path = tmp_path / "worker.log"

    setup(logfile=str(path))
    logging.getLogger("cardoon.worker").info("began")
    get_task_logger("shop").info("paid")
    logging.getLogger("cardoon.worker").debug("not shown")

    assert path.read_text() == "W began\nT paid\n"


def test_logging_set_up_again_leaves_no_file_open(loggers, tmp_path):
    setup(logfile=str(tmp_path / "one.log"))
    first = [handler for one in loggers for handler in one.handlers]

    setup()

    assert all(handler.stream is None for handler in first)
    assert [len(one.handlers) for one in loggers] == [1, 1]


def test_what_was_set_up_before_is_kept_where_that_is_wanted(loggers):
    root, _ = loggers
    mine = logging.NullHandler()
    root.handlers = [mine]  # pytest's own are gone, too

    setup(hijack=False)
    assert root.handlers == [mine]

    setup(hijack=True)
    assert mine not in root.handlers


def test_without_any_handler_logging_is_set_up_even_so(loggers):
    root, _ = loggers
    root.handlers = []

    setup(hijack=False)

    assert len(root.handlers) == 1


def test_a_log_file_that_cannot_be_opened_is_an_error(loggers, tmp_path):
    with pytest.raises(ImproperlyConfigured, match=r"logfile .* cannot be opened"):
        setup(logfile=str(tmp_path / "no" / "such" / "folder.log"))


def test_every_level_has_its_name():
    assert LEVELS["fatal"] == LEVELS["critical"] > LEVELS["error"] > LEVELS["debug"]


def test_settings_say_how_to_log():
    settings = {"worker_log_format": "W", "worker_hijack_root_logger": False, "broker_url": "x"}

    assert log_formats(settings) == {"log_format": "W", "hijack": False}


# JSON


def told(record):
    """The object that a record becomes; there is one line of it."""
    [line] = JsonFormatter().format(record).splitlines()
    assert line.isascii()
    return json.loads(line)


def test_a_record_becomes_an_object_with_the_task_and_its_trace():
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    with carrying_out(Request(task="shop.pay", id="t1", headers=headers)):
        found = told(record("paid %d", 5))

    assert found.pop("time").endswith("+00:00")
    assert found.pop("process")
    assert found == {
        "level": "INFO",
        "logger": "x",
        "message": "paid 5",
        "task": "shop.pay",
        "task_id": "t1",
        "trace_id": trace,
    }


@pytest.mark.parametrize(
    "header",
    [
        None,
        5,
        "",
        "00-0af7",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        '00-"}-b7ad6b7169203331-01',
    ],
)
def test_a_header_that_names_no_trace_names_none(header):
    assert trace_id_of({"traceparent": header}) is None


@given(st.text())
def test_nothing_that_is_said_ends_an_object_early(text):
    error = ValueError(text)
    found = told(record("said %s", text, exc_info=(ValueError, error, None), sinfo=text))

    assert found["level"] == "INFO"
    assert found["message"] == f"said {text}"


def test_what_is_said_at_length_is_cut():
    found = told(record("x" * (MAX_MESSAGE + 5)))

    assert found["message"] == "x" * MAX_MESSAGE + "... (5 more characters)"


def test_the_format_json_is_for_the_tasks_as_well(tmp_path):
    log = tmp_path / "log"
    try:
        setup_logging(
            "info", logfile=str(log), log_format="json", task_format="%(message)s", hijack=True
        )
        get_task_logger("shop").info("paid")
        logging.getLogger("shop").info("begun")
    finally:
        release_logging()

    assert [json.loads(line)["message"] for line in log.read_text().splitlines()] == [
        "paid",
        "begun",
    ]
