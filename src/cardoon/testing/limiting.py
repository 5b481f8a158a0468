"""What a Broker driver that keeps limits must do; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.broker import (
    RATE_SLACK_SECONDS,
    Ack,
    Broker,
    Cause,
    Completion,
    DeadLetter,
    Inspectable,
    Kept,
    Limit,
    Limiting,
    LimitUse,
    Maintained,
    Outcome,
    Predecessor,
    Requeue,
    Transactional,
    Trigger,
)
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import (
    BrokerFixtures,
    dead_letter,
    having,
    ids,
    limited,
    message,
    publish,
    receive,
    refused,
    send,
    success,
    waiting,
)

LONG = 20.0
"""Seconds in real time after which a test gives up on something that should happen at once."""


class LimitSuite(BrokerFixtures):
    """Messages of one key take turns, and hold up no others."""

    def test_no_more_than_the_limit_are_on_loan(self, broker: Broker) -> None:
        send(broker, *(limited(f"m{number}", most=2) for number in range(5)), message("free"))

        first = receive(broker)
        second = receive(broker)
        broker.settle([Ack(first[0])])
        third = receive(broker)

        assert ids(first) == ["m0", "m1", "free"]
        assert second == []
        assert ids(third) == ["m2"]

    def test_a_limit_holds_over_several_claims_and_queues(self, broker: Broker) -> None:
        send(broker, limited("a", most=1), limited("b", most=1)._replace(queue="r"))

        first = receive(broker, "q", "r")
        again = receive(broker, "q", "r")
        broker.settle([Ack(first[0])])
        second = receive(broker, "q", "r")

        assert (len(first), again, len(second)) == (1, [], 1)
        assert {*ids(first), *ids(second)} == {"a", "b"}

    def test_a_message_that_is_dropped_when_it_is_sent_was_sent_all_the_same(
        self, broker: Broker
    ) -> None:
        first = Predecessor("first", b"")
        send(broker, message("first"), message("waits")._replace(after=(first,)))
        (held,) = receive(broker)
        assert isinstance(broker, Transactional)
        broker.complete([Completion(Ack(held), outcome=Outcome(b"done", succeeded=True))])
        send(broker, limited("a", most=1), limited("b", most=1))

        send(broker, limited("c", most=2)._replace(after=(first,), trigger=Trigger.FAILURE))

        assert ids(receive(broker)) == ["waits", "a", "b"]

    def test_each_key_has_its_own_turns(self, broker: Broker) -> None:
        send(broker, *(limited(f"{key}{n}", key, most=1) for n in range(2) for key in "kl"))

        assert ids(receive(broker)) == ["k0", "l0"]

    def test_the_most_urgent_goes_first_and_then_the_oldest(self, broker: Broker) -> None:
        send(broker, limited("running", most=1))
        (held,) = receive(broker)
        for name, priority in (("a", 0), ("b", 9), ("c", 9), ("d", 3)):
            send(broker, limited(name, most=1, priority=priority))
            assert receive(broker) == []

        order = []
        for _ in range(4):
            broker.settle([Ack(held)])
            (held,) = receive(broker)
            order.append(held.id)

        assert order == ["b", "c", "d", "a"]

    def test_one_that_goes_back_takes_its_place_in_the_line(self, broker: Broker) -> None:
        send(broker, limited("a", most=1, priority=1))
        (a,) = receive(broker)
        send(broker, limited("b", most=1, priority=5), limited("c", most=1))
        assert receive(broker) == []

        broker.settle([Requeue(a)])
        (b,) = receive(broker)
        broker.settle([Ack(b)])
        (again,) = receive(broker)

        assert (b.id, again.id) == ("b", "a")

    @pytest.mark.parametrize("cause", Cause)
    def test_one_that_goes_back_makes_room(
        self, broker: Broker, clock: FakeClock, cause: Cause
    ) -> None:
        send(broker, limited("a", most=1), limited("b", most=1))
        (a,) = receive(broker)
        assert receive(broker) == []

        broker.settle([Requeue(a, cause, delay=5)])
        (b,) = receive(broker)
        self.pass_time(clock, 5)
        early = receive(broker)
        broker.settle([Ack(b)])

        assert b.id == "b"
        assert early == []
        assert ids(receive(broker)) == ["a"]

    def test_a_lease_that_is_taken_back_makes_room(self, broker: Broker, clock: FakeClock) -> None:
        maintained = having(broker, Maintained)
        send(broker, limited("a", most=1), limited("b", most=1))
        receive(broker)
        assert receive(broker) == []
        self.pass_time(clock, 30)

        assert maintained.maintain() == 1
        assert ids(receive(broker)) == ["b"]

    def test_whatever_ends_a_message_makes_room(self, broker: Broker) -> None:
        send(broker, *(limited(f"m{number}", most=1) for number in range(4)))
        order = []
        for end in (Ack, dead_letter, refused, Ack):
            (held,) = receive(broker)
            assert receive(broker) == []
            broker.settle([end(held)])
            order.append(held.id)

        assert order == ["m0", "m1", "m2", "m3"]

    def test_several_places_that_are_freed_at_once_are_all_taken(self, broker: Broker) -> None:
        send(broker, *(limited(f"m{number}", most=3) for number in range(9)))
        for expected in (["m0", "m1", "m2"], ["m3", "m4", "m5"], ["m6", "m7", "m8"]):
            held = receive(broker)
            assert receive(broker) == []
            broker.settle([Ack(each) for each in held])

            assert ids(held) == expected

    def test_places_that_are_freed_one_by_one_are_all_taken(self, broker: Broker) -> None:
        send(broker, *(limited(f"m{number}", most=3) for number in range(9)))
        held = receive(broker)
        assert receive(broker) == []
        for each in held:
            broker.settle([Ack(each)])

        assert ids(receive(broker)) == ["m3", "m4", "m5"]

    def test_one_that_waits_for_others_takes_its_turn_when_they_have_ended(
        self, broker: Broker
    ) -> None:
        transactional = having(broker, Transactional)
        send(
            broker,
            limited("running", most=1),
            message("a"),
            waiting("b", "a")._replace(limit=Limit("key", 1)),
        )
        running, a = receive(broker)

        transactional.complete([success(a)])
        early = receive(broker)
        broker.settle([Ack(running)])

        assert early == []
        assert ids(receive(broker)) == ["b"]

    def test_the_latest_send_says_what_the_limit_is(self, broker: Broker) -> None:
        send(broker, *(limited(f"m{number}", most=1) for number in range(5)))
        held = [*receive(broker), *receive(broker)]

        send(broker, limited("last", most=3))
        wider = [*receive(broker), *receive(broker)]
        send(broker, limited("very last", most=2))
        broker.settle([Ack(held[0])])
        narrower = receive(broker)
        broker.settle([Ack(each) for each in wider])

        assert ids(wider) == ["m1", "m2"]
        assert narrower == []
        assert ids(receive(broker)) == ["m3", "m4"]

    def test_a_limit_that_is_lifted_holds_nothing_back(self, broker: Broker) -> None:
        send(broker, *(limited(f"m{number}", most=1) for number in range(4)))
        receive(broker)
        assert receive(broker) == []

        send(broker, limited("last"))

        assert ids(receive(broker)) == ["m1", "m2", "m3", "last"]

    def test_a_key_that_was_used_up_begins_anew(self, broker: Broker) -> None:
        for most in (1, 2):
            send(broker, *(limited(f"m{number}", most=most) for number in range(2)))
            held = receive(broker)
            broker.settle([Ack(each) for each in held])
            broker.settle([Ack(each) for each in receive(broker)])

            assert len(held) == most

    def test_a_restored_message_takes_turns_as_before(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        send(broker, limited("a", most=1), limited("b", most=1))
        for _ in range(2):
            broker.settle([DeadLetter(receive(broker)[0], "broken")])
        numbers = [kept.number for kept in inspectable.kept(Kept.DEAD_LETTER, limit=9)]

        inspectable.restore(Kept.DEAD_LETTER, numbers)

        assert ids(receive(broker)) == ["a"]
        assert receive(broker) == []

    def test_a_restored_message_keeps_to_what_counts_by_then(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        send(broker, limited("a", most=1))
        broker.settle([DeadLetter(receive(broker)[0], "broken")])
        (kept,) = inspectable.kept(Kept.DEAD_LETTER, limit=9)
        send(broker, limited("b", most=2), limited("c", most=2))

        inspectable.restore(Kept.DEAD_LETTER, [kept.number])

        assert ids(receive(broker)) == ["b", "c"]

    def test_purging_deletes_what_is_held_back(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        send(broker, *(limited(f"m{number}", most=1) for number in range(4)))
        (held,) = receive(broker)
        assert receive(broker) == []
        broker.settle([Requeue(held)])

        assert inspectable.purge("q") == 4
        send(broker, limited("again", most=1), limited("more", most=1))
        assert ids(receive(broker)) == ["again"]

    def test_a_full_key_of_another_queue_is_let_go_when_its_turn_is_purged(
        self, broker: Broker
    ) -> None:
        inspectable = having(broker, Inspectable)
        send(broker, *(limited(f"q{number}", most=1) for number in range(3)))
        send(broker, *(limited(f"r{n}", most=1)._replace(queue="r") for n in range(2)))
        (held,) = receive(broker, "q")
        assert receive(broker, "q", "r") == []
        broker.settle([Ack(held)])

        assert inspectable.purge("q") == 2
        assert ids(receive(broker, "r")) == ["r0"]

    def test_depths_and_limits_tell_what_is_held_back(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        inspectable, limiting = having(broker, Inspectable), having(broker, Limiting)
        send(broker, *(limited(f"m{number}", most=1) for number in range(4)))
        send(broker, limited("later", most=1)._replace(run_at=clock.now() + 60))
        send(broker, *(limited(f"n{number}", "rate", gap=4) for number in range(2)))
        before = list(limiting.limits(limit=9))
        receive(broker)
        self.pass_time(clock, 1)
        publish(broker, message("free"))
        self.pass_time(clock, 2)

        (depth,) = inspectable.depths()
        uses = list(limiting.limits(limit=9))

        assert before == []
        assert (depth.ready, depth.limited, depth.scheduled, depth.leased) == (1, 4, 1, 2)
        assert depth.oldest == 2
        assert uses[0] == LimitUse(key="key", most=1, gap=0, running=1, waiting=3, opens_in=None)
        assert (uses[1].key, uses[1].gap, uses[1].waiting) == ("rate", 4, 1)
        assert uses[1].opens_in == pytest.approx(1 - RATE_SLACK_SECONDS)
        assert list(limiting.limits(limit=1)) == uses[:1]


class RateSuite(BrokerFixtures):
    """Messages of one key begin no faster than its rate, whoever takes them."""

    def test_a_rate_spreads_messages_evenly(self, broker: Broker, clock: FakeClock) -> None:
        send(broker, *(limited(f"m{number}", gap=2) for number in range(30)), message("free"))
        taken = []
        for _ in range(40):
            taken += [(each.id, clock.now()) for each in receive(broker)]
            self.pass_time(clock, 0.5)

        assert taken[1][0] == "free"
        times = [moment for name, moment in taken if name != "free"]
        assert [name for name, _ in taken if name != "free"] == [f"m{n}" for n in range(10)]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps) >= 2 - RATE_SLACK_SECONDS
        assert max(gaps) <= 2.5

    def test_a_rate_that_was_not_used_is_not_saved_up(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        send(broker, limited("first", gap=2))
        broker.settle([Ack(receive(broker)[0])])
        self.pass_time(clock, 100)
        send(broker, *(limited(f"m{number}", gap=2) for number in range(5)))

        assert ids(receive(broker)) == ["m0"]

    def test_a_rate_is_remembered_when_no_message_is_left(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        send(broker, limited("first", gap=10))
        broker.settle([Ack(receive(broker)[0])])
        if isinstance(broker, Maintained):
            broker.maintain()

        send(broker, limited("second", gap=10))
        early = receive(broker)
        self.pass_time(clock, 10)

        assert early == []
        assert ids(receive(broker)) == ["second"]

    def test_a_high_rate_lets_go_as_many_as_the_slack_has_room_for(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        send(broker, *(limited(f"m{number:03}", gap=0.01) for number in range(200)))
        counts = [len(receive(broker))]
        for _ in range(10):
            self.pass_time(clock, 0.1)
            counts.append(len(receive(broker)))

        # A tenth of a second has room for ten, and twice the slack for five.
        assert all(5 <= count <= 7 for count in counts)

    def test_a_rate_and_a_limit_hold_both(self, broker: Broker, clock: FakeClock) -> None:
        send(broker, *(limited(f"m{number}", most=1, gap=2) for number in range(4)))
        (first,) = receive(broker)
        self.pass_time(clock, 5)
        full = receive(broker)
        broker.settle([Ack(first)])
        (second,) = receive(broker)
        broker.settle([Ack(second)])
        early = receive(broker)
        self.pass_time(clock, 2)

        assert (full, early) == ([], [])
        assert ids(receive(broker)) == ["m2"]

    def test_a_rate_holds_over_queues(self, broker: Broker, clock: FakeClock) -> None:
        queues = ("q", "r")
        for number in range(3):
            send(broker, *(limited(f"{q}{number}", gap=2)._replace(queue=q) for q in queues))
        counts = []
        for _ in range(6):
            counts.append(len(receive(broker, *queues)))
            assert receive(broker, *queues) == []
            self.pass_time(clock, 2)

        assert counts == [1] * 6

    def test_a_rate_that_is_raised_counts_at_once(self, broker: Broker, clock: FakeClock) -> None:
        send(broker, *(limited(f"m{number}", gap=60) for number in range(4)))
        receive(broker)
        assert receive(broker) == []

        send(broker, limited("last"))
        self.pass_time(clock, 0)

        assert ids(receive(broker)) == ["m1", "m2", "m3", "last"]

    def test_receive_wakes_when_the_rate_allows_the_next(self, broker: Broker) -> None:
        # The moment is the driver's clock's, which stands still here, and so the wait is in vain:
        # what matters is that it neither spins nor returns early.
        send(broker, limited("a", gap=3600), limited("b", gap=3600))
        receive(broker)
        started = time.monotonic()

        late = broker.receive(["q"], limit=1, lease=30, timeout=0.2)

        assert late == []
        assert time.monotonic() - started >= 0.2

    def test_receive_waits_for_a_place(self, broker: Broker) -> None:
        send(broker, limited("a", most=1), limited("b", most=1))
        (a,) = receive(broker)
        assert receive(broker) == []
        with ThreadPoolExecutor() as threads:
            waiting_for = threads.submit(broker.receive, ["q"], limit=1, lease=30, timeout=LONG)
            broker.settle([Ack(a)])

            assert ids(waiting_for.result(LONG)) == ["b"]


class CrowdSuite(BrokerFixtures):
    """Many that wait for one key are no burden on others."""

    def test_ten_thousand_that_wait_hold_up_nobody(self, broker: Broker) -> None:
        crowd = [limited(f"crowd{number}", most=1, priority=5) for number in range(10_000)]
        send(broker, *crowd)
        send(broker, *(message(f"m{number}") for number in range(50)))

        taken = []
        while deliveries := receive(broker, limit=10):
            taken += ids(deliveries)

        assert taken == ["crowd0", *(f"m{number}" for number in range(50))]
