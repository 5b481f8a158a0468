"""Notices: what the worker tells the process that has the app, so that signals can be sent there.

The worker runs no receiver itself. A notice is a small JSON object that names a signal and says what
happened; it holds what was signed of a message and never its body, which the worker does not decode.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from cardoon.broker import Delivery, Quarantine
from cardoon.exceptions import Refusal, RefusedError
from cardoon.sender import Call
from cardoon.worker.concluding import EXPIRED, REVOKED, Conclusion
from cardoon.worker.held import Held

OF_MESSAGES = frozenset(
    {"task_received", "task_revoked", "task_rejected", "task_unknown", "task_failure"}
)
OF_ENDINGS = frozenset({"task_revoked", "task_rejected", "task_failure"})
OF_THE_WORKER = frozenset(
    {"worker_ready", "worker_shutting_down", "worker_shutdown", "heartbeat_sent"}
)
NOTICES = OF_MESSAGES | OF_THE_WORKER
"""Signals that a worker sends notices for."""
HEARD = NOTICES | {"worker_process_shutdown"}
"""Signals of which a worker wants to know whether anybody hears them."""
MAX_DETAIL = 1024
"""Characters of a reason."""


class Notices(Protocol):
    """Takes notices from any thread, without waiting; those of signals that nobody hears are dropped."""

    @property
    def wanted(self) -> frozenset[str]:
        """The signals that have receivers."""
        ...

    def tell(self, name: str, told: Mapping[str, Any]) -> None:
        """Have the signal `name` sent."""
        ...


class Watcher(Protocol):
    """Is told what becomes of messages, batch by batch. Must neither wait nor raise."""

    def received(self, ready: Sequence[Held]) -> None:
        """These are about to run."""
        ...

    def ended(self, ends: Sequence[tuple[Held, Conclusion]]) -> None:
        """These have ended, and it is written; or they go on, and it is about to be."""
        ...

    def refused(self, queue: str, reason: Refusal) -> None:
        """A message was refused."""
        ...

    def sent(self, calls: Sequence[Call], stand_ins: Mapping[str, str]) -> None:
        """Task code has sent these; for some of them others stand in, which were there before."""
        ...


def tell_sent(
    watchers: Sequence[Watcher], calls: Sequence[Call], stand_ins: Mapping[str, str]
) -> None:
    """Tell all of them what task code has sent."""
    for watcher in watchers:
        watcher.sent(calls, stand_ins)


def tell_received(notices: Notices, ready: Iterable[Held]) -> None:
    """`task_received`, for each message that is about to run."""
    if "task_received" in notices.wanted:
        for held in ready:
            notices.tell("task_received", {"call": _call(held)})


def tell_unknown(notices: Notices, held: Held) -> None:
    """`task_unknown`: nobody here knows its task, and no other worker took it in time."""
    if "task_unknown" in notices.wanted:
        notices.tell("task_unknown", {"call": _call(held)})


def tell_refused(notices: Notices, delivery: Delivery, error: RefusedError) -> None:
    """`task_rejected`. What a refused message says of itself is nobody's word, and stays here."""
    if "task_rejected" in notices.wanted:
        told = {"queue": delivery.queue, "id": delivery.id[:MAX_DETAIL]}
        notices.tell("task_rejected", {**told, **_reason(error.reason.value, error.detail)})


def tell_ended(notices: Notices, held: Held, conclusion: Conclusion) -> None:
    """The signal of an end that no task process has seen: revoked, killed, lost, unreadable."""
    if conclusion.event == REVOKED:
        ended = {
            "terminated": bool(conclusion.signal),
            "signum": signal_number(conclusion.signal),
            "expired": conclusion.detail == EXPIRED,
        }
        _tell_of(notices, "task_revoked", held, ended)
    elif conclusion.unseen is not None:
        kind, message = conclusion.unseen
        error = {"type": kind, "message": message[:MAX_DETAIL]}
        _tell_of(notices, "task_failure", held, {"error": error})
    elif isinstance(conclusion.settlement, Quarantine):
        settlement = conclusion.settlement
        told = {"queue": held.queue, "id": held.id}
        notices.tell("task_rejected", {**told, **_reason(settlement.reason, settlement.detail)})


def _tell_of(notices: Notices, name: str, held: Held, told: Mapping[str, Any]) -> None:
    if name in notices.wanted:
        notices.tell(name, {"call": _call(held), **told})


def _call(held: Held) -> dict[str, Any]:
    """What a JOB frame says of a message, besides its body."""
    claims, signer = held.message.claims, held.message.signer
    return {
        "task": claims.task,
        "id": claims.id,
        "retries": held.retries,
        "max_retries": claims.max_retries,
        "eta": claims.eta,
        "expires": claims.expires,
        "root": claims.root,
        "parent": claims.parent,
        "headers": held.headers,
        "queue": held.queue,
        "attempt": held.delivery.attempt,
        "origin": None if signer is None else signer.name,
        "group": claims.group,
    }


def _reason(reason: str, detail: str) -> dict[str, str]:
    return {"reason": reason, "detail": detail[:MAX_DETAIL]}


def signal_number(name: str) -> int | None:
    """The number of a signal that was named by who revoked the task."""
    return signal.Signals[name].value if name in signal.Signals.__members__ else None
