"""The shape of a pool of processes, and how it follows from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cardoon.config import Settings

ISOLATED = "isolated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The shape of a pool of processes."""

    kind: str
    processes: int
    slots: int
    """Jobs that one process runs at a time."""
    max_tasks: int | None = None
    max_memory_kib: int | None = None
    max_depth: int | None = None
    """Jobs for each slot, the running one included; None lets their run times decide."""
    farewell: float = 0.0
    """Seconds that processes have at the end to send `worker_process_shutdown`; 0 if nobody hears it."""

    @property
    def is_single(self) -> bool:
        """Whether a process serves one job."""
        return self.kind == ISOLATED

    @property
    def has_doorbell(self) -> bool:
        """Whether a process looks at its channel, in the middle of a task, when a signal comes."""
        return self.kind in {"prefork", ISOLATED}

    @property
    def told(self) -> dict[str, Any]:
        """What a new process is told of it."""
        return {
            "name": self.kind,
            "kind": self.kind,
            "slots": self.slots,
            "max_memory": self.max_memory_kib,
        }


def plan_pool(settings: Settings, *, concurrency: int, farewell: float) -> Plan:
    """The pool that the settings describe."""
    several = settings.worker_pool in {"threads", "asyncio"}
    single = settings.worker_pool == ISOLATED
    return Plan(
        kind=settings.worker_pool,
        processes=1 if several else concurrency,
        slots=concurrency if several else 1,
        max_tasks=None if single else settings.worker_max_tasks_per_child,
        max_memory_kib=None if single else settings.worker_max_memory_per_child,
        max_depth=settings.worker_prefetch_multiplier or None,
        farewell=0.0 if single else farewell,
    )
