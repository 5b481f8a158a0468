"""What the command line says to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cardoon.worker.import_watch import ImportWatch

HEARTBEAT_SECONDS = 2.0
"""Celery's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the command line says beyond the settings."""

    app: str = ""
    """What `-A` names; task processes import it."""
    hostname: str = ""
    queues: tuple[str, ...] = ()
    """What to consume; by default what the settings declare."""
    exclude_queues: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings given on the command line, which win."""
    logging_setup: Mapping[str, Any] = field(default_factory=dict)
    purge: bool = False
    heartbeat: float | None = HEARTBEAT_SECONDS
    """Seconds from one `worker-heartbeat` to the next; None for none."""
    autoscale: tuple[int, int] | None = None
    """The fewest and the most tasks at a time, where the pool is to follow its load."""
    imports: ImportWatch | None = None
    """What its processes import is held against a baseline."""
    beat: bool = False
    """Whether it sends the app's periodic tasks as well."""
