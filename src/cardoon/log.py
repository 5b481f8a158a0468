"""Logging of the worker and its processes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
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

_OWN = "cardoon"
"""Name of the handlers that are made here."""


class TaskFormatter(logging.Formatter):
    """Knows `%(task_name)s` and `%(task_id)s` of the running task, and lets no line be forged.

    A line break in a message would begin what looks like a record of its own, so control characters of
    the message are escaped; a traceback keeps its lines, which are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
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
    task_logger.addHandler(_handler(logfile, task_format))
    task_logger.propagate = False
    logging.captureWarnings(capture=True)


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


def _handler(logfile: str | None, log_format: str) -> logging.Handler:
    handler: logging.Handler
    if logfile:
        try:
            handler = logging.FileHandler(Path(logfile).expanduser(), encoding="utf-8")
        except (OSError, RuntimeError) as error:
            raise ImproperlyConfigured(f"logfile {logfile!r} cannot be opened: {error}") from error
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TaskFormatter(log_format))
    handler.set_name(_OWN)
    return handler
