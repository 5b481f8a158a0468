"""`celery.app.control`, under its name."""

from __future__ import annotations

from typing import Any

from cardoon.control import NEEDS_ANSWERS, Control

__all__ = ["Control"]


def __getattr__(name: str) -> Any:
    # An ImportError, because `from ... import` would drop the text of an AttributeError.
    if name == "Inspect":
        raise ImportError(f"cardoon.app.control has no Inspect: {NEEDS_ANSWERS}")
    raise AttributeError(f"module 'cardoon.app.control' has no attribute {name!r}")
