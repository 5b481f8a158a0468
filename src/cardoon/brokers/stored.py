"""A message of the memory broker, as it lies in a queue, on loan, dormant or kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import assert_never

from cardoon.broker import Delivery, Input, Kept, KeptMessage, Limit, Outcome, Outgoing, Trigger
from cardoon.security.replay import Nonce

FIRST_PAUSE_SECONDS = 1.0
LATER_PAUSE_SECONDS = 10.0
"""How long a message rests after the first crash of its process, and after later ones."""


@dataclasses.dataclass(slots=True)
class Message:
    """One message that has not ended."""

    number: int
    queue: str
    id: str
    frame: bytes
    priority: int
    due: float
    attempt: int = 0
    crashes: int = 0
    retries: int = 0
    lease_until: float | None = None
    """None while it waits."""
    dormant: Dormancy | None = None
    """None as soon as it may run, or is to be closed."""
    unique: str | None = None
    limit: str | None = None
    """Keys."""

    def lend(self, inputs: tuple[Input, ...], *, until: float) -> Delivery:
        """Lease it once more, until a time of the monotonic clock."""
        self.attempt += 1
        self.lease_until = until
        return Delivery(
            self.queue,
            self.id,
            self.frame,
            self.number,
            self.attempt,
            self.crashes,
            self.retries,
            self.priority,
            inputs,
        )

    def shown(self, number: int, reason: str, detail: str, *, kept_at: float) -> KeptMessage:
        """It as it is kept, under a number of its own."""
        return KeptMessage(
            number=number,
            queue=self.queue,
            id=self.id,
            reason=reason,
            detail=detail,
            kept_at=kept_at,
            frame=self.frame,
            attempt=self.attempt,
            crashes=self.crashes,
            retries=self.retries,
        )

    def go_on_from(self, shown: KeptMessage) -> None:
        """Have the counts that it had when it was put away."""
        self.attempt, self.crashes, self.retries = shown.attempt, shown.crashes, shown.retries


@dataclasses.dataclass(slots=True)
class Dormancy:
    """What a message waits for."""

    missing: set[str]
    trigger: Trigger
    run_at: float | None
    delay: float
    since: float

    def hear(self, name: str, outcome: Outcome, *, now: float) -> float | None:
        """When it is due, now that one has ended so: None as long as it has to wait, infinity for never."""
        self.missing.discard(name)
        match self.trigger:
            case Trigger.SUCCESS if not outcome.succeeded:
                return now
            case Trigger.FAILURE if outcome.succeeded or outcome.skipped:
                return math.inf
            case Trigger.SUCCESS if self.missing:
                return None
            case Trigger.SUCCESS | Trigger.FAILURE:
                due = now + self.delay
                return due if self.run_at is None else max(due, self.run_at)
            case _:
                assert_never(self.trigger)


@dataclasses.dataclass(slots=True)
class Put:
    """A message that is kept."""

    place: Kept
    shown: KeptMessage
    priority: int
    nonce: Nonce | None
    inputs_of: int
    """The number that the message had."""
    unique: str | None
    limit: Limit | None
    """What counted for its key at that time."""

    def to_send_again(self) -> Outgoing:
        """It as a message that waits for nothing and shares nothing."""
        return Outgoing(self.shown.queue, self.shown.id, self.shown.frame, self.priority)


def take_back(messages: Iterable[Message], *, now: float, monotonic: float) -> int:
    """Give up the leases that are over, each with one crash; return how many."""
    taken_back = 0
    for message in messages:
        if message.lease_until is not None and message.lease_until <= monotonic:
            pause = LATER_PAUSE_SECONDS if message.crashes else FIRST_PAUSE_SECONDS
            message.lease_until = None
            message.crashes += 1
            message.due = now + pause
            taken_back += 1
    return taken_back
