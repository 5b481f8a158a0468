"""What is on record of tasks that run: that each was accepted, and how it ended (`security_audit_level = "tasks"`).

One write to the log for a batch. An acceptance is on record before its task begins, and before a message that is
acknowledged early is gone; an end when it is written, or of what goes on, just before. Never arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cardoon.audit import AuditLog
from cardoon.config import Settings
from cardoon.exceptions import Refusal
from cardoon.sender import Call
from cardoon.worker.concluding import Conclusion
from cardoon.worker.held import Held
from cardoon.worker.tally import outcome_of


class TaskRecords:
    """Writes them, as a `Watcher` that is also asked before anything begins. Called from two threads."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def accept(self, ready: Sequence[Held]) -> bool:
        """Put on record that these will run; whether they may, since a required log takes all or none."""
        self._audit.record_all("task.accepted", [_acceptance(one) for one in ready])
        return not self._audit.must_pause

    def ended(self, ends: Sequence[tuple[Held, Conclusion]]) -> None:
        """Put on record how these ended."""
        self._audit.record_all("task.ended", [_end(held, conclusion) for held, conclusion in ends])

    def received(self, ready: Sequence[Held]) -> None:
        """Nothing: it was asked before."""

    def refused(self, queue: str, reason: Refusal) -> None:
        """Nothing: refusals are on record at every level."""

    def sent(self, calls: Sequence[Call], stand_ins: Mapping[str, str]) -> None:
        """Nothing: what tasks send is on record where it is accepted."""


def records_of(settings: Settings, audit: AuditLog) -> TaskRecords | None:
    """What settings want of them."""
    return TaskRecords(audit) if settings.security_audit_level == "tasks" else None


def _acceptance(held: Held) -> Mapping[str, object]:
    signer = held.message.signer
    return {
        "task": held.task,
        "task_id": held.id,
        "queue": held.queue,
        "signer": signer and signer.name,
        "attempt": held.delivery.attempt,
    }


def _end(held: Held, conclusion: Conclusion) -> Mapping[str, object]:
    # What a sealed task raised is for those who may read its result.
    error = None if held.message.claims.encryption is not None else held.error or None
    return {
        "task": held.task,
        "task_id": held.id,
        "queue": held.queue,
        "outcome": outcome_of(conclusion),
        "error": error,
        "runtime": None if held.runtime is None else round(held.runtime, 6),
    }
