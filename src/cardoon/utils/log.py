"""`get_task_logger`, under Celery's name."""

from __future__ import annotations

import logging

from cardoon.log import TASK_LOGGER

__all__ = ["get_task_logger"]


def get_task_logger(name: str) -> logging.Logger:
    """A logger whose records carry the name and id of the task that runs."""
    return logging.getLogger(f"{TASK_LOGGER}.{name}")
