"""`celery.app.control`, under its name."""

from __future__ import annotations

from cardoon.control import Control, Inspect

__all__ = ["Control", "Inspect"]
