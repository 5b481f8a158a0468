"""`celery.app.log`, under its name."""

from cardoon.log import TaskFormatter

__all__ = ["TaskFormatter"]
