"""A driver's unique keys and limits against the oracle, at random; as `cardoon.testing.model`.

    class MyMachine(TurnsMachine):
        def make(self, clock):
            return MyBroker("localhost", clock=clock)

Nearly every message shares a key with others here, and is new, so that what has to wait is many and
seldom the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
    Limit,
    Limiting,
    Maintained,
    Outgoing,
    Quarantine,
    QueueDepth,
    Requeue,
    Settlement,
    Transactional,
    Unique,
)
from cardoon.testing.clock import FakeClock
from cardoon.testing.model import compare_depth
from cardoon.testing.oracle import Oracle

QUEUES = ("q", "r")
LEASE = 30.0


class LimitingPowers(Broker, Transactional, Maintained, Limiting, Inspectable, Protocol):
    """A broker that the machine can try."""


_LIMITS = st.sampled_from(
    [
        None,
        Limit("k", 1),
        Limit("k", 1),
        Limit("k", 3),
        Limit("r", 0, 2.0),
        Limit("r", 0, 2.0),
        Limit("r", 0, 0.01),
        Limit("b", 2, 0.5),
        Limit("b", 1, 4.0),
        Limit("b"),
    ]
)
_UNIQUE = st.sampled_from(
    [None, None, None, Unique("u"), Unique("v"), Unique("v", 3.0), Unique("w", 6.0)]
)


@st.composite
def _messages(draw: st.DrawFn, first: int, now: float, most: int) -> list[Outgoing]:
    # One limit for most of a send, as the calls of one task have it.
    usual = draw(_LIMITS)
    return [
        Outgoing(
            draw(st.sampled_from(QUEUES)),
            f"t{first + index}",
            b"x",
            draw(st.sampled_from([0, 0, 0, 1, 5])),
            draw(st.sampled_from([None, None, None, now + 1, now + 4])),
            unique=draw(_UNIQUE),
            limit=draw(st.just(usual) | st.just(usual) | _LIMITS),
        )
        for index in range(draw(st.integers(1, most)))
    ]


@st.composite
def _end(draw: st.DrawFn, delivery: Delivery) -> Settlement:
    match draw(st.integers(0, 5)):
        case 0:
            return DeadLetter(delivery, "broken")
        case 1:
            return Quarantine(delivery, "refused", "why")
        case 2 | 3:
            delay = draw(st.sampled_from([0.0, 0.0, 1.0, 5.0]))
            return Requeue(delivery, draw(st.sampled_from(Cause)), delay)
        case _:
            return Ack(delivery)


class TurnsMachine(RuleBasedStateMachine):
    """All rules; subclass it and say how to `make` the driver."""

    def make(self, clock: FakeClock) -> LimitingPowers:
        """A broker with an empty store."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        """Begin with nothing."""
        self.clock = FakeClock()
        self.oracle = Oracle()
        self.broker = self.make(self.clock)
        self.held: list[Delivery] = []
        self.sent = 0

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        """Send a few messages."""
        outgoing = data.draw(_messages(self.sent, self.clock.now(), 8))
        self.sent += len(outgoing)

        told = self.broker.publish(outgoing, timeout=10)

        assert dict(told) == self.oracle.publish(outgoing, self.clock.now())

    @rule(queues=st.permutations(QUEUES), limit=st.integers(1, 4))
    def receive(self, queues: list[str], limit: int) -> None:
        """Take what is due."""
        self._receive(queues, limit)

    @rule(queue=st.sampled_from(QUEUES))
    def receive_from_one(self, queue: str) -> None:
        """Take what is due there, all of it."""
        self._receive([queue], 100)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """End some loans; sometimes another message takes a place."""
        ended = data.draw(st.lists(st.sampled_from(self.held), min_size=1, max_size=3, unique=True))
        now = self.clock.now()
        completions = []
        for delivery in ended:
            self.held.remove(delivery)
            settlement = data.draw(_end(delivery))
            publish: tuple[Outgoing, ...] = ()
            if isinstance(settlement, Ack) and data.draw(st.integers(0, 5)) == 0:
                (message,) = data.draw(_messages(0, now, 1))
                publish = (message._replace(id=delivery.id),)
            completions.append(Completion(settlement, publish=publish))

        taken = list(self.broker.complete(completions))

        assert taken == self.oracle.complete(completions, now)

    @rule(seconds=st.sampled_from([0.01, 0.04, 0.5, 1, 2, 2, 4]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(is_long=st.sampled_from([False, False, True]))
    def maintain(self, is_long: bool) -> None:  # noqa: FBT001
        """Tidy up, seldom after all leases have run out."""
        if is_long:
            self.clock.advance(LEASE)
        expected = self.oracle.maintain(self.clock.now(), self.clock.monotonic())

        assert self.broker.maintain() == expected

    @rule(where=st.sampled_from(Kept), data=st.data())
    def restore(self, where: Kept, data: st.DataObject) -> None:
        """Put a kept message back."""
        kept = self.broker.kept(where, limit=100)
        if kept:
            index = data.draw(st.integers(0, len(kept) - 1))
            restored = self.broker.restore(where, [kept[index].number])

            assert restored == self.oracle.restore(where, index, self.clock.now())

    @rule(queue=st.sampled_from((*QUEUES, *("",) * 10)))
    def purge(self, queue: str) -> None:
        """Delete what waits; seldom."""
        assert self.broker.purge(queue) == self.oracle.purge(queue)

    @invariant()
    def hold_the_same(self) -> None:
        """Compare what can be seen from outside."""
        now = self.clock.now()
        assert list(self.broker.limits(limit=9)) == self.oracle.uses(now)
        depths = {depth.queue: depth for depth in self.broker.depths()}
        for queue in QUEUES:
            empty = QueueDepth(queue=queue, ready=0, scheduled=0, dormant=0, leased=0, oldest=None)
            compare_depth(depths.get(queue, empty), self.oracle, now)

    def teardown(self) -> None:
        """Let go of the driver."""
        self.broker.close()

    def _receive(self, queues: Sequence[str], limit: int) -> None:
        now = self.clock.now()
        deliveries = self.broker.receive(queues, limit=limit, lease=LEASE, timeout=0)
        self.oracle.follow(deliveries, queues, limit, now, self.clock.monotonic() + LEASE)
        self.held += deliveries
