"""Whether a worker works: judged by what it did last, not by whether it is there.

*Live* means that a restart would not help: every loop turns, the zygote and the task processes are there and not
stopped. A broker that is away is no reason to restart. *Ready* means that tasks run: besides all that, the stores
answer, outcomes can be written, leases are renewed in time, and what must be on record can be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.worker.held import HeldTable
from cardoon.worker.nursery import Nursery
from cardoon.worker.pool import Pool
from cardoon.worker.probing import Probe
from cardoon.worker.settler import Settler
from cardoon.worker.supervisor import ProcessPool
from cardoon.worker.vitals import (
    LOOP_SECONDS,
    STORE_SECONDS,
    WRITING_SECONDS,
    Deed,
    Loop,
    Verdict,
    Vitals,
)

_FROZEN = frozenset("Tt")
"""States of a process that SIGSTOP or a debugger holds."""


class Judged(NamedTuple):
    """The parts of a worker that are looked at."""

    pool: Pool
    nursery: Nursery | None
    settler: Settler
    held: HeldTable
    lease: float
    makes_on_demand: bool = False
    """Whether task processes are made as tasks come."""
    audit: AuditLog | None = None


class Health:
    """Judges one worker. Safe from threads; waits for nothing."""

    def __init__(self, vitals: Vitals, parts: Judged, *, probe: Probe | None, clock: Clock) -> None:
        self._vitals = vitals
        self._parts = parts
        self._probe = probe
        self._clock = clock
        self.has_begun = False
        self.is_stopping = False
        self._frozen_since: float | None = None

    def live(self) -> Verdict:
        """Whether it does what it can."""
        frozen = self._note_frozen()
        reasons = list(self._stalls())
        if self._frozen_since is not None:
            seconds = self._clock.monotonic() - self._frozen_since
            if seconds > LOOP_SECONDS:
                reasons += [f"{one} for {seconds:.0f} s" for one in frozen]
        return Verdict(tuple(reasons), self._details())

    def ready(self) -> Verdict:
        """Whether tasks run here, as far as their stores and processes go."""
        if self.is_stopping:
            return Verdict(("stopping: it takes no more tasks",), self._details())
        if not self.has_begun:
            return Verdict(("starting: it waits for the broker",), self._details())
        reasons = [
            *self._stalls(),
            *self._note_frozen(),
            *self._processes(),
            *self._stores(),
            *self._records(),
        ]
        return Verdict(tuple(reasons), self._details())

    def _stalls(self) -> Iterator[str]:
        for loop, seconds in self._vitals.stalled():
            if loop is Loop.CONSUMER and self.is_stopping:
                continue
            if seconds > LOOP_SECONDS:
                yield f"{loop}: has not turned for {seconds:.0f} s"

    def _stores(self) -> Iterator[str]:
        vitals, parts, now = self._vitals, self._parts, self._clock.monotonic()
        if (seconds := vitals.store_age()) > STORE_SECONDS:
            yield f"broker: no answer for {seconds:.0f} s"
        elif (seconds := vitals.age(Deed.CLAIM) or 0.0) > STORE_SECONDS and self._claims():
            yield f"broker: no claim has succeeded for {seconds:.0f} s"
        since = parts.settler.failing_since
        if since is not None and now - since > WRITING_SECONDS:
            yield f"outcomes: could not be written for {now - since:.0f} s"
        renewed = vitals.age(Deed.RENEWAL)
        if renewed is not None and len(parts.held) and renewed > 0.8 * parts.lease:
            yield f"leases: not renewed for {renewed:.0f} s of {parts.lease:g}"
        answered = None if self._probe is None else self._probe.backend_at
        if answered is not None and now - answered > STORE_SECONDS:
            yield f"result backend: no answer for {now - answered:.0f} s"

    def _claims(self) -> bool:
        """Whether it means to: it has room, and is not kept from it."""
        audit = self._parts.audit
        is_kept = audit is not None and audit.must_pause
        return not is_kept and self._parts.pool.wait_for_room(0.0) > 0

    def _records(self) -> Iterator[str]:
        audit = self._parts.audit
        if audit is not None and audit.must_pause:
            yield (
                f"audit log: {audit.path} cannot be written ({audit.failure}), and security_audit_required is set; "
                "it takes no task until it can: make room, or mend its folder"
            )

    def _processes(self) -> Iterator[str]:
        pool = self._parts.pool
        is_empty = isinstance(pool, ProcessPool) and not pool.processes
        if is_empty and not self._parts.makes_on_demand:
            yield "pool: there is no task process"

    def _note_frozen(self) -> list[str]:
        """What of the processes is stopped by a signal; and since when anything is."""
        frozen = list(self._frozen())
        if not frozen:
            self._frozen_since = None
        elif self._frozen_since is None:
            self._frozen_since = self._clock.monotonic()
        return frozen

    def _frozen(self) -> Iterator[str]:
        nursery, pool = self._parts.nursery, self._parts.pool
        if nursery is not None and nursery.pid is not None and is_frozen(nursery.pid):
            yield f"zygote: process {nursery.pid} is stopped by a signal"
        if not isinstance(pool, ProcessPool):
            return
        pids = [one.pid for one in list(pool.processes.values()) if one.pid is not None]
        if pids and all(map(is_frozen, pids)):
            yield f"pool: all {len(pids)} task processes are stopped by a signal"

    def _details(self) -> dict[str, object]:
        parts = self._parts
        details: dict[str, object] = {
            "seconds_since": self._vitals.ages(),
            "tasks_held": len(parts.held),
            "outcomes_waiting": parts.settler.waiting,
        }
        if isinstance(parts.pool, ProcessPool):
            details["processes"] = len(parts.pool.processes)
        return details


def is_frozen(pid: int, read: Callable[[int], str] | None = None) -> bool:
    """Whether a process of ours is stopped; False where that cannot be told."""
    state = (read or _state)(pid)
    return state in _FROZEN


def _state(pid: int) -> str:
    """One letter, as proc(5) has it; empty if there is no such process, or no such file system."""
    if sys.platform != "linux":
        return ""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return told.rpartition(")")[2].split()[0]
