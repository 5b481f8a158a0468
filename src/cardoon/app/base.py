"""`celery.app.base`, under its name."""

from cardoon.app import Cardoon, Celery

__all__ = ["Cardoon", "Celery"]
