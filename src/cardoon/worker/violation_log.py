"""The violation log: has what sandboxes refuse written down: log, audit trail, and the task's result."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from cardoon.audit import AuditLog
from cardoon.sandbox.violations import MAX_KINDS, MORE, Violation
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.pool import Crashed, Ending, OnEnded

logger = logging.getLogger(__name__)

EVENT = "sandbox.violation"


class ViolationLog:
    """Writes for one worker. Called by the thread that supervises processes, before a job's end is told."""

    def __init__(self, *, held: HeldTable, audit: AuditLog, worker: str) -> None:
        self._held = held
        self._audit = audit
        self._worker = worker
        self.counts: Counter[str] = Counter()
        """Since the worker began, by the field of a profile or the system call; no more kinds than MAX_KINDS."""
        self.on_found: Callable[[Held, Violation], None] = lambda *_: None

    def before(self, told: OnEnded) -> OnEnded:
        """A listener to the ends of jobs that writes down what they say of sandboxes, and passes them on."""

        def ended(key: int, ending: Ending) -> None:
            if isinstance(ending, Crashed) and ending.violations:
                self.take(key, ending.violations)
            told(key, ending)

        return ended

    def take(self, key: int, found: Sequence[Violation]) -> None:
        """Count what the job of this key was refused; each kind is written down once."""
        held = self._held.get(key)
        if held is None:  # its lease was lost, and somebody else runs the task
            return
        for one in found:
            is_known = one.rule in self.counts or len(self.counts) < MAX_KINDS
            self.counts[one.rule if is_known else MORE] += one.count
            if not held.violations.add(one):
                continue
            logger.warning("task %s[%s]: %s", held.task, held.id, one.describe())
            self._audit.record(
                EVENT,
                task=held.task,
                task_id=held.id,
                rule=one.rule,
                detail=one.detail,
                by=one.by,
                count=one.count,
                isolation=held.isolation or None,
                worker=self._worker,
            )
            self.on_found(held, one)
