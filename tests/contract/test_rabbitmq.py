"""RabbitMQ with a companion against the suite that ships in `cardoon.testing`.

Nobody can ask AMQP what lies in a queue. Five tests of the suite expect that somebody can, and stand here
anew, with what holds instead; docs/adr/0021-rabbitmq.md says why.
"""

from __future__ import annotations

import uuid

import pytest

from cardoon import backends, brokers
from cardoon.broker import Ack, Completion, DeadLetter, Kept, Outgoing, Quarantine
from cardoon.lookup import Findable
from cardoon.recalling import Recalling
from cardoon.security.replay import NonceState
from cardoon.testing.brokers import BrokerSuite
from cardoon.testing.setting import (
    claim,
    ids,
    limited,
    message,
    nonce,
    publish,
    receive,
    send,
    success,
    waiting,
)


class Rabbitmq(BrokerSuite):
    """The suite, and what holds in the place of five tests."""

    def make(self, clock):
        return brokers.connect(
            self.url,
            clock=clock,
            transport={"global_keyprefix": f"t{uuid.uuid4().hex}"},
            companion=brokers.connect(self.store, clock=clock),
        )

    def make_backend(self, broker, clock):
        return backends.connect(self.store, clock=clock, beside=broker.companion)

    def test_it_does_not_say_that_it_can_find_messages(self, broker):
        assert not isinstance(broker, Findable)

    def test_depths_tell_what_lies_in_each_queue(self, broker, clock):
        """Of a message that waits in RabbitMQ nobody knows the age."""
        broker.declare(["empty"])
        publish(broker, message("a"), message("b"))
        publish(broker, Outgoing("q", "later", b"x", run_at=clock.now() + 60))
        publish(broker, Outgoing("r", "soon", b"x", run_at=clock.now() + 4))
        receive(broker, limit=1)
        self.pass_time(clock, 7)

        depths = {
            each.queue: (each.ready, each.scheduled, each.leased, each.oldest)
            for each in broker.depths()
        }

        assert depths == {"empty": (0, 0, 0, None), "q": (1, 1, 1, None), "r": (1, 0, 0, 3)}

    def test_depths_and_limits_tell_what_is_held_back(self, broker, clock):
        send(broker, *(limited(f"m{number}", most=1) for number in range(4)), message("free"))
        assert sorted(ids(receive(broker))) == ["free", "m0"]
        publish(broker, message("plain"))

        (depth,) = broker.depths()

        assert (depth.ready, depth.limited, depth.leased, depth.oldest) == (1, 3, 2, None)
        assert [(use.key, use.running, use.waiting) for use in broker.limits(limit=9)] == [
            ("key", 1, 3)
        ]

    def test_a_message_whose_predecessors_are_all_somewhere_goes_on_waiting(self, broker, clock):
        """What another message of its batch waits for lies in the companion, which knows it."""
        everything = ("ended", "kept", "running", "ready", "scheduled", "dormant")
        late = Outgoing("q", "scheduled", b"", run_at=clock.now() + 540)
        publish(
            broker,
            *(message(name)._replace(priority=9) for name in everything[:3]),
            message("ready"),
            late,
            waiting("dormant", "running"),
            waiting("b", *everything),
        )
        ended, kept, running = receive(broker, limit=3)
        broker.complete([success(ended), Completion(Quarantine(kept, "odd"))])

        for _ in range(5):
            self.pass_time(clock, 30)
            broker.extend([running], lease=60)
            broker.maintain()

        assert ids(receive(broker)) == ["ready"]

    def test_a_kept_message_whose_id_is_in_a_queue_stays_kept(self, broker):
        """Whether an id waits in RabbitMQ nobody knows; so it is put back, and still there is one."""
        publish(broker, message("a"))
        broker.settle([DeadLetter(receive(broker)[0], "broken")])
        publish(broker, message("a"))
        (kept,) = broker.kept(Kept.DEAD_LETTER, limit=1)

        assert broker.restore(Kept.DEAD_LETTER, [kept.number]) == 1

        assert broker.kept(Kept.DEAD_LETTER, limit=1) == []
        (a,) = receive(broker)
        assert broker.settle([Ack(a)]) == [True]
        assert receive(broker) == []

    def test_what_was_signed_before_the_epoch_is_not_claimed(self, broker):
        """A file is one host's, and what others carried out it never knew: so nothing is held against it."""
        if isinstance(broker.companion, Recalling):
            super().test_what_was_signed_before_the_epoch_is_not_claimed(broker)
            return
        publish(broker, message("old"))
        (old,) = receive(broker)
        signed = nonce(1)._replace(signed_by=broker.begin_anew().since - 1)

        assert broker.claim([claim(old, signed)]) == [NonceState.CLAIMED]

    def test_a_completion_publishes_what_comes_next(self, broker):
        """What a completion sends is the companion's; a copy that waits in RabbitMQ is dropped later."""
        publish(broker, message("a"), message("b"), message("waits"))
        a, b = receive(broker, limit=2)

        broker.complete(
            [
                Completion(Ack(a), publish=(message("next"), message("waits"), message("b"))),
                Completion(Ack(b), publish=(message("next"),)),
            ]
        )

        assert sorted(ids(receive(broker))) == ["next", "waits"]
        assert receive(broker) == []


class TestRabbitmqBroker(Rabbitmq):
    """Beside SQLite."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path, rabbitmq):
        self.url = rabbitmq.url
        self.store = f"sqlite:///{tmp_path}/cardoon.db"


class TestRabbitmqTlsBroker(Rabbitmq):
    """Over TLS, beside a companion that lives in memory."""

    @pytest.fixture(autouse=True)
    def place(self, rabbitmq_tls):
        self.url = rabbitmq_tls.url
        self.store = "memory://"


class TestRabbitmqBesideRedisBroker(Rabbitmq):
    """Beside Redis."""

    @pytest.fixture(autouse=True)
    def place(self, rabbitmq, redis_server):
        redis_server.ask("FLUSHALL")
        self.url, self.store = rabbitmq.url, redis_server.url

    def test_the_first_send_begins_the_epoch_long_before_a_worker_comes(self, broker, clock):
        sent_at = clock.now()
        publish(broker, message("a"))
        self.pass_time(clock, 3600)

        assert broker.memory().since == sent_at
        (a,) = receive(broker)
        signed = nonce(1)._replace(signed_by=sent_at)
        assert broker.claim([claim(a, signed)]) == [NonceState.CLAIMED]


class TestRabbitmqBesidePostgresBroker(Rabbitmq):
    """Beside PostgreSQL."""

    @pytest.fixture(autouse=True)
    def place(self, rabbitmq, postgres):
        self.url, self.store = rabbitmq.url, postgres.empty()
