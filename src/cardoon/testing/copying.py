"""A driver's broadcast queues against the oracle, at random; as `cardoon.testing.model`.

    class MyMachine(CopyingMachine):
        def make(self, clock):
            return MyBroker("localhost", clock=clock)

The oracle knows no broadcasts: the machine keeps who is subscribed, and tells it of copies as of any
other messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cardoon.broker import (
    Ack,
    Broker,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Inspectable,
    Kept,
    Maintained,
    Outgoing,
    QueueDepth,
    Requeue,
    Settlement,
    Subscribing,
    Subscription,
    Transactional,
)
from cardoon.testing.clock import FakeClock
from cardoon.testing.oracle import Oracle, Stored

LEASE = 30.0
BROADCASTS = ("news", "weather")
SUBSCRIPTIONS = tuple(Subscription(name, f"{name}>{n}") for name in BROADCASTS for n in range(3))
MOVED = Subscription("weather", "news>0")
QUEUES = ("q", *(one.queue for one in SUBSCRIPTIONS))


class CopyingPowers(Broker, Transactional, Maintained, Subscribing, Inspectable, Protocol):
    """A broker that the machine can try."""


class Term(NamedTuple):
    """For how long a queue is subscribed to what."""

    broadcast: str
    until: float


@st.composite
def _messages(draw: st.DrawFn, first: int, now: float) -> list[Outgoing]:
    ids = st.integers(max(0, first - 2), first + 2)  # some of them were sent before
    return [
        Outgoing(
            queue,
            f"t{draw(ids)}",
            draw(st.binary(max_size=3)),
            draw(st.sampled_from([0, 0, 5])),
            draw(st.sampled_from([None, None, now + 3])),
            fanout=queue in BROADCASTS,
        )
        for queue in draw(st.lists(st.sampled_from(("q", *BROADCASTS)), min_size=1, max_size=4))
    ]


@st.composite
def _end(draw: st.DrawFn, delivery: Delivery) -> Settlement:
    match draw(st.integers(0, 4)):
        case 0:
            return DeadLetter(delivery, "broken")
        case 1 | 2:
            return Requeue(
                delivery, draw(st.sampled_from(Cause)), draw(st.sampled_from([0.0, 4.0]))
            )
        case _:
            return Ack(delivery)


_SOME = st.lists(st.sampled_from((*SUBSCRIPTIONS, MOVED)), min_size=1, max_size=4, unique=True)


class CopyingMachine(RuleBasedStateMachine):
    """All rules; subclass it and say how to `make` the driver."""

    def make(self, clock: FakeClock) -> CopyingPowers:
        """A broker with an empty store."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        """Begin with nothing."""
        self.clock = FakeClock()
        self.oracle = Oracle()
        self.broker = self.make(self.clock)
        self.terms: dict[str, Term] = {}
        self.held: list[Delivery] = []
        self.sent = 0

    @rule(subscriptions=_SOME, seconds=st.sampled_from([5.0, 60.0]))
    def subscribe(self, subscriptions: list[Subscription], seconds: float) -> None:
        """Begin, renew, or take a queue over."""
        now = self.clock.now()
        subscriptions = list({one.queue: one for one in subscriptions}.values())
        there = [
            (term := self.terms.get(queue)) is not None
            and term.broadcast == broadcast
            and term.until > now
            for broadcast, queue in subscriptions
        ]
        self.terms.update({two: Term(one, now + seconds) for one, two in subscriptions})

        assert list(self.broker.subscribe(subscriptions, seconds=seconds)) == there

    @rule(subscriptions=_SOME)
    def unsubscribe(self, subscriptions: list[Subscription]) -> None:
        """End subscriptions, some of which there are."""
        ended = [
            queue
            for broadcast, queue in subscriptions
            if queue in self.terms and self.terms[queue].broadcast == broadcast
        ]
        for queue in ended:
            self.terms[queue] = self.terms[queue]._replace(until=0.0)

        assert self.broker.unsubscribe(subscriptions) == self._tidy_up(ended)

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        """Send a few messages."""
        outgoing = data.draw(_messages(self.sent, self.clock.now()))
        self.sent += 1

        assert dict(self.broker.publish(outgoing, timeout=10)) == {}
        self.oracle.publish(self._spread(outgoing), self.clock.now())

    @rule(queues=st.permutations(QUEUES), limit=st.integers(1, 6))
    def receive(self, queues: Sequence[str], limit: int) -> None:
        """Take what is due."""
        deliveries = self.broker.receive(queues, limit=limit, lease=LEASE, timeout=0)
        until = self.clock.monotonic() + LEASE
        self.oracle.follow(deliveries, queues, limit, self.clock.now(), until)
        self.held += deliveries

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """End some loans; some send more, and of some another copy takes the place."""
        ended = data.draw(st.lists(st.sampled_from(self.held), min_size=1, max_size=3, unique=True))
        now = self.clock.now()
        completions = []
        for delivery in ended:
            self.held.remove(delivery)
            publish: tuple[Outgoing, ...] = ()
            settlement = data.draw(_end(delivery))
            if isinstance(settlement, Ack) and len(ended) == 1 and data.draw(st.booleans()):
                publish = (
                    Outgoing(delivery.queue, delivery.id, b"again"),
                    *data.draw(_messages(self.sent, now)),
                )
            completions.append(Completion(settlement, publish=publish))

        taken = list(self.broker.complete(completions))

        told = [one._replace(publish=tuple(self._spread(one.publish))) for one in completions]
        assert taken == self.oracle.complete(told, now)

    @rule(seconds=st.sampled_from([1, 3, 5, 30, 60]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule()
    def maintain(self) -> None:
        """Take back what has run out, and tidy up behind those whose time is over."""
        now = self.clock.now()
        expected = self.oracle.maintain(now, self.clock.monotonic())
        self._tidy_up([queue for queue, term in self.terms.items() if term.until <= now])

        assert self.broker.maintain() == expected

    @rule(index=st.integers(0, 5))
    def restore(self, index: int) -> None:
        """Put a kept message back."""
        kept = self.broker.kept(Kept.DEAD_LETTER, limit=100)
        if index < len(kept):
            restored = self.broker.restore(Kept.DEAD_LETTER, [kept[index].number])

            assert restored == self.oracle.restore(Kept.DEAD_LETTER, index, self.clock.now())

    @rule(queue=st.sampled_from((*BROADCASTS, *("",) * 6)))
    def purge(self, queue: str) -> None:
        """Delete what waits; seldom."""
        behind = [name for name, term in self.terms.items() if term.broadcast == queue]

        assert self.broker.purge(queue) == sum(map(self.oracle.purge, (queue, *behind)))

    @invariant()
    def hold_the_same(self) -> None:
        """Compare what can be seen from outside."""
        assert list(self.broker.depths()) == self._depths(self.clock.now())

    def teardown(self) -> None:
        """Let go of the driver."""
        self.broker.close()

    def _spread(self, outgoing: Sequence[Outgoing]) -> list[Outgoing]:
        """What is stored of them."""
        now = self.clock.now()
        found = []
        for sent in outgoing:
            to = [
                queue
                for queue, term in self.terms.items()
                if sent.fanout and term.broadcast == sent.queue and term.until > now
            ]
            found += [sent.copy_for(queue) for queue in to] if sent.fanout else [sent]
        return found

    def _tidy_up(self, queues: Sequence[str]) -> int:
        """Delete what waits there, and forget the subscriptions of those that are empty."""
        deleted = sum(map(self.oracle.purge, queues))
        left = {stored.message.queue for stored in self.oracle.messages.values()}
        for queue in queues:
            if queue not in left:
                self.terms.pop(queue, None)
        return deleted

    def _depths(self, now: float) -> list[QueueDepth]:
        found: dict[str, list[Stored]] = {
            term.broadcast: [] for term in self.terms.values() if term.until > now
        }
        for stored in self.oracle.messages.values():
            term = self.terms.get(stored.message.queue)
            name = stored.message.queue if term is None else term.broadcast
            found.setdefault(name, []).append(stored)
        live = [term.broadcast for term in self.terms.values() if term.until > now]
        return [_depth(name, found[name], live.count(name), now) for name in sorted(found)]


def _depth(name: str, stored: Sequence[Stored], subscribers: int, now: float) -> QueueDepth:
    waiting = [each.due for each in stored if each.token is None]
    due = [at for at in waiting if at <= now]
    return QueueDepth(
        queue=name,
        ready=len(due),
        scheduled=len(waiting) - len(due),
        dormant=0,
        leased=len(stored) - len(waiting),
        oldest=now - min(due) if due else None,
        subscribers=subscribers,
    )
