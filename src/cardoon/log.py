"""Logging of the worker and its processes."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cardoon.context import current_request
from cardoon.exceptions import ImproperlyConfigured

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}

LOG_LEVELS: dict[Any, Any] = logging.getLevelNamesMapping()
LOG_LEVELS |= {number: logging.getLevelName(number) for number in set(LOG_LEVELS.values())}
"""Both ways, as Celery has them."""

LOGGER = "cardoon"
TASK_LOGGER = "cardoon.task"
"""Parent of the loggers that `get_task_logger` makes; they log in `worker_task_log_format`."""

JSON_LINES = "json"
"""As a format: one JSON object a line, in place of a pattern."""
MAX_MESSAGE = 16_384
"""Characters of a message in JSON."""
MAX_TRACE = 32_768
"""Characters of a traceback in JSON."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_OWN = "cardoon"
"""Name of the handlers that are made here."""


class TaskFormatter(logging.Formatter):
    """Knows `%(task_name)s` and `%(task_id)s` of the running task, and lets no line be forged.

    A line break in a message would begin what looks like a record of its own, so control characters of
    the message are escaped; a traceback keeps its lines, which are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        if "task_id" not in record.__dict__:  # else the record speaks of a task elsewhere
            request = current_request()
            record.task_name = request.task if request else "???"
            record.task_id = request.id if request else "???"
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line, without what could end it early."""
        return super().formatMessage(record).translate(_CONTROL)

    def formatException(self, ei: object) -> str:  # noqa: N802
        """A traceback, each line indented, and without what could end one early."""
        return super().formatException(ei).translate(_CONTROL_BUT_NEWLINE)  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """The stack that a record was made with, like a traceback."""
        return super().formatStack(stack_info).translate(_CONTROL_BUT_NEWLINE)


class JsonFormatter(TaskFormatter):
    """One JSON object a line, for machines that collect logs: bounded, and ASCII, so that nothing ends it early.

    `time` (UTC), `level`, `logger`, `message`, `process`; `task` and `task_id` of the task that runs or is spoken of;
    `trace_id` where its sender has signed one; `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        told: dict[str, Any] = {
            "time": moment,
            "level": record.levelname,
            "logger": record.name,
            "message": _cut(record.getMessage(), MAX_MESSAGE),
            "process": record.process,
        }
        request = current_request()
        given = record.__dict__
        if "task_id" in given:
            told |= {"task": given.get("task_name"), "task_id": given["task_id"]}
            told["trace_id"] = given.get("trace_id")
        elif request is not None:
            told |= {"task": request.task, "task_id": request.id}
            told["trace_id"] = trace_id_of(request.headers)
        if record.exc_info and record.exc_info[0] is not None:
            told["exception"] = _cut(
                logging.Formatter.formatException(self, record.exc_info), MAX_TRACE
            )
        if record.stack_info:
            told["stack"] = _cut(record.stack_info, MAX_TRACE)
        found = {name: value for name, value in told.items() if value not in {None, "???"}}
        return json.dumps(found, ensure_ascii=True, default=str, separators=(",", ":"))


def trace_id_of(headers: Mapping[str, Any]) -> str | None:
    """The trace that signed headers name, as W3C's Trace Context has it; None if they name none."""
    told = headers.get("traceparent")
    found = _TRACEPARENT.fullmatch(told) if isinstance(told, str) else None
    return None if found is None else found[1]


class LineFormatter(TaskFormatter):
    """For a pipe to the worker: the level in front, as `split_level` reads it, and the message alone."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, whose lines after the first are indented: so they stay together."""
        text = super().format(record).replace("\n", "\n  ")
        return f"{_LEVEL_MARK}{min(99, max(0, record.levelno)):02}{text}"


def split_level(line: str, *, otherwise: int) -> tuple[int, str]:
    """The level that `LineFormatter` wrote in front of a line, and the rest of it."""
    if line.startswith(_LEVEL_MARK) and line[1:3].isdecimal():
        return int(line[1:3]), line[3:]
    return otherwise, line


def escape_control(text: str) -> str:
    """The text with its control characters spelled out, so that it is one line and moves no cursor."""
    return text.translate(_CONTROL)


_LEVEL_MARK = "\x1e"  # the ASCII character for "a record begins"
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\t")}
_CONTROL |= {0x2028: "\\u2028", 0x2029: "\\u2029", ord("\n"): "\\n", ord("\r"): "\\r"}
_CONTROL_BUT_NEWLINE = {**_CONTROL, ord("\n"): "\n  "}


def log_formats(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What settings say of logging, as arguments of `setup_logging`."""
    names = {
        "worker_log_format": "log_format",
        "worker_task_log_format": "task_format",
        "worker_hijack_root_logger": "hijack",
    }
    return {names[name]: value for name, value in settings.items() if name in names}


def setup_logging(
    level: str, *, logfile: str | None, log_format: str, task_format: str, hijack: bool
) -> None:
    """Send log records to the terminal or a file. With `hijack`, in place of what was set up before."""
    root = logging.getLogger()
    if not hijack and root.handlers:
        return
    task_logger = logging.getLogger(TASK_LOGGER)
    for one in (root, task_logger):
        for handler in one.handlers[:]:
            one.removeHandler(handler)
            handler.close()
    root.setLevel(LEVELS[level.lower()])
    root.addHandler(_handler(logfile, log_format))
    is_json = log_format == JSON_LINES  # then the tasks' lines are as well
    task_logger.addHandler(_handler(logfile, log_format if is_json else task_format))
    task_logger.propagate = False
    logging.captureWarnings(capture=True)


def log_lines() -> None:
    """In a task process whose standard error is a pipe to the worker: log there, and nowhere else.

    Handlers that the project made itself stay as they are.
    """
    for one in (logging.getLogger(), logging.getLogger(TASK_LOGGER)):
        for handler in one.handlers[:]:
            if handler.get_name() == _OWN:
                one.removeHandler(handler)
                handler.close()
                lines = logging.StreamHandler(sys.stderr)
                lines.setFormatter(LineFormatter())
                lines.set_name(_OWN)
                one.addHandler(lines)


def release_logging() -> None:
    """Undo `setup_logging`: take away what it added, and leave what others did."""
    root, task_logger = logging.getLogger(), logging.getLogger(TASK_LOGGER)
    for one in (root, task_logger):
        for handler in one.handlers[:]:
            if handler.get_name() == _OWN:
                one.removeHandler(handler)
                handler.close()
    root.setLevel(logging.WARNING)
    task_logger.propagate = True
    logging.captureWarnings(capture=False)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most} more characters)"


def _handler(logfile: str | None, log_format: str) -> logging.Handler:
    handler: logging.Handler
    if logfile:
        try:
            handler = logging.FileHandler(Path(logfile).expanduser(), encoding="utf-8")
        except (OSError, RuntimeError) as error:
            raise ImproperlyConfigured(f"logfile {logfile!r} cannot be opened: {error}") from error
    else:
        handler = logging.StreamHandler(sys.stderr)
    is_json = log_format == JSON_LINES
    handler.setFormatter(JsonFormatter() if is_json else TaskFormatter(log_format))
    handler.set_name(_OWN)
    return handler
