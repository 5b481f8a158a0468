"""The tally: counts what becomes of messages, a batch at a time, under names that cannot multiply.

Labels come from the worker's own tables: registered tasks, consumed queues. Everything else that a message says of
itself is `_unknown` or `_other`, so nobody can fill a Prometheus server by inventing names.
"""

from __future__ import annotations

import re
from collections import Counter as Count
from collections.abc import Collection, Mapping, Sequence

from cardoon import states
from cardoon.broker import Cause, DeadLetter, Quarantine, Requeue
from cardoon.exceptions import Refusal
from cardoon.metrics import OTHER, Counter, Registry, Sample
from cardoon.sender import Call
from cardoon.worker.catalogue import Catalogue
from cardoon.worker.concluding import REVOKED, Conclusion
from cardoon.worker.held import Held

UNKNOWN = "_unknown"
MAX_EXCEPTIONS = 100
"""Names of exceptions that are told apart: task code chooses them."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")

_OUTCOMES = {
    states.SUCCESS: "succeeded",
    states.FAILURE: "failed",
    states.RETRY: "retried",
    states.REVOKED: "revoked",
    states.REJECTED: "rejected",
    states.IGNORED: "ignored",
}


class Tally:
    """Counts for one worker. Called from the consumer's thread and the settler's."""

    def __init__(
        self, registry: Registry, *, worker: str, tasks: Catalogue, queues: Collection[str]
    ) -> None:
        self._worker = worker
        self._tasks = tasks
        self._queues = frozenset(queues)
        self._exceptions: set[str] = set()
        labels = ("name", "queue_name", "hostname")
        failing = (*labels, "exception")

        def count(what: str, text: str, names: Sequence[str] = labels) -> Counter:
            return registry.counter(
                (f"celery_task_{what}_total", f"cardoon_task_{what}_total"), text, names
            )

        made = {
            "sent": count("sent", "Calls that tasks have sent through this worker."),
            "received": count("received", "Messages that were verified and taken to be run."),
            "started": count("started", "Tasks that were handed to a process."),
            "succeeded": count("succeeded", "Tasks that returned."),
            "failed": count("failed", "Tasks that failed for good.", failing),
            "retried": count("retried", "Tasks that will run again because they asked.", failing),
            "rejected": count("rejected", "Tasks whose message was rejected."),
            "revoked": count("revoked", "Tasks that were revoked, or too old to begin."),
            "ignored": count("ignored", "Tasks that wanted no result stored."),
        }
        own = {
            "replaced": "Tasks that put a canvas in their place.",
            "handed_back": "Messages that went back to their queue unbegun, or because the worker stops.",
            "crashed": "Processes lost under a task that will run again.",
            "dead_lettered": "Messages that were put away as dead letters.",
            "quarantined": "Verified messages that were put away in the quarantine.",
        }
        for name, text in own.items():
            made[name] = registry.counter((f"cardoon_task_{name}_total",), text, labels)
        self._counters = made
        self._runtime = registry.histogram(
            ("celery_task_runtime", "cardoon_task_runtime_seconds"),
            "Seconds that a task ran.",
            labels,
        )

    def received(self, ready: Sequence[Held]) -> None:
        """These are verified, and are handed to the pool."""
        for one in ready:
            one.is_counted = True
        counts = Count(self._labels(one.task, one.queue) for one in ready)
        self._add("received", counts)
        self._add("started", counts)

    def ended(self, ends: Sequence[tuple[Held, Conclusion]]) -> None:
        """These have ended; some of them were never handed to the pool."""
        counts: dict[str, Count[tuple[str, ...]]] = {}
        runtimes: list[Sample] = []
        for held, conclusion in ends:
            labels = self._labels(held.task, held.queue)
            if not held.is_counted:
                counts.setdefault("received", Count())[labels] += 1
            outcome = outcome_of(conclusion)
            if outcome in {"failed", "retried"}:
                key = (*labels, self._exception(held, conclusion))
                counts.setdefault(outcome, Count())[key] += 1
            else:
                counts.setdefault(outcome, Count())[labels] += 1
            if isinstance(conclusion.settlement, DeadLetter):
                counts.setdefault("dead_lettered", Count())[labels] += 1
            elif isinstance(conclusion.settlement, Quarantine):
                counts.setdefault("quarantined", Count())[labels] += 1
            if held.runtime is not None:
                runtimes.append((labels, held.runtime))
        for outcome, count in counts.items():
            self._add(outcome, count)
        if runtimes:
            self._runtime.observe(runtimes)

    def refused(self, queue: str, reason: Refusal) -> None:
        """Nothing: refusals are counted by the alarm, with all others that are."""

    def sent(self, calls: Sequence[Call], stand_ins: Mapping[str, str]) -> None:  # noqa: ARG002
        """Task code has sent these."""
        self._add("sent", Count(self._labels(call.task, call.queue) for call in calls))

    def _add(self, what: str, counts: Count[tuple[str, ...]]) -> None:
        self._counters[what].add(counts)

    def _labels(self, task: str, queue: str) -> tuple[str, ...]:
        name = task if task in self._tasks else UNKNOWN
        return (name, self._queue(queue), self._worker)

    def _queue(self, queue: str) -> str:
        return queue if queue in self._queues else OTHER

    def _exception(self, held: Held, conclusion: Conclusion) -> str:
        name = held.error
        if conclusion.unseen is not None:
            name = conclusion.unseen[0]
        elif held.message.claims.encryption is not None:
            return UNKNOWN  # what a sealed task raised is for those who may read its result
        if not _NAME.fullmatch(name):
            return UNKNOWN
        if name not in self._exceptions:
            if len(self._exceptions) >= MAX_EXCEPTIONS:
                return OTHER
            self._exceptions.add(name)
        return name


def outcome_of(conclusion: Conclusion) -> str:
    """How a job ended, as one word."""
    settlement = conclusion.settlement
    if conclusion.event == REVOKED:
        return "revoked"
    if isinstance(settlement, Requeue):
        match settlement.cause:
            case Cause.RETRIED:
                return "retried"
            case Cause.CRASHED:
                return "crashed"
            case Cause.RELEASED:
                return "handed_back"
    if conclusion.result is not None:
        return _OUTCOMES.get(conclusion.result.state, "failed")
    # Without a result it goes on as other messages: its own, again, or a canvas.
    return "retried" if len(conclusion.calls) == 1 and _is_again(conclusion) else "replaced"


def _is_again(conclusion: Conclusion) -> bool:
    return conclusion.calls[0].id == conclusion.settlement.delivery.id
