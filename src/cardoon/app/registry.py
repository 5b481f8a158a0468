"""`celery.app.registry`, under its name."""

from cardoon.registry import Registry as TaskRegistry

__all__ = ["TaskRegistry"]
