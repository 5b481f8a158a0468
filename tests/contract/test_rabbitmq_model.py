"""RabbitMQ with a companion against the oracle in `cardoon.testing`, and what it carries beside it.

The companion's store is equal after every step. What RabbitMQ carries is equal wherever AMQP has an order:
it counts as many messages as were sent and not taken, and delivers each in its turn.
"""

from __future__ import annotations

import time
import uuid
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from cardoon import brokers
from cardoon.backends.sqlite import SqliteBackend
from cardoon.broker import Ack, Completion, Outgoing
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.testing.model import QUEUES, TASKS, BrokerMachine
from tests.contract.rabbitmq_oracle import CarryingOracle
from tests.contract.test_model import InAFile
from tests.servers.rabbitmq import RabbitServer

PATIENCE = 30.0
"""Seconds after which something will not come any more."""

PLAIN = st.tuples(
    st.sampled_from(QUEUES),
    st.sampled_from([*(f"plain{number}" for number in range(12)), *TASKS[:2]]),
    st.binary(max_size=3),
    st.sampled_from([0, 0, 2]),
).map(lambda parts: Outgoing(*parts))


class RabbitmqMachine(InAFile, BrokerMachine):
    server: ClassVar[RabbitServer]
    store = forget = finish = claim = discard = publish_workflow = None
    """The companion does these alone, and is held to them elsewhere."""

    def make(self, clock):
        database = self.database(clock)
        broker = brokers.connect(
            self.server.url,
            clock=clock,
            timeout=PATIENCE,
            transport={"global_keyprefix": f"m{uuid.uuid4().hex}"},
            companion=SqliteBroker(database),
        )
        broker.declare(QUEUES)  # RabbitMQ cannot be asked which queues there are
        return broker, SqliteBackend(database)

    def make_oracle(self):
        return CarryingOracle()

    def _receive(self, queues, limit):
        """Take until all has come that must; what the server delivers again comes in its own time."""
        deadline = time.monotonic() + PATIENCE
        found = list(super()._receive(queues, limit))
        while len(found) < limit and (awaited := self.oracle.awaited(queues)):
            assert time.monotonic() < deadline, f"RabbitMQ keeps back {awaited}"
            found += super()._receive(queues, limit - len(found))
        return found

    @rule(outgoing=st.lists(PLAIN, min_size=1, max_size=6))
    def publish_plain(self, outgoing):
        """Send what RabbitMQ carries, some of it again."""
        self._publish(outgoing)

    @rule(outgoing=st.lists(PLAIN, max_size=6), limit=st.integers(1, 4), keeps=st.booleans())
    def go_on(self, outgoing, limit, keeps):
        """Let both queues go on, send more, take some of it, and end that or keep it."""
        self.broker.resume(QUEUES)
        self.oracle.resting.difference_update(QUEUES)
        self._publish(outgoing)
        held = self._receive(QUEUES, limit)
        if not keeps:
            ended = [Completion(Ack(each)) for each in held]
            assert list(self.broker.complete(ended)) == [True] * len(held)
            self.oracle.complete(ended, self.clock.now())

    @rule(queue=st.sampled_from(QUEUES), limit=st.integers(1, 9))
    def receive_from_one(self, queue, limit):
        """Take what is due there, and keep it."""
        self._receive([queue], limit)

    @rule(queue=st.sampled_from((*QUEUES, *("",) * 8)))
    def purge(self, queue):
        """Delete what waits; seldom."""
        unsure = len(self.oracle.on_server(queue)) - 1
        purged = self.broker.purge(queue)

        assert 0 <= self.oracle.purge(queue) - purged <= unsure

    def compare_depths(self, broker):
        super().compare_depths(broker.companion)
        deadline = time.monotonic() + PATIENCE
        while wrong := self._wrong_counts():
            assert time.monotonic() < deadline, wrong

    def _wrong_counts(self):
        """How many messages RabbitMQ counts, and how many there may be, where that is wrong."""
        both = {depth.queue: depth.ready for depth in self.broker.depths()}
        alone = {depth.queue: depth.ready for depth in self.broker.companion.depths()}
        counts = {queue: both.get(queue, 0) - alone.get(queue, 0) for queue in QUEUES}
        allowed = {queue: self.oracle.on_server(queue) for queue in QUEUES}
        return {
            queue: (count, allowed[queue])
            for queue, count in counts.items()
            if count not in allowed[queue]
        }


@pytest.fixture(scope="module", autouse=True)
def server(rabbitmq):
    """Machines are made by Hypothesis, which knows no fixtures."""
    RabbitmqMachine.server = rabbitmq


TestRabbitmqMachine = RabbitmqMachine.TestCase
TestRabbitmqMachine.settings = settings(
    max_examples=6,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to make an example smaller would take a server minutes
)
