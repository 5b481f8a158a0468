"""The hooks, fixtures and shorthands of the broker suites in `cardoon.testing.brokers`."""
# ruff: noqa: D102 - fixtures are named for what they are
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import pytest

from cardoon.backend import ResultBackend
from cardoon.broker import (
    Ack,
    Broker,
    Completion,
    DeadLetter,
    Delivery,
    Limit,
    Limiting,
    Outcome,
    Outgoing,
    Predecessor,
    Quarantine,
    Settlement,
    Trigger,
    Unique,
)
from cardoon.security.replay import Nonce, NonceClaim
from cardoon.testing.clock import FakeClock

_T = TypeVar("_T")


class BrokerFixtures:
    """The hooks that a subclass of `BrokerSuite` fills, and the fixtures of its tests."""

    def make(self, clock: FakeClock) -> Broker:
        """A broker with an empty store that lives by this clock."""
        raise NotImplementedError

    def make_backend(self, broker: Broker, clock: FakeClock) -> ResultBackend:  # noqa: ARG002
        """The result backend that shares the broker's store, for a `Transactional` one."""
        pytest.skip("this driver is tested without its result backend")

    def pass_time(self, clock: FakeClock, seconds: float) -> None:
        """Let time pass for the driver; one that asks a server for the time has its own way."""
        clock.advance(seconds)

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def broker(self, clock: FakeClock) -> Iterator[Broker]:
        broker = self.make(clock)
        yield broker
        broker.close()

    @pytest.fixture
    def backend(self, broker: Broker, clock: FakeClock) -> Iterator[ResultBackend]:
        backend = self.make_backend(broker, clock)
        yield backend
        backend.close()


def message(name: str) -> Outgoing:
    """A message to the queue `q`."""
    return Outgoing("q", name, name.encode())


def only(name: str, key: str = "key", period: float = 0.0) -> Outgoing:
    """A message to the queue `q` that is the only one with its key."""
    return message(name)._replace(unique=Unique(key, period))


def limited(
    name: str, key: str = "key", *, most: int = 0, gap: float = 0.0, priority: int = 0
) -> Outgoing:
    """A message to the queue `q` that takes turns with others."""
    return Outgoing("q", name, name.encode(), priority, limit=Limit(key, most, gap))


def send(broker: Broker, *outgoing: Outgoing) -> Mapping[str, str]:
    """Publish with patience; who stands in for whom. Skips the test for a driver without limits."""
    having(broker, Limiting)
    return broker.publish(outgoing, timeout=20)


def predecessor(name: str) -> Predecessor:
    """A message to wait for, with the digest that `inputs` repeats."""
    return Predecessor(name, hashlib.sha256(name.encode()).digest())


def waiting(name: str, *names: str, delay: float = 0.0, run_at: float | None = None) -> Outgoing:
    """A message to the queue `q` that waits for others to succeed."""
    after = tuple(map(predecessor, names))
    return Outgoing("q", name, name.encode(), run_at=run_at, after=after, delay=delay)


def errback(name: str, of: str, *, delay: float = 0.0) -> Outgoing:
    """A message to the queue `q` that waits for another to fail."""
    return waiting(name, of, delay=delay)._replace(trigger=Trigger.FAILURE)


def success(delivery: Delivery) -> Completion:
    """The end of a task that succeeded; its result is its name in capitals."""
    return Completion(Ack(delivery), outcome=Outcome(delivery.id.upper().encode(), succeeded=True))


def failure(delivery: Delivery, *, skipped: bool = False) -> Completion:
    """The end of a task that failed."""
    outcome = Outcome(f"no {delivery.id}".encode(), succeeded=False, skipped=skipped)
    return Completion(Ack(delivery), outcome=outcome)


def dead_letter(delivery: Delivery) -> Settlement:
    """The end of a message that is kept."""
    return DeadLetter(delivery, "broken")


def refused(delivery: Delivery) -> Settlement:
    """The end of a message that is quarantined."""
    return Quarantine(delivery, "refused")


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """The messages that were lent, in order."""
    return [delivery.id for delivery in deliveries]


def frames(delivery: Delivery) -> list[bytes | None]:
    """The results that a delivery carries."""
    return [each.frame for each in delivery.inputs]


def publish(broker: Broker, *outgoing: Outgoing) -> None:
    """Publish with patience."""
    broker.publish(outgoing, timeout=20)


def receive(broker: Broker, *queues: str, limit: int = 5000) -> Sequence[Delivery]:
    """What is due at this moment in these queues, or in `q`."""
    return broker.receive(queues or ["q"], limit=limit, lease=30, timeout=0)


def nonce(sequence: int, expires_at: float = 2e9) -> Nonce:
    """A nonce of one session."""
    return Nonce(b"\x00\xff session 16 by", sequence, expires_at)


def claim(delivery: Delivery, wanted: Nonce) -> NonceClaim:
    """The claim of a delivery to a nonce."""
    return NonceClaim(wanted, delivery.receipt, delivery.attempt, delivery.crashes)


def having(broker: Broker, power: type[_T]) -> _T:
    """The broker as one that has an optional power; skips the test without it."""
    if not isinstance(broker, power):
        pytest.skip(f"this driver is not {power.__name__}")
    return broker
