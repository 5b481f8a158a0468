"""What a broker with all optional powers does, as plain data: the model that drivers are held to.

Written apart from every driver, for reading and not for speed. Time comes in with each call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import assert_never

from cardoon.backend import SealedResult
from cardoon.broker import (
    Ack,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Kept,
    Outgoing,
    Quarantine,
    Requeue,
)
from cardoon.security.replay import Nonce, NonceClaim, NonceState


@dataclasses.dataclass(slots=True)
class Stored:
    """One message, as it lies in a queue or on loan."""

    message: Outgoing
    place: int
    """In the line; later is larger."""
    due: float
    attempt: int = 0
    crashes: int = 0
    retries: int = 0
    lease_until: float | None = None
    token: tuple[int | str, int] | None = None
    """Receipt and attempt of the loan that holds it."""


@dataclasses.dataclass(slots=True)
class Put:
    """One message that is kept."""

    where: Kept
    stored: Stored
    nonce: Nonce | None


@dataclasses.dataclass(slots=True)
class Oracle:
    """All state of a broker and of the result backend beside it."""

    messages: dict[str, Stored] = dataclasses.field(default_factory=dict)
    kept: list[Put] = dataclasses.field(default_factory=list)
    results: dict[str, SealedResult] = dataclasses.field(default_factory=dict)
    marks: dict[Nonce, tuple[int | str, int] | None] = dataclasses.field(default_factory=dict)
    """Who claimed a nonce last; None once it is done."""
    places: int = 0

    def publish(self, outgoing: Iterable[Outgoing], now: float) -> None:
        """Store what is not stored."""
        for message in outgoing:
            if message.id not in self.messages:
                self.places += 1
                due = now if message.run_at is None else message.run_at
                self.messages[message.id] = Stored(message, self.places, due)

    def line(self, queue: str, now: float) -> list[str]:
        """The ids that a queue would lend, in order."""
        due = [
            stored
            for stored in self.messages.values()
            if stored.message.queue == queue and stored.token is None and stored.due <= now
        ]
        due.sort(key=lambda stored: (-stored.message.priority, stored.place))
        return [stored.message.id for stored in due]

    def lend(self, delivery: Delivery, until: float) -> None:
        """Follow a driver in what it lends, and check all that it says about it."""
        stored = self.messages[delivery.id]
        stored.attempt += 1
        stored.lease_until = until
        stored.token = (delivery.receipt, delivery.attempt)
        expected = Delivery(
            stored.message.queue,
            stored.message.id,
            stored.message.frame,
            delivery.receipt,
            stored.attempt,
            stored.crashes,
            stored.retries,
            stored.message.priority,
        )
        if delivery != expected:
            raise AssertionError(f"lent {delivery}, expected {expected}")

    def holds(self, delivery: Delivery) -> bool:
        """Whether a loan is still on."""
        stored = self.messages.get(delivery.id)
        return stored is not None and stored.token == (delivery.receipt, delivery.attempt)

    def extend(self, delivery: Delivery, until: float) -> bool:
        """Renew a lease that is still held."""
        if not self.holds(delivery):
            return False
        self.messages[delivery.id].lease_until = until
        return True

    def complete(self, completion: Completion, now: float) -> bool:
        """End a loan with all that belongs to it, or do nothing."""
        settlement = completion.settlement
        if not self.holds(settlement.delivery):
            return False
        stored = self.messages[settlement.delivery.id]
        match settlement:
            case Requeue(cause=cause, delay=delay):
                stored.token = stored.lease_until = None
                stored.crashes += 1 if cause is Cause.CRASHED else 0
                stored.retries += 1 if cause is Cause.RETRIED else 0
                stored.due = now + delay if delay > 0 else stored.due
            case Ack():
                self._end(stored, completion.nonce)
            case DeadLetter():
                self._end(stored, completion.nonce)
                self.kept.append(Put(Kept.DEAD_LETTER, stored, completion.nonce))
            case Quarantine():
                self._end(stored, completion.nonce)
                self.kept.append(Put(Kept.QUARANTINE, stored, completion.nonce))
            case _:
                assert_never(settlement)
        if completion.result is not None:
            if completion.result.final:
                self.results.pop(completion.result.task_id, None)
            self.store(completion.result)
        self.publish(completion.publish, now)
        return True

    def store(self, result: SealedResult) -> None:
        """Keep the first final result, and until then the latest."""
        before = self.results.get(result.task_id)
        if before is None or not before.final:
            self.results[result.task_id] = result

    def claim(self, claim: NonceClaim) -> NonceState:
        """Claim a nonce for a delivery."""
        ours = (claim.receipt, claim.attempt)
        holder = self.marks.setdefault(claim.nonce, ours)
        if holder is None:
            return NonceState.DONE
        on_loan = any(stored.token == holder for stored in self.messages.values())
        again = holder[0] == ours[0] and holder[1] <= ours[1]
        if on_loan and not again:
            return NonceState.HELD
        self.marks[claim.nonce] = ours
        return NonceState.CLAIMED

    def finish(self, nonce: Nonce) -> None:
        """Mark a nonce as done."""
        self.marks[nonce] = None

    def maintain(self, now: float, monotonic: float) -> int:
        """Take back what has run out."""
        taken_back = 0
        for stored in self.messages.values():
            if stored.lease_until is not None and stored.lease_until <= monotonic:
                stored.token = stored.lease_until = None
                stored.due = now + (10.0 if stored.crashes else 1.0)
                stored.crashes += 1
                taken_back += 1
        return taken_back

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue."""
        doomed = [
            stored.message.id
            for stored in self.messages.values()
            if stored.message.queue == queue and stored.token is None
        ]
        for name in doomed:
            del self.messages[name]
        return len(doomed)

    def restore(self, where: Kept, index: int, now: float) -> bool:
        """Put back the message that is kept at this place among those kept there."""
        put = [each for each in self.kept if each.where is where][index]
        message = put.stored.message
        if message.id in self.messages:
            return False
        self.kept.remove(put)
        self.publish([message._replace(run_at=None)], now)
        if where is Kept.QUARANTINE:
            back = self.messages[message.id]
            back.attempt, back.crashes = put.stored.attempt, put.stored.crashes
            back.retries = put.stored.retries
        if put.nonce is not None:
            self.marks.pop(put.nonce, None)
        return True

    def _end(self, stored: Stored, nonce: Nonce | None) -> None:
        del self.messages[stored.message.id]
        if nonce is not None:
            self.finish(nonce)
