"""What a worker holds: messages on loan whose tasks run, or soon will."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cardoon.broker import Delivery
from cardoon.log import trace_id_of
from cardoon.message.headers import asked_task
from cardoon.message.protocol import MAX_COUNT
from cardoon.sandbox.violations import Violations
from cardoon.security.gate import VerifiedMessage
from cardoon.security.replay import NonceClaim
from cardoon.worker.catalogue import TaskRules
from cardoon.worker.inputs import Inputs


class Held:
    """One message on loan, verified, with all that is needed to end the loan."""

    __slots__ = (
        "answer_codec",
        "begun_at",
        "broadcast",
        "delivery",
        "denied",
        "error",
        "headers",
        "inputs",
        "is_counted",
        "is_ending",
        "isolation",
        "key",
        "message",
        "on_begun",
        "profile",
        "revoked",
        "rules",
        "runtime",
        "settled",
        "taken_at",
        "violations",
    )

    def __init__(
        self,
        key: int,
        delivery: Delivery,
        message: VerifiedMessage,
        rules: TaskRules,
        headers: Mapping[str, Any],
        *,
        taken_at: float,
        inputs: Inputs | None = None,
        answer_codec: str | None = None,
        broadcast: str | None = None,
    ) -> None:
        self.key = key
        self.delivery = delivery
        self.message = message
        self.rules = rules
        self.headers = headers
        self.taken_at = taken_at
        """By the monotonic clock."""
        self.inputs = inputs
        self.answer_codec = answer_codec or message.claims.codec
        """How its result and its states are written by the process that runs it."""
        self.broadcast = broadcast
        """The broadcast queue that it was sent to, of a worker's own copy."""
        self.settled = False
        """Acknowledged before it ran (`acks_late=False`); only its result is still to be stored."""
        self.is_ending = False
        """Its end is being written. Whether its loan still was ours, the store says then."""
        self.denied: str | None = None
        """Why its signer may not ask for this; it is not to run."""
        self.revoked: str | None = None
        """The signal of a revocation that wants it stopped."""
        self.profile = 0
        """Which sandbox of the worker's table its job gets."""
        self.isolation = ""
        """What its process is held to, as its result tells it; empty before it has one."""
        self.violations = Violations()
        """What its sandbox has refused it."""
        self.runtime: float | None = None
        """Seconds for which it ran; None as long as that is not known."""
        self.is_counted = False
        """Whether a tally has it among those that were received."""
        self.error = ""
        """The type of the exception that it raised, as its process says."""
        self.on_begun: Callable[[int], None] | None = None
        """Is told the key of its job when that begins; see `worker.eventing`."""
        self.begun_at: float | None = None
        """When it began, by the monotonic clock, where somebody wants to know."""

    @property
    def id(self) -> str:
        """The task id, as signed."""
        return self.message.claims.id

    @property
    def task(self) -> str:
        """The task's name, as signed."""
        return self.message.claims.task

    @property
    def queue(self) -> str:
        """The queue that it was sent to."""
        return self.broadcast or self.delivery.queue

    @property
    def retries(self) -> int:
        """How often it has run and asked to run again, in this message and those before it."""
        # The store's count may be anything; what is signed with it must be one that can be.
        counted = min(max(self.delivery.retries, 0), MAX_COUNT)
        return min((self.message.claims.retries or 0) + counted, MAX_COUNT)

    @property
    def answered(self) -> bytes:
        """What its result must name: SHA-256 of the claims that the client signed.

        A message that took another's place when a retry changed the arguments names the first one.
        """
        return self.message.claims.request or self.message.digest

    @property
    def asked(self) -> str:
        """The task that its result is of: the client's, whatever has taken its place since."""
        claims = self.message.claims
        return claims.task if claims.request is None else asked_task(claims.task, claims.headers)

    @property
    def is_awaited(self) -> bool:
        """Whether other tasks wait for its end."""
        return bool(self.headers.get("links"))

    @property
    def is_kept_till_end(self) -> bool:
        """Whether its message must be there for as long as it runs, even if it is to run once at most.

        What others wait for, or nobody would tell them of its loss; and what the broker counts.
        """
        return self.is_awaited or bool(self.headers.get("bound"))

    @property
    def log_extra(self) -> dict[str, Any]:
        """What a record of the log says besides its text."""
        user = self.headers.get("headers")
        trace = trace_id_of(user) if isinstance(user, dict) else None
        return {"task_name": self.task, "task_id": self.id, "trace_id": trace}

    @property
    def ignores_result(self) -> bool:
        """Whether nobody wants the result."""
        return bool(self.headers.get("ignore_result", self.rules.ignore_result))


def nonce_claims(held: Sequence[Held]) -> list[NonceClaim]:
    """What is claimed before these are carried out."""
    claims = []
    for one in held:
        loan = one.delivery
        claims.append(NonceClaim(one.message.nonce, loan.receipt, loan.attempt, loan.crashes))
    return claims


class HeldTable:
    """The messages on loan, by job key; used by every thread of the worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the tables
        self._numbers = itertools.count(1)
        self._by_key: dict[int, Held] = {}
        self.totals: Counter[str] = Counter()
        """How many were held so far, by task: only of tasks that this worker knows."""

    def new_key(self) -> int:
        """A job key that was never used."""
        return next(self._numbers)

    def add(self, held: Sequence[Held]) -> None:
        """Hold these."""
        with self._lock:
            self._by_key.update((one.key, one) for one in held)
            self.totals.update(one.task for one in held)

    def get(self, key: int) -> Held | None:
        """The message of a job."""
        return self._by_key.get(key)

    def note_runtime(self, key: int, seconds: float) -> None:
        """The job of this key has run for so long; nothing happens if it is held no more."""
        held = self._by_key.get(key)
        if held is not None:
            held.runtime = seconds

    def remove(self, key: int) -> Held | None:
        """Let go of a job's message."""
        with self._lock:
            return self._by_key.pop(key, None)

    def all(self) -> list[Held]:
        """Everything held at this moment."""
        with self._lock:
            return list(self._by_key.values())

    def with_id(self, task_id: str) -> list[Held]:
        """What is held of one task."""
        return [held for held in self.all() if held.id == task_id]

    def __len__(self) -> int:
        return len(self._by_key)
