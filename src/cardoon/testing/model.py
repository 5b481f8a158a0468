"""A driver against the oracle, at random: every step, what both say and what both hold is equal.

    class MyMachine(BrokerMachine):
        def make(self, clock):
            broker = MyBroker("localhost", clock=clock)
            return broker, MyBackend(broker)

    TestMyMachine = MyMachine.TestCase

The driver must have all optional powers, and its time must be the clock's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    Limit,
    Limiting,
    Maintained,
    Outcome,
    Outgoing,
    Predecessor,
    Quarantine,
    QueueDepth,
    Requeue,
    Settlement,
    Transactional,
    Trigger,
    Unique,
)
from cardoon.pausing import Pausable
from cardoon.security.replay import Nonce, NonceClaim, ReplayGuard
from cardoon.testing.clock import FakeClock
from cardoon.testing.oracle import Oracle

QUEUES = ("q", "r")
TASKS = tuple(f"t{number}" for number in range(8))
NONCES = tuple(Nonce(b"session of 16 by", number, 9e9) for number in range(4))
LEASE = 30.0
STRAY_SECONDS = 60.0
"""Within which a driver finds a message that waits for one that is nowhere."""


class AllPowers(
    Broker, Transactional, Maintained, Limiting, Pausable, Inspectable, ReplayGuard, Protocol
):
    """A broker that the machine can try."""


@st.composite
def _waiting(
    draw: st.DrawFn, earlier: Sequence[str]
) -> tuple[tuple[Predecessor, ...], Trigger, float]:
    trigger = draw(st.sampled_from(Trigger))
    most = 3 if trigger is Trigger.SUCCESS else 1
    after = draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=most))
    request = draw(st.sampled_from([b"", bytes(32), b"\xff" * 32]))
    delay = draw(st.sampled_from([0.0, 0.0, 3.0]))
    return tuple(Predecessor(name, request) for name in after), trigger, delay


@st.composite
def _outcome(draw: st.DrawFn) -> Outcome:
    succeeded = draw(st.booleans())
    return Outcome(draw(st.binary(max_size=3)), succeeded, not succeeded and draw(st.booleans()))


_UNIQUE = st.builds(Unique, st.sampled_from(["u", "v"]), st.sampled_from([0.0, 0.0, 4.0]))
_LIMIT = st.builds(
    Limit,
    st.sampled_from(["k", "l"]),
    st.sampled_from([0, 1, 1, 2]),
    st.sampled_from([0.0, 0.0, 0.01, 2.0]),
)


@st.composite
def _outgoing(draw: st.DrawFn, now: float) -> Outgoing:
    delay = draw(st.sampled_from([None, None, -1, 0, 1, 7]))
    index = draw(st.integers(0, len(TASKS) - 1))
    # Those that wait for each other in a circle would fill the store.
    earlier = TASKS[:index]
    message = Outgoing(
        draw(st.sampled_from(QUEUES)),
        TASKS[index],
        draw(st.binary(max_size=5)),
        draw(st.integers(0, 2)),
        None if delay is None else now + delay,
        *(draw(st.just(()) | _waiting(earlier)) if earlier else ()),
    )
    return message._replace(
        unique=draw(st.none() | _UNIQUE), limit=draw(st.none() | _LIMIT | st.just(Limit("k", 1)))
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
            return _dead(delivery)
        case _:
            return _refused(delivery)


def _dead(delivery: Delivery) -> DeadLetter:
    return DeadLetter(delivery, "broken")


def _refused(delivery: Delivery) -> Quarantine:
    return Quarantine(delivery, "refused", "why")


_ENDS: list[Callable[[Delivery], Settlement]] = [Ack, Ack, Ack, _dead, _refused]


@st.composite
def _completion(draw: st.DrawFn, given: Sequence[Delivery], now: float) -> Completion:
    result = st.builds(
        SealedResult,
        st.sampled_from(TASKS),
        st.binary(max_size=3),
        st.booleans(),
        st.just(None),
        reply=st.none(),  # a way, not a part of what is kept
    )
    # Most of what was ever given is lost by now.
    delivery = draw(st.sampled_from(given[-5:]) | st.sampled_from(given))
    return Completion(
        draw(_settlement(delivery)),
        draw(st.none() | result),
        tuple(draw(st.lists(_outgoing(now), max_size=2))),
        draw(st.none() | st.sampled_from(NONCES)),
        draw(st.none() | _outcome()),
    )


class BrokerMachine(RuleBasedStateMachine):
    """All rules; subclass it and say how to `make` the driver."""

    def make(self, clock: FakeClock) -> tuple[AllPowers, ResultBackend]:
        """A broker with an empty store, and the result backend that shares it."""
        raise NotImplementedError

    def make_oracle(self) -> Oracle:
        """What the driver is held to."""
        return Oracle()

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """Begin with a few messages."""
        self.clock = FakeClock()
        self.oracle = self.make_oracle()
        self.given: list[Delivery] = []
        self.broker, self.backend = self.make(self.clock)
        self._publish(data.draw(st.lists(_outgoing(self.clock.now()), min_size=4, max_size=8)))

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        """Send a few messages, some of them again."""
        self._publish(data.draw(st.lists(_outgoing(self.clock.now()), min_size=1, max_size=6)))

    @rule(
        names=st.permutations(TASKS).map(lambda names: sorted(names[:4], reverse=True)),
        queue=st.sampled_from(QUEUES),
        trigger=st.sampled_from(Trigger),
    )
    def publish_workflow(self, names: list[str], queue: str, trigger: Trigger) -> None:
        """Send a few messages, and one that waits for them."""
        body, *members = names if trigger is Trigger.SUCCESS else names[:2]
        after = tuple(Predecessor(name, name.encode()) for name in members)
        outgoing = [Outgoing(queue, body, b"body", after=after, trigger=trigger)]
        outgoing += [Outgoing(queue, name, b"member", priority=2) for name in members]
        self._publish(outgoing)

    @rule(data=st.data(), rounds=st.integers(1, 3))
    def work(self, data: st.DataObject, rounds: int) -> None:
        """Take all that is due and end it, as workers do."""
        now = self.clock.now()
        for _ in range(rounds):
            held = self._receive(QUEUES, 5)
            completions = [
                Completion(
                    data.draw(st.sampled_from(_ENDS))(each),
                    publish=tuple(data.draw(st.lists(_outgoing(now), max_size=2))),
                    outcome=data.draw(_outcome()),
                )
                for each in held
            ]

            assert list(self.broker.complete(completions)) == [True] * len(held)
            self.oracle.complete(completions, now)

    @rule(queues=st.permutations(QUEUES), limit=st.integers(1, 5))
    def receive(self, queues: list[str], limit: int) -> None:
        """Take what is due, and keep it."""
        self._receive(queues, limit)

    def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        told = self.broker.publish(outgoing, timeout=10)

        assert dict(told) == self.oracle.publish(outgoing, self.clock.now())

    def _receive(self, queues: Sequence[str], limit: int) -> Sequence[Delivery]:
        """Take what is due; whose turn it is among the queues is the driver's business."""
        now = self.clock.now()

        deliveries = self.broker.receive(queues, limit=limit, lease=LEASE, timeout=0)

        for delivery in deliveries:
            assert delivery[3:5] not in [old[3:5] for old in self.given], "a token came twice"
        self.oracle.follow(deliveries, queues, limit, now, self.clock.monotonic() + LEASE)
        self.given += deliveries
        return deliveries

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

        assert taken == self.oracle.complete(completions, now)

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
        """Take back what has run out, and wake what waits for nothing any more."""
        if self.oracle.strays(self.clock.now()):
            self.clock.advance(STRAY_SECONDS)
        expected = self.oracle.maintain(self.clock.now(), self.clock.monotonic())

        assert self.broker.maintain() == expected

    @rule(queue=st.sampled_from((*QUEUES, *("",) * 8)))
    def purge(self, queue: str) -> None:
        """Delete what waits; seldom, or there would be little left to wait."""
        assert self.broker.purge(queue) == self.oracle.purge(queue)

    @rule(queues=st.lists(st.sampled_from((*QUEUES, "other")), max_size=2))
    def pause(self, queues: list[str]) -> None:
        """Let queues rest, and the others go on."""
        others = [queue for queue in QUEUES if queue not in queues]

        self.broker.pause(queues)
        self.broker.resume(others)

        self.oracle.resting.update(queues)
        self.oracle.resting.difference_update(others)
        assert set(self.broker.resting()) == self.oracle.resting

    @rule(where=st.sampled_from(Kept), data=st.data())
    def restore(self, where: Kept, data: st.DataObject) -> None:
        """Put a kept message back."""
        kept = self.broker.kept(where, limit=100)
        if not kept:
            return
        index = data.draw(st.integers(0, len(kept) - 1))

        restored = self.broker.restore(where, [kept[index].number])

        assert restored == self.oracle.restore(where, index, self.clock.now())

    @rule(where=st.sampled_from(Kept), data=st.data())
    def discard(self, where: Kept, data: st.DataObject) -> None:
        """Delete a kept message."""
        kept = self.broker.kept(where, limit=100)
        if not kept:
            return
        index = data.draw(st.integers(0, len(kept) - 1))

        assert self.broker.discard(where, [kept[index].number]) == 1
        self.oracle.discard(where, index)

    @rule(seconds=st.sampled_from([0.02, 1, 5, 29, 30]))
    def pass_time(self, seconds: float) -> None:
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
        assert list(self.broker.limits(limit=9)) == self.oracle.uses(self.clock.now())
        self.compare_depths(self.broker)

    def compare_depths(self, broker: Inspectable) -> None:
        """Assert that queues are as deep as the oracle says."""
        depths = {depth.queue: depth for depth in broker.depths()}
        for queue in QUEUES:
            empty = QueueDepth(queue=queue, ready=0, scheduled=0, dormant=0, leased=0, oldest=None)
            compare_depth(depths.get(queue, empty), self.oracle, self.clock.now())

    def teardown(self) -> None:
        """Let go of the driver."""
        self.broker.close()
        self.backend.close()


def _record(name: str, counted: Any) -> tuple[str, int, int, int]:
    return name, counted.attempt, counted.crashes, counted.retries


def compare_depth(depth: QueueDepth, oracle: Oracle, now: float) -> None:
    """Assert that a queue is as deep as the oracle says."""
    stored = [each for each in oracle.messages.values() if each.message.queue == depth.queue]
    back = [each for each in oracle.held_back(now) if each.message.queue == depth.queue]
    waiting = [
        each.due for each in stored if each.token is None and not each.dormant and each not in back
    ]
    due = [at for at in waiting if at <= now]
    assert depth.dormant == sum(each.dormant for each in stored)
    assert depth.limited == len(back)
    assert depth.leased == len(stored) - len(waiting) - depth.dormant - depth.limited
    assert (depth.ready, depth.scheduled) == (len(due), len(waiting) - len(due))
    assert depth.oldest == (now - min(due) if due else None)
    assert depth.paused == (depth.queue in oracle.resting)
