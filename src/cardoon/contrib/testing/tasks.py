"""The task by which a test sees that its worker works."""

from __future__ import annotations

from cardoon.shared import shared_task


@shared_task(name="cardoon.ping")
def ping() -> str:
    """Answer."""
    return "pong"
