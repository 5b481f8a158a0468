"""The memory driver of the Broker contract, with all optional powers: the reference.

Everything is gone with the process, so it serves tests and programs that are their own worker. It
is written to be read: what it does is what every driver does.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import assert_never

from cardoon.broker import (
    Ack,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Kept,
    KeptMessage,
    LimitUse,
    Outcome,
    Outgoing,
    Quarantine,
    QueueDepth,
    Requeue,
    Settlement,
    Subscription,
)
from cardoon.brokers.board import Board
from cardoon.brokers.dependents import take_dropped, wake_strays
from cardoon.brokers.depths import measure
from cardoon.brokers.inputs import Inputs
from cardoon.brokers.limits import Limits, count_running, describe
from cardoon.brokers.marks import Marks
from cardoon.brokers.shelf import Shelf
from cardoon.brokers.stored import Dormancy, Message, Put, take_back
from cardoon.brokers.subscribers import Subscribers
from cardoon.brokers.unique import Holders
from cardoon.brokers.whereabouts import Lookup
from cardoon.clock import Clock, SystemClock
from cardoon.memory import MemoryResults
from cardoon.quarantine import Fill
from cardoon.security.replay import Memory, Nonce, NonceClaim, NonceState

_LOOK_AGAIN_SECONDS = 1.0
"""Scheduled messages fall due without anyone's doing."""

_REAL_TIME = SystemClock()


