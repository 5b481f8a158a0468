"""Beat: sends periodic tasks, each tick once, however many beats run.

agenda    what is due: a state machine      ticks     ids and nonces, the same in every beat
sending   from a tick to calls              notes     how far each entry was sent, signed, in the store
rounds    one round: send, then note        loop      a thread that does them
service   `Beat`: for an app                sources   where entries come from
"""

from __future__ import annotations

from typing import Any

from cardoon.beat.rounds import Tally
from cardoon.beat.service import Beat
from cardoon.beat.sources import EntrySource

__all__ = ["Beat", "EntrySource", "Service", "Tally"]

Service = Beat
"""Celery's name."""

_SCHEDULER = (
    "there is one scheduler, and how far it came is kept in the broker's store; entries from elsewhere come from an "
    "EntrySource: Beat(app, sources=[...])"
)
_NOT_HERE = {
    **dict.fromkeys(("Scheduler", "PersistentScheduler", "ScheduleEntry"), _SCHEDULER),
    "EmbeddedService": "use `cardoon worker -B`, or a Beat in a `with` block",
    "SchedulingError": "what cannot be sent is logged, and other entries go on",
}


def __getattr__(name: str) -> Any:
    # An ImportError, because `from ... import` would drop the text of an AttributeError.
    if name in _NOT_HERE:
        raise ImportError(f"cardoon.beat has no {name}: {_NOT_HERE[name]}")
    raise AttributeError(f"module 'cardoon.beat' has no attribute {name!r}")
