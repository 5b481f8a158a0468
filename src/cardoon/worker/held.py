"""What a worker holds: messages on loan whose tasks run, or soon will."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cardoon.broker import Delivery
from cardoon.message.protocol import MAX_COUNT
from cardoon.security.gate import VerifiedMessage
from cardoon.worker.catalogue import TaskRules
from cardoon.worker.inputs import Inputs


class Held:
    """One message on loan, verified, with all that is needed to end the loan."""

    __slots__ = (
        "answer_codec",
        "broadcast",
        "delivery",
        "denied",
        "headers",
        "inputs",
        "key",
        "message",
        "revoked",
        "rules",
        "settled",
        "taken_at",
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
        self.denied: str | None = None
        """Why its signer may not ask for this; it is not to run."""
        self.revoked: str | None = None
        """The signal of a revocation that wants it stopped."""

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
    def request(self) -> bytes:
        """What its result must name: the message that the client signed.

        A message that took another's place when a retry changed the arguments names the first one.
        """
        return self.message.claims.request or self.message.request

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
    def ignores_result(self) -> bool:
        """Whether nobody wants the result."""
        return bool(self.headers.get("ignore_result", self.rules.ignore_result))


class HeldTable:
    """The messages on loan, by job key; used by every thread of the worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the tables
        self._numbers = itertools.count(1)
        self._by_key: dict[int, Held] = {}

    def new_key(self) -> int:
        """A job key that was never used."""
        return next(self._numbers)

    def add(self, held: Sequence[Held]) -> None:
        """Hold these."""
        with self._lock:
            self._by_key.update((one.key, one) for one in held)

    def get(self, key: int) -> Held | None:
        """The message of a job."""
        return self._by_key.get(key)

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
