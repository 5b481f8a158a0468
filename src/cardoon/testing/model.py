"""A driver against the oracle, at random: every step, what both say and what both hold is equal.

    class MyMachine(BrokerMachine):
        def make(self, clock):
            broker = MyBroker("localhost", clock=clock)
            return broker, MyBackend(broker)

    TestMyMachine = MyMachine.TestCase

The driver must have all optional powers, and its time must be the clock's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cardoon.backend import ResultBackend, SealedResult
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
    Quarantine,
    QueueDepth,
    Requeue,
    Settlement,
    Transactional,
)
from cardoon.security.replay import Nonce, NonceClaim, ReplayGuard
from cardoon.testing.clock import FakeClock
from cardoon.testing.oracle import Oracle

QUEUES = ("q", "r")
TASKS = tuple(f"t{number}" for number in range(8))
NONCES = tuple(Nonce(b"session of 16 by", number, 9e9) for number in range(4))
LEASE = 30.0


class AllPowers(Broker, Transactional, Maintained, Inspectable, ReplayGuard, Protocol):
    """A broker that the machine can try."""


@st.composite
def _outgoing(draw: st.DrawFn, now: float) -> Outgoing:
    delay = draw(st.sampled_from([None, None, -1, 0, 1, 7]))
    return Outgoing(
        draw(st.sampled_from(QUEUES)),
        draw(st.sampled_from(TASKS)),
        draw(st.binary(max_size=5)),
        draw(st.integers(0, 2)),
        None if delay is None else now + delay,
    )


@st.composite
def _settlement(draw: st.DrawFn, delivery: Delivery) -> Settlement:
    match draw(st.integers(0, 4)):
        case 0 | 1:
            return Ack(delivery)
        case 2:
            delay = draw(st.sampled_from([0.0, 0.0, 1.0, 5.0]))
            return Requeue(delivery, draw(st.sampled_from(Cause)), delay)
        case 3:
            return DeadLetter(delivery, "broken")
        case _:
            return Quarantine(delivery, "refused", "why")


@st.composite
def _completion(draw: st.DrawFn, given: Sequence[Delivery], now: float) -> Completion:
    result = st.builds(
        SealedResult,
        st.sampled_from(TASKS),
        st.binary(max_size=3),
        st.booleans(),
        st.just(None),
    )
    return Completion(
        draw(_settlement(draw(st.sampled_from(given)))),
        draw(st.none() | result),
        tuple(draw(st.lists(_outgoing(now), max_size=2))),
        draw(st.none() | st.sampled_from(NONCES)),
    )


class BrokerMachine(RuleBasedStateMachine):
    """All rules; subclass it and say how to `make` the driver."""

    def make(self, clock: FakeClock) -> tuple[AllPowers, ResultBackend]:
        """A broker with an empty store, and the result backend that shares it."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        """Begin with nothing."""
        self.clock = FakeClock()
        self.oracle = Oracle()
        self.given: list[Delivery] = []
        self.broker, self.backend = self.make(self.clock)

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        """Send a few messages, some of them again."""
        outgoing = data.draw(st.lists(_outgoing(self.clock.now()), min_size=1, max_size=4))

        self.broker.publish(outgoing, timeout=10)
        self.oracle.publish(outgoing, self.clock.now())

    @rule(queues=st.permutations(QUEUES), limit=st.integers(1, 5))
    def receive(self, queues: list[str], limit: int) -> None:
        """Take what is due; whose turn it is among the queues is the driver's business."""
        now = self.clock.now()
        lines = {queue: self.oracle.line(queue, now) for queue in queues}

        deliveries = self.broker.receive(queues, limit=limit, lease=LEASE, timeout=0)

        assert len(deliveries) == min(limit, sum(map(len, lines.values())))
        for queue, line in lines.items():
            taken = [delivery.id for delivery in deliveries if delivery.queue == queue]
            assert taken == line[: len(taken)]
        for delivery in deliveries:
            assert delivery[3:5] not in [old[3:5] for old in self.given], "a token came twice"
            self.oracle.lend(delivery, self.clock.monotonic() + LEASE)
        self.given += deliveries

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        """Renew some leases, lost ones among them."""
        asked = data.draw(st.lists(st.sampled_from(self.given), max_size=4))
        until = self.clock.monotonic() + LEASE

        kept = list(self.broker.extend(asked, lease=LEASE))

        assert kept == [each for each in asked if self.oracle.extend(each, until)]

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """End some loans, lost ones among them."""
        now = self.clock.now()
        completions = data.draw(st.lists(_completion(self.given, now), min_size=1, max_size=4))

        taken = list(self.broker.complete(completions))

        assert taken == [self.oracle.complete(each, now) for each in completions]

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        """Claim some nonces for whoever."""
        pairs = st.tuples(st.sampled_from(NONCES), st.sampled_from(self.given))
        claims = [
            NonceClaim(nonce, delivery.receipt, delivery.attempt)
            for nonce, delivery in data.draw(st.lists(pairs, min_size=1, max_size=3))
        ]

        states = list(self.broker.claim(claims))

        assert states == [self.oracle.claim(each) for each in claims]

    @rule(nonces=st.lists(st.sampled_from(NONCES), max_size=2))
    def finish(self, nonces: list[Nonce]) -> None:
        """Mark nonces, claimed or not."""
        self.broker.finish(nonces)
        for nonce in nonces:
            self.oracle.finish(nonce)

    @rule(task=st.sampled_from(TASKS), final=st.booleans(), frame=st.binary(max_size=3))
    def store(self, task: str, frame: bytes, final: bool) -> None:  # noqa: FBT001
        """Store a result beside any completion."""
        result = SealedResult(task, frame, final, None)

        self.backend.store([result])
        self.oracle.store(result)

    @rule(task=st.sampled_from(TASKS))
    def forget(self, task: str) -> None:
        """Delete a result."""
        self.backend.forget([task])
        self.oracle.results.pop(task, None)

    @rule()
    def maintain(self) -> None:
        """Take back what has run out."""
        expected = self.oracle.maintain(self.clock.now(), self.clock.monotonic())

        assert self.broker.maintain() == expected

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        """Delete what waits."""
        assert self.broker.purge(queue) == self.oracle.purge(queue)

    @rule(where=st.sampled_from(Kept), data=st.data())
    def restore(self, where: Kept, data: st.DataObject) -> None:
        """Put a kept message back."""
        kept = self.broker.kept(where, limit=100)
        if not kept:
            return
        index = data.draw(st.integers(0, len(kept) - 1))

        restored = self.broker.restore(where, [kept[index].number])

        assert restored == self.oracle.restore(where, index, self.clock.now())

    @rule(seconds=st.sampled_from([1, 5, 29, 30]))
    def pass_time(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @invariant()
    def hold_the_same(self) -> None:
        """Compare all that can be seen from outside."""
        assert dict(self.backend.load(TASKS)) == self.oracle.results
        for where in Kept:
            seen = [_record(kept.id, kept) for kept in self.broker.kept(where, limit=1000)]
            put = [each.stored for each in self.oracle.kept if each.where is where]
            assert seen == [_record(stored.message.id, stored) for stored in put]
        depths = {depth.queue: depth for depth in self.broker.depths()}
        for queue in QUEUES:
            empty = QueueDepth(queue=queue, ready=0, scheduled=0, leased=0, oldest=None)
            _compare_depth(depths.get(queue, empty), self.oracle, self.clock.now())

    def teardown(self) -> None:
        """Let go of the driver."""
        self.broker.close()
        self.backend.close()


def _record(name: str, counted: Any) -> tuple[str, int, int, int]:
    return name, counted.attempt, counted.crashes, counted.retries


def _compare_depth(depth: QueueDepth, oracle: Oracle, now: float) -> None:
    stored = [each for each in oracle.messages.values() if each.message.queue == depth.queue]
    waiting = [each.due for each in stored if each.token is None]
    due = [at for at in waiting if at <= now]
    assert depth.leased == len(stored) - len(waiting)
    assert (depth.ready, depth.scheduled) == (len(due), len(waiting) - len(due))
    assert depth.oldest == (now - min(due) if due else None)
