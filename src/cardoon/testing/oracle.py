"""What a broker with all optional powers does, as plain data: the model that drivers are held to.

Written apart from every driver, for reading and not for speed. Time comes in with each call.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from cardoon.backend import SealedResult
from cardoon.broker import (
    RATE_SLACK_SECONDS,
    STRAY_GRACE_SECONDS,
    Ack,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Input,
    Kept,
    Limit,
    LimitUse,
    Outcome,
    Outgoing,
    Quarantine,
    Requeue,
    Trigger,
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
    sent_at: float = 0.0
    dormant: bool = False
    unique: str | None = None
    """The key that it holds."""

    @property
    def predecessors(self) -> list[str]:
        """The ids of those that it waits or waited for."""
        return [predecessor.id for predecessor in self.message.after]

    @property
    def key(self) -> str | None:
        """The key of its limit."""
        return None if self.message.limit is None else self.message.limit.key


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
    outcomes: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    """How those ended that somebody waits or waited for."""
    places: int = 0
    limits: dict[str, Limit] = dataclasses.field(default_factory=dict)
    """What counts for each key."""
    next_at: dict[str, float] = dataclasses.field(default_factory=dict)
    """When the next message of a key may be leased."""
    recent: dict[str, tuple[str, float]] = dataclasses.field(default_factory=dict)
    """Who was sent with a unique key, and until when that keeps others away."""
    resting: set[str] = dataclasses.field(default_factory=set)
    """Queues from which nothing is lent."""

    def publish(
        self, outgoing: Iterable[Outgoing], now: float, *, replaces: bool = False
    ) -> dict[str, str]:
        """Store what is not stored; then tell those that wait what is known.

        Returns who stands in for whom. What `replaces` another message is never turned away.
        """
        sent = []
        stand_ins: dict[str, str] = {}
        for message in outgoing:
            holder = None if replaces else self._stand_in(message, now)
            if holder is not None:
                stand_ins[message.id] = holder
            elif message.id not in self.messages:
                sent.append(self._store(message, now, is_send=not replaces))
        self._rouse(sent, now)
        return stand_ins

    def is_open(self, key: str, now: float) -> bool:
        """Whether one more message of a key may be leased."""
        limit = self.limits[key]
        is_full = 0 < limit.most <= self._running()[key]
        return not is_full and not (limit.gap and self.next_at.get(key, 0.0) > now)

    def held_back(self, now: float) -> list[Stored]:
        """Messages that are due, but whose key is not open."""
        return [
            stored
            for stored in self.messages.values()
            if stored.key is not None
            and self._is_due(stored, now)
            and not self.is_open(stored.key, now)
        ]

    def uses(self, now: float) -> list[LimitUse]:
        """What holds messages back."""
        found = []
        for key, waiting in Counter(stored.key for stored in self.held_back(now)).items():
            assert key is not None
            limit = self.limits[key]
            wait = self.next_at.get(key, 0.0) - now if limit.gap else 0.0
            found.append(
                LimitUse(
                    key=key,
                    most=limit.most,
                    gap=limit.gap,
                    running=self._running()[key] if limit.most else 0,
                    waiting=waiting,
                    opens_in=wait if wait > 0 else None,
                )
            )
        return sorted(found, key=lambda use: (-use.waiting, use.key))

    def line(self, queue: str, now: float) -> list[str]:
        """The ids that a queue would lend next, in order; the first one may close a key."""
        if queue in self.resting:
            return []
        due = [
            stored
            for stored in self.messages.values()
            if stored.message.queue == queue
            and self._is_due(stored, now)
            and (stored.key is None or self.is_open(stored.key, now))
        ]
        due.sort(key=lambda stored: (-stored.message.priority, stored.place))
        return [stored.message.id for stored in due]

    def follow(
        self,
        deliveries: Sequence[Delivery],
        queues: Sequence[str],
        limit: int,
        now: float,
        until: float,
    ) -> None:
        """Follow a driver in what it lends; whose turn it is among the queues is its own business."""
        if len(deliveries) > limit:
            raise AssertionError(f"lent {len(deliveries)}, asked for {limit}")
        for delivery in self.in_turn(deliveries, now):
            line = self.line(delivery.queue, now)  # anew, since each may have closed a key
            if [delivery.id] != line[:1]:
                raise AssertionError(f"lent {delivery}, expected {line[:1]}")
            self.lend(delivery, until, now)
        left = {queue: self.line(queue, now) for queue in queues}
        if len(deliveries) < limit and any(left.values()):
            raise AssertionError(f"lent nothing of {left}")

    def in_turn(self, deliveries: Sequence[Delivery], now: float) -> Iterator[Delivery]:  # noqa: ARG002
        """Deliveries in the order in which they were lent, which is that in which they came."""
        yield from deliveries

    def lend(self, delivery: Delivery, until: float, now: float) -> None:
        """Follow a driver in one loan, which must carry all that is known of the message."""
        stored = self.messages[delivery.id]
        if stored.key is not None and (gap := self.limits[stored.key].gap):
            before = self.next_at.get(stored.key, 0.0)
            self.next_at[stored.key] = max(before, now - RATE_SLACK_SECONDS) + gap
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
            tuple(
                Input(each.id, each.request, self.outcomes[each.id].frame)
                if each.id in self.outcomes
                else Input(each.id, each.request, None)
                for each in stored.message.after
            ),
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

    def complete(self, completions: Iterable[Completion], now: float) -> list[bool]:
        """End loans with all that belongs to each, or do nothing where one is lost."""
        taken: list[bool] = []
        sent: list[Outgoing] = []
        ended: dict[str, Outcome] = {}
        for completion in completions:
            delivery = completion.settlement.delivery
            taken.append(self.holds(delivery))
            if not taken[-1]:
                continue
            self._settle(completion, now)
            if completion.result is not None:
                if completion.result.final:
                    self.results.pop(completion.result.task_id, None)
                self.store(completion.result)
            sent += [each for each in completion.publish if each.id not in self.messages]
            if completion.outcome is not None and not isinstance(completion.settlement, Requeue):
                ended[delivery.id] = completion.outcome
        self._forget_outcomes()
        self.publish(sent, now, replaces=True)
        waited_for = {name for stored in self._all() for name in stored.predecessors}
        for name, outcome in ended.items():
            if name in waited_for:
                self.outcomes.setdefault(name, outcome)
        self._rouse(list(self.messages.values()), now)
        self._forget_outcomes()
        return taken

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
        for stored in self.strays(now):
            stored.dormant, stored.due = False, now
        return taken_back

    def strays(self, now: float) -> list[Stored]:
        """Dormant messages past their grace that wait for one that is nowhere."""
        there = {stored.message.id for stored in self._all()} | self.outcomes.keys()
        return [
            stored
            for stored in self.messages.values()
            if stored.dormant
            and stored.sent_at + STRAY_GRACE_SECONDS <= now
            and not there.issuperset(stored.predecessors)
        ]

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue."""
        doomed = [
            stored.message.id
            for stored in self.messages.values()
            if stored.message.queue == queue and stored.token is None
        ]
        for name in doomed:
            del self.messages[name]
        self._forget_outcomes()
        return len(doomed)

    def discard(self, where: Kept, index: int) -> None:
        """Delete the message that is kept at this place among those kept there."""
        self.kept.remove([each for each in self.kept if each.where is where][index])
        self._forget_outcomes()

    def restore(self, where: Kept, index: int, now: float) -> bool:
        """Put back the message that is kept at this place among those kept there."""
        put = [each for each in self.kept if each.where is where][index]
        message = put.stored.message
        holders = {stored.unique for stored in self.messages.values()} - {None}
        if message.id in self.messages or put.stored.unique in holders:
            return False
        self.kept.remove(put)
        present = self.limits.get(put.stored.key or "") if self._is_stored(put.stored.key) else None
        if present is not None:
            message = message._replace(limit=present)
        unique = message.unique if put.stored.unique is not None else None
        back = self._store(message._replace(run_at=None, unique=unique), now, is_send=False)
        back.dormant, back.due = False, now
        if where is Kept.QUARANTINE:
            back.attempt, back.crashes = put.stored.attempt, put.stored.crashes
            back.retries = put.stored.retries
        if put.nonce is not None:
            self.marks.pop(put.nonce, None)
        return True

    def _settle(self, completion: Completion, now: float) -> None:
        settlement = completion.settlement
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

    def _store(self, message: Outgoing, now: float, *, is_send: bool) -> Stored:
        self.places += 1
        due = now if message.run_at is None else message.run_at
        stored = Stored(message, self.places, due, sent_at=now, dormant=bool(message.after))
        holders = {other.unique for other in self.messages.values()}
        if message.unique is not None and message.unique.key not in holders:
            stored.unique = message.unique.key
            if is_send and message.unique.period:
                until = now + message.unique.period
                self.recent[message.unique.key] = (message.id, until)
        self.messages[message.id] = stored
        if message.limit is not None:
            self.limits[message.limit.key] = message.limit
        return stored

    def _stand_in(self, message: Outgoing, now: float) -> str | None:
        """The id of the message in whose favour this one is not stored."""
        if message.unique is None:
            return None
        if message.id in self.messages:
            return message.id
        for stored in self.messages.values():
            if stored.unique == message.unique.key:
                return stored.message.id
        name, until = self.recent.get(message.unique.key, ("", now))
        return name if until > now else None

    def _is_stored(self, key: str | None) -> bool:
        return any(stored.key == key for stored in self.messages.values())

    def _running(self) -> Counter[str | None]:
        return Counter(each.key for each in self.messages.values() if each.token is not None)

    def _is_due(self, stored: Stored, now: float) -> bool:
        return stored.token is None and not stored.dormant and stored.due <= now

    def _end(self, stored: Stored, nonce: Nonce | None) -> None:
        if stored.key is not None:
            stored.message = stored.message._replace(limit=self.limits[stored.key])
        del self.messages[stored.message.id]
        if nonce is not None:
            self.finish(nonce)

    def _rouse(self, asleep: Iterable[Stored], now: float) -> None:
        """Wake dormant messages, or drop them and what waits for them, as far as ends are known."""
        dropped = [stored for stored in asleep if self._is_dropped(stored, now)]
        while dropped:
            gone = dropped.pop()
            self.messages.pop(gone.message.id, None)
            for stored in self.messages.values():
                if stored.dormant and gone.message.id in stored.predecessors:
                    stored.dormant = False
                    dropped.append(stored)

    def _is_dropped(self, stored: Stored, now: float) -> bool:
        """Wake one dormant message if it is time; whether it never can run."""
        if not stored.dormant:
            return False
        message = stored.message
        ends = [self.outcomes[name] for name in stored.predecessors if name in self.outcomes]
        failed = any(not outcome.succeeded for outcome in ends)
        if message.trigger is Trigger.FAILURE:
            stored.dormant = not ends
            if any(outcome.succeeded or outcome.skipped for outcome in ends):
                return True
        else:
            stored.dormant = not failed and len(ends) < len(message.after)
        if not stored.dormant:
            at_once = failed and message.trigger is Trigger.SUCCESS
            stored.due = now if at_once else max(now + message.delay, message.run_at or 0)
        return False

    def _all(self) -> list[Stored]:
        return [*self.messages.values(), *(put.stored for put in self.kept)]

    def _forget_outcomes(self) -> None:
        waited_for = {name for stored in self._all() for name in stored.predecessors}
        self.outcomes = {
            name: outcome for name, outcome in self.outcomes.items() if name in waited_for
        }
