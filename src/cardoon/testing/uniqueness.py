"""What a Broker driver that keeps messages unique must do; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.broker import (
    Ack,
    Broker,
    Cause,
    Completion,
    DeadLetter,
    Inspectable,
    Kept,
    Maintained,
    Requeue,
    Transactional,
    Unique,
)
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import (
    BrokerFixtures,
    dead_letter,
    errback,
    having,
    ids,
    message,
    only,
    receive,
    refused,
    send,
    success,
)


class UniqueSuite(BrokerFixtures):
    """Of one key there is one message at a time."""

    def test_a_second_message_with_a_key_is_not_stored(self, broker: Broker) -> None:
        first = send(broker, only("a"))
        second = send(broker, only("b"), message("c"))

        assert dict(first) == {}
        assert dict(second) == {"b": "a"}
        assert ids(receive(broker)) == ["a", "c"]

    def test_two_of_one_batch_are_one(self, broker: Broker) -> None:
        told = send(broker, only("a"), only("b"), only("c", "other"), only("d"))

        assert dict(told) == {"b": "a", "d": "a"}
        assert ids(receive(broker)) == ["a", "c"]

    def test_sending_an_id_again_names_itself(self, broker: Broker) -> None:
        send(broker, only("a"))

        assert dict(send(broker, only("a"))) == {"a": "a"}
        assert dict(send(broker, only("a", "other"), only("b", "other"))) == {"a": "a"}
        assert ids(receive(broker)) == ["a", "b"]

    @pytest.mark.parametrize("wait", [0.0, 60.0])
    def test_a_key_is_taken_until_its_message_has_ended(
        self, broker: Broker, clock: FakeClock, wait: float
    ) -> None:
        send(broker, only("a")._replace(run_at=clock.now() + wait))
        seen = [dict(send(broker, only("b")))]
        self.pass_time(clock, wait)
        (a,) = receive(broker)
        seen.append(dict(send(broker, only("b"))))
        broker.settle([Requeue(a, Cause.RETRIED)])
        seen.append(dict(send(broker, only("b"))))
        (a,) = receive(broker)
        broker.settle([Ack(a)])
        seen.append(dict(send(broker, only("b"))))

        assert seen == [{"b": "a"}, {"b": "a"}, {"b": "a"}, {}]

    def test_a_lost_lease_leaves_the_key_taken(self, broker: Broker, clock: FakeClock) -> None:
        maintained = having(broker, Maintained)
        send(broker, only("a"))
        receive(broker)
        self.pass_time(clock, 30)
        maintained.maintain()

        assert dict(send(broker, only("b"))) == {"b": "a"}

    def test_whatever_ends_a_message_frees_its_key(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        freed = []
        for number, end in enumerate((Ack, dead_letter, refused)):
            send(broker, only(f"a{number}"))
            (held,) = receive(broker)
            broker.settle([end(held)])
            freed.append(dict(send(broker, only("next"))))
            inspectable.purge("q")
        send(broker, only("purged"))
        inspectable.purge("q")
        freed.append(dict(send(broker, only("next"))))

        assert freed == [{}] * 4

    def test_a_message_that_is_dropped_unread_frees_its_key(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        send(broker, message("a"), errback("b", "a")._replace(unique=Unique("key")))
        (a,) = receive(broker)
        before = dict(send(broker, only("c")))
        transactional.complete([success(a)])

        assert before == {"c": "b"}
        assert dict(send(broker, only("c"))) == {}

    def test_a_period_outlives_its_message(self, broker: Broker, clock: FakeClock) -> None:
        send(broker, only("a", period=10))
        broker.settle([Ack(receive(broker)[0])])

        self.pass_time(clock, 9)
        within = dict(send(broker, only("b", period=10), only("a", period=10)))
        self.pass_time(clock, 1)
        if isinstance(broker, Maintained):
            broker.maintain()
        after = dict(send(broker, only("c", period=10)))

        assert within == {"a": "a", "b": "a"}
        assert after == {}
        assert ids(receive(broker)) == ["c"]

    def test_a_message_outlives_its_period(self, broker: Broker, clock: FakeClock) -> None:
        send(broker, only("a", period=10))
        self.pass_time(clock, 20)

        assert dict(send(broker, only("b", period=10))) == {"b": "a"}

    def test_what_takes_the_place_of_a_message_keeps_its_key(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        send(broker, only("a"))
        (a,) = receive(broker)

        transactional.complete([Completion(Ack(a), publish=(only("a", period=60),))])
        taken = dict(send(broker, only("b")))
        (again,) = receive(broker)
        broker.settle([Ack(again)])

        assert taken == {"b": "a"}
        assert again.id == "a"
        # It was not sent, so its period does not begin.
        assert dict(send(broker, only("b"))) == {}

    def test_what_takes_the_place_of_a_message_is_never_turned_away(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        send(broker, only("a"), only("b", "other", period=5))
        a, b = receive(broker)

        done = transactional.complete(
            [Completion(Ack(a), publish=(only("a", "other"), only("c", "other", period=60)))]
        )

        assert list(done) == [True]
        assert ids(receive(broker)) == ["a", "c"]
        # The key stays with who has it, and is free when that one has ended.
        assert dict(send(broker, only("d", "other"))) == {"d": "b"}
        broker.settle([Ack(b)])
        assert dict(send(broker, only("d", "other"))) == {"d": "b"}  # within b's own period

    def test_a_kept_message_whose_key_is_in_a_queue_stays_kept(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        send(broker, only("a"))
        broker.settle([DeadLetter(receive(broker)[0], "broken")])
        send(broker, only("b"))
        (kept,) = inspectable.kept(Kept.DEAD_LETTER, limit=1)

        kept_back = inspectable.restore(Kept.DEAD_LETTER, [kept.number])
        broker.settle([Ack(receive(broker)[0])])
        restored = inspectable.restore(Kept.DEAD_LETTER, [kept.number])

        assert (kept_back, restored) == (0, 1)
        assert dict(send(broker, only("c"))) == {"c": "a"}

    def test_threads_that_send_at_the_same_time_send_one(self, broker: Broker) -> None:
        with ThreadPoolExecutor(8) as threads:
            told = list(threads.map(lambda n: send(broker, only(f"m{n}")), range(40)))

        (stored,) = ids(receive(broker))
        turned_away = {name: held for one in told for name, held in one.items()}
        assert set(turned_away.values()) == {stored}
        assert len(turned_away) == 39
