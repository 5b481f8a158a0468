"""`Signal`, under Celery's name."""

from __future__ import annotations

from cardoon.dispatch import Signal

__all__ = ["Signal"]
