"""Sending: the event that a task was sent, which its sender tells (`task_send_sent_event`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cardoon.events.kinds import HIDDEN
from cardoon.sender import Call


def sent_event(call: Call, now: float) -> dict[str, Any]:
    """`task-sent`, of a call that was published at `now`."""
    return {
        "type": "task-sent",
        "timestamp": now,
        "uuid": call.id,
        "name": call.task,
        "args": HIDDEN,
        "kwargs": HIDDEN,
        "retries": call.retries,
        "eta": iso(call.eta),
        "expires": iso(call.expires),
        "queue": call.queue,
        "exchange": "",
        "routing_key": call.queue,
        "root_id": call.root or call.id,
        "parent_id": call.parent,
    }


def iso(seconds: float | None) -> str | None:
    """A time as text; None for none, and for one that no calendar has."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None
