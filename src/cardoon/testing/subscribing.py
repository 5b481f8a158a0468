"""What a Broker driver with broadcast queues must do; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.broker import (
    MAX_SUBSCRIBERS,
    Ack,
    Broker,
    Cause,
    Completion,
    Inspectable,
    Kept,
    Maintained,
    Outgoing,
    QueueDepth,
    Requeue,
    Subscribing,
    Subscription,
    Transactional,
)
from cardoon.exceptions import ImproperlyConfigured
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import (
    BrokerFixtures,
    dead_letter,
    having,
    ids,
    message,
    publish,
    receive,
    refused,
)

FIRST = Subscription("news", "news of one")
SECOND = Subscription("news", "news of two")
OTHER = Subscription("weather", "weather of one")
SOON = 20.0
"""Seconds in real time after which something should have happened at once."""


def news(name: str, *, priority: int = 0, run_at: float | None = None) -> Outgoing:
    """A message to the subscribers of `news`."""
    return Outgoing("news", name, name.encode(), priority, run_at, fanout=True)


def frames(broker: Broker, *subscriptions: Subscription) -> list[list[bytes]]:
    """What is due at this moment for each subscriber; it is leased."""
    return [[delivery.frame for delivery in receive(broker, queue)] for _, queue in subscriptions]


class SubscribingSuite(BrokerFixtures):
    """Each subscriber gets a copy of its own, and none outlives its subscription."""

    def test_each_subscriber_gets_a_copy(self, broker: Broker) -> None:
        subscribing = having(broker, Subscribing)
        assert list(subscribing.subscribe([FIRST, OTHER], seconds=60)) == [False, False]
        assert list(subscribing.subscribe([SECOND], seconds=60)) == [False]

        publish(broker, news("a"), message("b"), news("c"))

        assert frames(broker, FIRST, SECOND, OTHER) == [[b"a", b"c"], [b"a", b"c"], []]
        assert ids(receive(broker)) == ["b"]
        assert receive(broker, "news") == []

    def test_a_copy_is_named_after_the_message_and_the_subscriber(self, broker: Broker) -> None:
        having(broker, Subscribing).subscribe([FIRST], seconds=60)
        sent = news("a", priority=7)
        publish(broker, sent)

        (copy,) = receive(broker, FIRST.queue)

        assert (copy.queue, copy.id) == (FIRST.queue, sent.copy_for(FIRST.queue).id)
        assert (copy.id, copy.priority, copy.attempt) == ("a>news of one", 7, 1)

    def test_without_a_subscriber_nothing_is_stored(self, broker: Broker) -> None:
        subscribing, inspectable = having(broker, Subscribing), having(broker, Inspectable)
        publish(broker, news("early"))
        subscribing.subscribe([FIRST], seconds=60)

        assert frames(broker, FIRST) == [[]]
        assert [depth.ready + depth.leased for depth in inspectable.depths()] == [0]

    def test_sending_an_id_again_is_one_copy_for_each(self, broker: Broker) -> None:
        subscribing = having(broker, Subscribing)
        subscribing.subscribe([FIRST], seconds=60)
        publish(broker, news("a"), news("a"))
        subscribing.subscribe([SECOND], seconds=60)
        publish(broker, news("a"))

        assert frames(broker, FIRST, SECOND) == [[b"a"], [b"a"]]

    def test_copies_are_settled_each_by_itself(self, broker: Broker) -> None:
        having(broker, Subscribing).subscribe([FIRST, SECOND], seconds=60)
        publish(broker, news("a"))
        (first,), (second,) = receive(broker, FIRST.queue), receive(broker, SECOND.queue)

        assert broker.settle([Ack(first), Requeue(second, Cause.RETRIED)]) == [True, True]

        assert receive(broker, FIRST.queue) == []
        assert [(one.id, one.retries) for one in receive(broker, SECOND.queue)] == [(second.id, 1)]

    def test_copies_wait_for_their_time(self, broker: Broker, clock: FakeClock) -> None:
        having(broker, Subscribing).subscribe([FIRST], seconds=60)
        publish(broker, news("late", run_at=clock.now() + 10), news("soon"))

        early = frames(broker, FIRST)
        self.pass_time(clock, 10)

        assert (early, frames(broker, FIRST)) == ([[b"soon"]], [[b"late"]])

    def test_a_subscriber_that_waits_is_woken(self, broker: Broker) -> None:
        having(broker, Subscribing).subscribe([FIRST], seconds=60)
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(broker.receive, [FIRST.queue], limit=1, lease=30, timeout=SOON)
            publish(broker, news("a"))

            assert [delivery.frame for delivery in waiting.result(SOON)] == [b"a"]

    def test_what_a_completion_publishes_goes_to_every_subscriber(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        having(broker, Subscribing).subscribe([FIRST, SECOND], seconds=60)
        publish(broker, message("a"))
        (a,) = receive(broker)

        transactional.complete([Completion(Ack(a), publish=(news("b"), message("c")))])

        assert frames(broker, FIRST, SECOND) == [[b"b"], [b"b"]]
        assert ids(receive(broker)) == ["c"]

    def test_a_copy_may_take_the_place_of_the_one_that_ends(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        having(broker, Subscribing).subscribe([FIRST, SECOND], seconds=60)
        publish(broker, news("a"))
        (copy,) = receive(broker, FIRST.queue)

        again = Outgoing(copy.queue, copy.id, b"again")
        transactional.complete([Completion(Ack(copy), publish=(again,))])

        assert frames(broker, FIRST, SECOND) == [[b"again"], [b"a"]]

    def test_a_subscription_that_is_renewed_goes_on(self, broker: Broker, clock: FakeClock) -> None:
        subscribing, maintained = having(broker, Subscribing), having(broker, Maintained)
        subscribing.subscribe([FIRST, SECOND], seconds=60)
        publish(broker, news("a"))
        self.pass_time(clock, 40)
        assert list(subscribing.subscribe([FIRST], seconds=60)) == [True]
        self.pass_time(clock, 40)

        publish(broker, news("b"))
        maintained.maintain()

        assert frames(broker, FIRST, SECOND) == [[b"a", b"b"], []]
        assert list(subscribing.subscribe([FIRST, SECOND], seconds=60)) == [True, False]

    def test_who_subscribes_again_in_time_finds_the_copies(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        subscribing, maintained = having(broker, Subscribing), having(broker, Maintained)
        subscribing.subscribe([FIRST], seconds=60)
        publish(broker, news("a"), news("b"))
        broker.receive([FIRST.queue], limit=1, lease=30, timeout=0)
        self.pass_time(clock, 30)
        maintained.maintain()

        assert list(subscribing.subscribe([FIRST], seconds=60)) == [True]
        self.pass_time(clock, 1)

        assert sorted(one for [*got] in frames(broker, FIRST) for one in got) == [b"a", b"b"]

    def test_who_unsubscribes_leaves_nothing_behind(self, broker: Broker, clock: FakeClock) -> None:
        subscribing = having(broker, Subscribing)
        subscribing.subscribe([FIRST, SECOND], seconds=60)
        publish(broker, news("a"), news("late", run_at=clock.now() + 10), message("b"))

        assert subscribing.unsubscribe([FIRST, OTHER]) == 2
        assert subscribing.unsubscribe([FIRST]) == 0
        publish(broker, news("c"))

        assert frames(broker, FIRST, SECOND) == [[], [b"a", b"c"]]
        assert ids(receive(broker)) == ["b"]
        assert list(subscribing.subscribe([FIRST], seconds=60)) == [False]

    def test_an_ordinary_queue_is_not_emptied_by_who_never_subscribed(self, broker: Broker) -> None:
        subscribing = having(broker, Subscribing)
        publish(broker, message("a"))

        assert subscribing.unsubscribe([Subscription("news", "q")]) == 0
        assert ids(receive(broker)) == ["a"]

    def test_a_copy_on_loan_ends_as_all_loans_do(self, broker: Broker) -> None:
        subscribing, maintained = having(broker, Subscribing), having(broker, Maintained)
        subscribing.subscribe([FIRST], seconds=60)
        publish(broker, news("a"), news("b"))
        a, b = receive(broker, FIRST.queue)
        subscribing.unsubscribe([FIRST])

        assert broker.settle([Ack(a), Requeue(b)]) == [True, True]
        maintained.maintain()

        assert frames(broker, FIRST) == [[]]

    def test_copies_of_one_that_died_are_deleted_with_its_subscription(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        subscribing, maintained = having(broker, Subscribing), having(broker, Maintained)
        inspectable = having(broker, Inspectable)
        subscribing.subscribe([FIRST], seconds=60)
        publish(broker, news("a"), news("b"))
        broker.receive([FIRST.queue], limit=1, lease=30, timeout=0)
        self.pass_time(clock, 60)

        maintained.maintain()
        maintained.maintain()

        assert frames(broker, FIRST) == [[]]
        assert [depth for depth in inspectable.depths() if depth.queue != "q"] == []

    def test_a_great_many_copies_are_deleted_in_time(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        subscribing, maintained = having(broker, Subscribing), having(broker, Maintained)
        subscribing.subscribe([FIRST, SECOND], seconds=60)
        publish(broker, *(news(f"m{number}") for number in range(1500)))
        subscribing.subscribe([SECOND], seconds=600)
        self.pass_time(clock, 60)

        for _ in range(4):
            maintained.maintain()

        assert [len(got) for got in frames(broker, FIRST, SECOND)] == [0, 1500]

    def test_a_queue_is_subscribed_to_the_one_named_last(self, broker: Broker) -> None:
        subscribing = having(broker, Subscribing)
        subscribing.subscribe([FIRST], seconds=60)
        moved = Subscription("weather", FIRST.queue)

        assert list(subscribing.subscribe([moved], seconds=60)) == [False]
        publish(broker, news("a"))

        assert subscribing.unsubscribe([FIRST]) == 0
        assert frames(broker, FIRST) == [[]]
        assert list(subscribing.subscribe([moved], seconds=60)) == [True]

    def test_there_is_a_bound_on_subscribers(self, broker: Broker) -> None:
        subscribing = having(broker, Subscribing)
        many = [Subscription("news", f"news of {number}") for number in range(MAX_SUBSCRIBERS)]
        subscribing.subscribe(many, seconds=60)

        with pytest.raises(ImproperlyConfigured, match=r"news.*10000 subscribers"):
            subscribing.subscribe([OTHER, FIRST], seconds=60)

        assert list(subscribing.subscribe([many[0], OTHER], seconds=60)) == [True, False]

    def test_depths_count_copies_with_their_broadcast_queue(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        inspectable = having(broker, Inspectable)
        having(broker, Subscribing).subscribe([FIRST, SECOND, OTHER], seconds=60)
        publish(broker, news("a"), news("b", run_at=clock.now() + 60))
        receive(broker, SECOND.queue)
        self.pass_time(clock, 5)

        assert list(inspectable.depths()) == [
            QueueDepth(
                queue="news", ready=1, scheduled=2, dormant=0, leased=1, oldest=5, subscribers=2
            ),
            QueueDepth(
                queue="weather",
                ready=0,
                scheduled=0,
                dormant=0,
                leased=0,
                oldest=None,
                subscribers=1,
            ),
        ]

    def test_to_purge_a_broadcast_queue_is_to_delete_the_copies_that_wait(
        self, broker: Broker
    ) -> None:
        inspectable = having(broker, Inspectable)
        having(broker, Subscribing).subscribe([FIRST, SECOND, OTHER], seconds=60)
        publish(broker, news("a"), news("b"), Outgoing("weather", "c", b"c", fanout=True))
        broker.receive([FIRST.queue], limit=1, lease=30, timeout=0)

        assert inspectable.purge("news") == 3
        assert frames(broker, FIRST, SECOND, OTHER) == [[], [], [b"c"]]

    def test_a_kept_copy_goes_back_to_the_subscriber_that_had_it(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        having(broker, Subscribing).subscribe([FIRST, SECOND], seconds=60)
        publish(broker, news("a"), news("b"))
        a, b = receive(broker, FIRST.queue)
        broker.settle([dead_letter(a), refused(b)])
        for place in Kept:
            (kept,) = inspectable.kept(place, limit=10)
            assert inspectable.restore(place, [kept.number]) == 1

        assert frames(broker, FIRST, SECOND) == [[b"a", b"b"], [b"a", b"b"]]
