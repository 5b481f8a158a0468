"""`celery.app.task`, under its name."""

from cardoon.context import Request as Context
from cardoon.task import Task

__all__ = ["Context", "Task"]