class MemoryBroker(Lookup, Board):
    """Broker, with all optional powers."""

    def __init__(self, *, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._results = MemoryResults(clock)
        self._changed = self._results.changed  # guards everything below
        self._queues: set[str] = set()
        self._messages: dict[int, Message] = {}
        self._by_id: dict[str, Message] = {}
        self._unique = Holders()
        self._limits = Limits()
        self._marks = Marks(self._is_on_loan, since=clock.now())
        self._inputs = Inputs()
        self._subscribers = Subscribers()
        self._paused: set[str] = set()
        self._dropped: list[Message] = []
        self._kept = Shelf()
        self._broadcasts: dict[int, tuple[float, bytes]] = {}
        self._last_number = 0
        self._turn = 0

    @property
    def results(self) -> MemoryResults:
        """The results that completions store, for a result backend that shares them."""
        return self._results

    def declare(self, queues: Sequence[str]) -> None:
        """Make the queues; doing it again changes nothing."""
        with self._changed:
            self._queues.update(queues)

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:  # noqa: ARG002
        """Store all of them, but not those whose id is stored; say who stands in for whom."""
        stand_ins: dict[str, str] = {}
        with self._changed:
            self._publish(outgoing, stand_ins)
            self._changed.notify_all()
        return stand_ins

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        """Lease up to `limit` due messages, the most urgent first; the queues take turns."""
        deadline = _REAL_TIME.monotonic() + timeout
        with self._changed:
            while not (deliveries := self._claim(awake := self._awake(queues), limit, lease)):
                remaining = deadline - _REAL_TIME.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(min(remaining, self._until_next(awake)))
            return deliveries

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew the leases, and return those that are still held."""
        with self._changed:
            kept = []
            for delivery in deliveries:
                message = self._held(delivery)
                if message is not None:
                    message.lease_until = self._clock.monotonic() + lease
                    kept.append(delivery)
            return kept

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        """End each loan; False where the lease was lost before."""
        return self.complete([Completion(settlement) for settlement in settlements])

    def close(self) -> None:
        """Nothing to let go of."""

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Settle, store results, mark nonces, publish and wake successors, in one step."""
        taken = []
        outgoing: list[Outgoing] = []
        outcomes: list[tuple[str, Outcome]] = []
        with self._changed:
            for completion in completions:
                settlement = completion.settlement
                message = self._held(settlement.delivery)
                taken.append(message is not None)
                if message is None:
                    continue
                self._settle(message, settlement, completion.nonce)
                if completion.result is not None:
                    self._results.complete(completion.result)
                # What a later completion ends is still stored now, so a send of its id is dropped.
                sent = self._subscribers.spread(completion.publish, self._clock.monotonic())
                outgoing += [one for one in sent if one.id not in self._by_id]
                if completion.outcome is not None and not isinstance(settlement, Requeue):
                    outcomes.append((message.id, completion.outcome))
            self._publish(outgoing, None)
            for name, outcome in outcomes:
                for number in self._inputs.arrive(name, outcome):
                    if number in self._messages:  # and is not kept
                        self._tell(self._messages[number], name, outcome)
            self._drop()
            self._changed.notify_all()
            return taken

    def adopt(
        self,
        messages: Sequence[Outgoing],
        *,
        lease: float,
        durable: bool,  # noqa: ARG002
    ) -> Sequence[Delivery | None]:
        """Store messages as lent; None where the id is stored."""
        with self._changed:
            return [
                None if sent.id in self._by_id else self._lend(self._store(sent), lease)
                for sent in messages
            ]

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        """Claim each nonce for its delivery, all in one step."""
        with self._changed:
            return [self._marks.claim(claim) for claim in claims]

    def finish(self, nonces: Sequence[Nonce]) -> None:
        """Mark nonces as done."""
        with self._changed:
            for nonce in nonces:
                self._marks.finish(nonce)

    def memory(self) -> Memory:
        """How far back it remembers."""
        with self._changed:
            return Memory(self._marks.since, self._last_number)

    def begin_anew(self) -> Memory:
        """Begin another epoch."""
        with self._changed:
            self._marks.since = self._clock.now()
            return self.memory()

    def maintain(self) -> int:
        """Take back what silent workers held, wake strays, and delete what has expired."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        with self._changed:
            taken_back = take_back(self._messages.values(), now=now, monotonic=monotonic)
            there = self._by_id.keys() | {put.shown.id for put in self._kept}
            wake_strays(self._messages.values(), there, now)
            self._results.purge()
            self.purge_posts()
            self._marks.purge(now)
            self._limits.keep({m.limit for m in self._messages.values() if m.limit}, now)
            self._unique.purge(now)
            self._tidy_up(self._subscribers.over(monotonic))
            self._broadcasts = {n: kept for n, kept in self._broadcasts.items() if kept[0] > now}
            return taken_back

    def subscribe(self, subscriptions: Sequence[Subscription], *, seconds: float) -> Sequence[bool]:
        """Begin them, or renew them, for so many seconds; whether each was there."""
        now = self._clock.monotonic()
        with self._changed:
            return self._subscribers.begin(subscriptions, now=now, until=now + seconds)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> int:
        """End them, and delete the copies that wait; return how many."""
        with self._changed:
            return self._tidy_up(self._subscribers.end(subscriptions))

    def broadcast(self, frame: bytes, *, expires_at: float) -> None:
        """Keep a frame for every worker until it expires."""
        with self._changed:
            self._broadcasts[self._next_number()] = (expires_at, frame)

    def heard(self, after: int) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order, each with its number."""
        now = self._clock.now()
        with self._changed:
            return [
                (number, frame)
                for number, (expires_at, frame) in self._broadcasts.items()
                if number > after and expires_at > now
            ]

    def pause(self, queues: Sequence[str]) -> None:
        """Let queues rest."""
        with self._changed:
            self._paused.update(queues)

    def resume(self, queues: Sequence[str]) -> None:
        """Let queues go on."""
        with self._changed:
            self._paused.difference_update(queues)
            self._changed.notify_all()

    def resting(self) -> Collection[str]:
        """The queues that rest."""
        with self._changed:
            return set(self._paused)

    def depths(self) -> Sequence[QueueDepth]:
        """What lies in each queue, by name."""
        now = self._clock.now()
        with self._changed:
            shown = self._subscribers.shown(self._clock.monotonic())
            return measure(
                self._messages.values(), self._queues, self._limits, shown, self._paused, now=now
            )

    def limits(self, *, limit: int) -> Sequence[LimitUse]:
        """The keys that hold messages back, those with the most waiting first."""
        with self._changed:
            return describe(self._messages.values(), self._limits, self._clock.now())[:limit]

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue: ready, limited, scheduled and dormant; return how many."""
        with self._changed:
            return self._delete_waiting({queue, *self._subscribers.queues_of(queue)})

    def kept(self, where: Kept, *, limit: int, after: int = 0) -> Sequence[KeptMessage]:
        """Kept messages by number, from the one behind `after`."""
        with self._changed:
            return self._kept.show(where, limit=limit, after=after)

    def restore(self, where: Kept, numbers: Sequence[int]) -> int:
        """Put kept messages back, but not those whose id or unique key is in a queue again."""
        restored = 0
        with self._changed:
            for put in self._kept.find(where, numbers):
                if put.shown.id in self._by_id or put.unique in self._unique:
                    continue
                self._kept.take(where, [put.shown.number])
                back = self._store(put.to_send_again())
                self._inputs.rename(put.inputs_of, back.number)
                if put.unique is not None:
                    self._unique.give(back, put.unique)
                if put.limit is not None:
                    if all(each.limit != put.limit.key for each in self._messages.values()):
                        self._limits.set(put.limit)
                    back.limit = put.limit.key
                if where is Kept.QUARANTINE:
                    back.go_on_from(put.shown)
                self._marks.reopen(put.nonce, back.number)
                restored += 1
            self._changed.notify_all()
        return restored

    def discard(self, where: Kept, numbers: Sequence[int] | None) -> int:
        """Delete kept messages, all of them for None; return how many."""
        with self._changed:
            doomed = self._kept.take(where, numbers)
            for put in doomed:
                self._inputs.remove(put.inputs_of)
            return len(doomed)

    def quarantined(self) -> Sequence[Fill]:
        """How much lies in the quarantine for each reason."""
        with self._changed:
            return self._kept.fills()

    def thin_out(self, reason: str, *, messages: int, bytes: int) -> Fill:
        """Delete the oldest of a reason until at most so much is left; return what is gone."""
        with self._changed:
            gone = self._kept.excess(reason, messages=messages, bytes=bytes)
            self.discard(Kept.QUARANTINE, [each.number for each in gone])
            return Fill(reason, len(gone), sum(len(each.frame) for each in gone))

    def quarantine(self, *, queue: str, id: str, frame: bytes, reason: str, detail: str) -> None:
        """Keep a frame that came by another way than a queue."""
        with self._changed:
            stray = Message(0, queue, id, frame, 0, 0)
            self._keep(stray, Kept.QUARANTINE, reason, detail, None)

    def _publish(self, outgoing: Sequence[Outgoing], stand_ins: dict[str, str] | None) -> None:
        """Store messages. Without `stand_ins` they take another's place, and are not turned away."""
        dormant = []
        for sent in self._subscribers.spread(outgoing, self._clock.monotonic()):
            holder = None if stand_ins is None else self._holder(sent)
            if holder is not None and stand_ins is not None:
                stand_ins[sent.id] = holder
            elif sent.id not in self._by_id:
                message = self._store(sent)
                if sent.limit is not None:
                    self._limits.set(sent.limit)
                    message.limit = sent.limit.key
                if sent.unique is not None:
                    period = sent.unique.period if stand_ins is not None else 0.0
                    until = self._clock.now() + period
                    self._unique.give(message, sent.unique.key, until=until if period else None)
                if sent.after:
                    self._lay_down(message, sent)
                    dormant.append(message)
        for message in dormant:
            for predecessor in self._inputs.predecessors(message.number):
                outcome = self._inputs.outcome(predecessor.id)
                if outcome is not None:
                    self._tell(message, predecessor.id, outcome)
        self._drop()

    def _holder(self, sent: Outgoing) -> str | None:
        """The id of the message in whose favour this one is not stored."""
        if sent.unique is None or sent.id in self._by_id:
            return sent.unique and sent.id
        return self._unique.find(sent.unique.key, self._clock.now())

    def _store(self, sent: Outgoing) -> Message:
        due = self._clock.now() if sent.run_at is None else sent.run_at
        message = Message(self._next_number(), sent.queue, sent.id, sent.frame, sent.priority, due)
        self._messages[message.number] = self._by_id[message.id] = message
        return message

    def _lay_down(self, message: Message, sent: Outgoing) -> None:
        self._inputs.add(message.number, sent.after)
        missing = {predecessor.id for predecessor in sent.after}
        now = self._clock.now()
        message.dormant = Dormancy(missing, sent.trigger, sent.run_at, sent.delay, since=now)

    def _tell(self, message: Message, name: str, outcome: Outcome) -> None:
        """Have a message know how one that it waits for has ended."""
        if message.dormant is None:
            return
        due = message.dormant.hear(name, outcome, now=self._clock.now())
        if due is not None:
            message.due, message.dormant = due, None
        if due == math.inf:
            self._dropped.append(message)

    def _drop(self) -> None:
        """Delete errbacks without a cause, and what waits for them."""
        for message in take_dropped(self._dropped, self._messages, self._inputs):
            self._delete(message)

    def _awake(self, queues: Sequence[str]) -> list[str]:
        names = self._subscribers.shown(self._clock.monotonic()).names if self._paused else {}
        return [one for one in queues if self._paused.isdisjoint((one, names.get(one, one)))]

    def _claim(self, queues: Sequence[str], limit: int, lease: float) -> list[Delivery]:
        now = self._clock.now()
        self._turn += 1
        running = count_running(self._messages.values())
        deliveries: list[Delivery] = []
        for index in range(len(queues)):
            queue = queues[(self._turn + index) % len(queues)]
            line = [
                (-message.priority, message.number)
                for message in self._waiting()
                if message.queue == queue and message.due <= now
            ]
            heapq.heapify(line)
            while line and len(deliveries) < limit:
                message = self._messages[heapq.heappop(line)[1]]
                if message.limit is not None:
                    if not self._limits.is_open(message.limit, running[message.limit], now):
                        continue
                    self._limits.enter(message.limit, now)
                    running[message.limit] += 1
                deliveries.append(self._lend(message, lease))
        return deliveries

    def _lend(self, message: Message, lease: float) -> Delivery:
        until = self._clock.monotonic() + lease
        return message.lend(self._inputs.of(message.number), until=until)

    def _until_next(self, queues: Sequence[str]) -> float:
        running = count_running(self._messages.values())
        waiting = (message for message in self._waiting() if message.queue in queues)
        first = min((self._limits.due(one, running) for one in waiting), default=math.inf)
        return min(_LOOK_AGAIN_SECONDS, max(0.0, first - self._clock.now()))

    def _settle(self, message: Message, settlement: Settlement, nonce: Nonce | None) -> None:
        match settlement:
            case Requeue(cause=cause, delay=delay):
                message.lease_until = None
                message.crashes += cause is Cause.CRASHED
                message.retries += cause is Cause.RETRIED
                if delay > 0:
                    message.due = self._clock.now() + delay
                return
            case Ack():
                self._delete(message)
            case DeadLetter(reason=reason):
                self._remove(message)
                self._keep(message, Kept.DEAD_LETTER, reason, "", nonce)
            case Quarantine(reason=reason, detail=detail):
                self._remove(message)
                self._keep(message, Kept.QUARANTINE, reason, detail, nonce)
            case _:
                assert_never(settlement)
        if nonce is not None:
            self.finish([nonce])

    def _keep(
        self, message: Message, place: Kept, reason: str, detail: str, nonce: Nonce | None
    ) -> None:
        shown = message.shown(self._next_number(), reason, detail, kept_at=self._clock.now())
        limit = None if message.limit is None else self._limits[message.limit]
        self._kept.add(
            Put(place, shown, message.priority, nonce, message.number, message.unique, limit)
        )

    def _is_on_loan(self, receipt: int | str | None, attempt: int) -> bool:
        return any(
            message.number == receipt and message.attempt == attempt
            for message in self._messages.values()
            if message.lease_until is not None
        )

    def _held(self, delivery: Delivery) -> Message | None:
        message = self._by_id.get(delivery.id)
        if message is None or message.lease_until is None:
            return None
        if (message.number, message.attempt) != (delivery.receipt, delivery.attempt):
            return None
        return message

    def _waiting(self) -> Iterator[Message]:
        return (
            message
            for message in self._messages.values()
            if message.lease_until is None and message.dormant is None
        )

    def _tidy_up(self, queues: Sequence[str]) -> int:
        """Delete the copies that wait where a subscription is over, and forget it with the last one."""
        deleted = self._delete_waiting(set(queues))
        on_loan = {message.queue for message in self._messages.values()}
        self._subscribers.forget(set(queues) - on_loan)
        return deleted

    def _delete_waiting(self, queues: set[str]) -> int:
        waiting = [each for each in self._messages.values() if each.lease_until is None]
        doomed = [message for message in waiting if message.queue in queues]
        for message in doomed:
            self._delete(message)
        return len(doomed)

    def _delete(self, message: Message) -> None:
        self._remove(message)
        self._inputs.remove(message.number)

    def _remove(self, message: Message) -> None:
        del self._messages[message.number]
        del self._by_id[message.id]
        self._unique.release(message)

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number
