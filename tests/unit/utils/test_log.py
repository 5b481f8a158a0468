"""`get_task_logger`."""

from __future__ import annotations

from cardoon.log import TASK_LOGGER
from cardoon.utils.log import get_task_logger


def test_a_task_logger_is_a_child_of_the_one_that_knows_the_task():
    logger = get_task_logger("shop.tasks")

    assert logger.name == f"{TASK_LOGGER}.shop.tasks"
    assert logger is get_task_logger("shop.tasks")
