"""Loggers and levels, under Celery's names."""

from __future__ import annotations

import logging
from typing import Any

from cardoon.log import LOG_LEVELS, LOGGER, TASK_LOGGER

__all__ = ["LOG_LEVELS", "base_logger", "get_logger", "get_task_logger", "mlevel", "task_logger"]

base_logger = logging.getLogger(LOGGER)
"""Parent of the loggers of Cardoon itself."""
task_logger = logging.getLogger(TASK_LOGGER)
"""Parent of the loggers that `get_task_logger` makes."""

_NOT_HERE = {
    "ColorFormatter": "logs are not coloured; use cardoon.log.TaskFormatter",
    "LoggingProxy": "what tasks print goes where the worker's own output goes",
    "get_multiprocessing_logger": "use multiprocessing.get_logger",
    "reset_multiprocessing_logger": "the pools do not use multiprocessing",
    "in_sighandler": "no task code runs in a signal handler",
    "set_in_sighandler": "no task code runs in a signal handler",
}


def get_task_logger(name: str) -> logging.Logger:
    """A logger whose records carry the name and id of the task that runs."""
    return logging.getLogger(f"{TASK_LOGGER}.{name}")


def get_logger(name: str) -> logging.Logger:
    """`logging.getLogger`."""
    return logging.getLogger(name)


def mlevel(level: int | str | None) -> int:
    """A level as a number: "info", "INFO" and 20 are one; None is no level at all."""
    if not level:
        return logging.NOTSET
    return level if isinstance(level, int) else int(LOG_LEVELS[level.upper()])


def __getattr__(name: str) -> Any:
    # An ImportError, because `from ... import` would drop the text of an AttributeError.
    if name in _NOT_HERE:
        raise ImportError(f"cardoon.utils.log has no {name}: {_NOT_HERE[name]}")
    raise AttributeError(f"module 'cardoon.utils.log' has no attribute {name!r}")
