"""What a Broker driver must do with errbacks that never run, and by id; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from cardoon.broker import (
    Ack,
    Broker,
    Completion,
    DeadLetter,
    Delivery,
    Inspectable,
    Limiting,
    Outgoing,
    Quarantine,
    Transactional,
)
from cardoon.lookup import Findable, Place
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import (
    BrokerFixtures,
    errback,
    failure,
    frames,
    having,
    ids,
    limited,
    message,
    publish,
    receive,
    send,
    success,
    waiting,
)


class ErrbackSuite(BrokerFixtures):
    """What waits for an errback that never runs goes with it."""

    @pytest.mark.parametrize("end", [success, functools.partial(failure, skipped=True)])
    def test_what_waits_for_a_deleted_errback_is_deleted_with_it(
        self, broker: Broker, end: Callable[[Delivery], Completion]
    ) -> None:
        transactional, inspectable = having(broker, Transactional), having(broker, Inspectable)
        publish(broker, message("a"), errback("e", of="a"), waiting("f", "e"), waiting("g", "e"))
        publish(broker, waiting("h", "f", "g"), errback("i", of="h"), waiting("other", "a", "x"))
        (a,) = receive(broker)

        transactional.complete([end(a)])

        (depth,) = inspectable.depths()
        assert depth.dormant + depth.ready == 1
        # Their ids are free again.
        publish(broker, *map(message, "efghi"))
        assert set(ids(receive(broker))) >= set("efghi")

    def test_what_waits_for_an_errback_that_runs_waits_for_it(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), errback("e", of="a"), waiting("f", "e"))
        (a,) = receive(broker)

        transactional.complete([failure(a)])
        (e,) = receive(broker)
        transactional.complete([success(e)])

        assert (e.id, [frames(delivery) for delivery in receive(broker)]) == ("e", [[b"E"]])


class FindableSuite(BrokerFixtures):
    """A message is found by its id, wherever it lies."""

    def test_messages_are_found_where_they_are(self, broker: Broker, clock: FakeClock) -> None:
        findable = having(broker, Findable)
        publish(broker, message("leased"), message("dead"), message("refused"))
        leased, dead, refused = receive(broker)
        broker.settle([DeadLetter(dead, "broken"), Quarantine(refused, "odd")])
        publish(broker, message("ready"), Outgoing("q", "soon", b"", run_at=clock.now() + 5))
        publish(broker, Outgoing("q", "late", b"", run_at=clock.now() + 50))
        self.pass_time(clock, 5)

        found = findable.find(
            ["ready", "late", "soon", "leased", "dead", "refused", "nowhere", "ready"]
        )

        assert found == {
            "ready": Place.READY,
            "soon": Place.READY,
            "late": Place.SCHEDULED,
            "leased": Place.LEASED,
            "dead": Place.DEAD_LETTER,
            "refused": Place.QUARANTINE,
        }
        assert leased.id == "leased"

    def test_a_message_that_has_ended_is_nowhere(self, broker: Broker) -> None:
        findable = having(broker, Findable)
        publish(broker, message("a"))
        broker.settle([Ack(receive(broker)[0])])

        assert findable.find(["a"]) == {}
        assert findable.find([]) == {}

    def test_a_message_that_waits_for_others_is_dormant_until_they_have_ended(
        self, broker: Broker
    ) -> None:
        findable, transactional = having(broker, Findable), having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        before = findable.find(["b"])

        transactional.complete([success(delivery) for delivery in receive(broker)])

        assert (before, findable.find(["b"])) == ({"b": Place.DORMANT}, {"b": Place.READY})

    def test_a_message_that_a_limit_holds_back_is_ready(self, broker: Broker) -> None:
        findable = having(broker, Findable)
        having(broker, Limiting)
        send(broker, limited("a", most=1), limited("b", most=1))
        assert ids(receive(broker)) == ["a"]

        assert findable.find(["a", "b"]) == {"a": Place.LEASED, "b": Place.READY}

    def test_what_lies_in_a_queue_counts_before_what_is_kept(self, broker: Broker) -> None:
        findable = having(broker, Findable)
        having(broker, Transactional).complete([])
        publish(broker, message("a"))
        broker.settle([DeadLetter(receive(broker)[0], "broken")])
        publish(broker, message("a"))

        assert findable.find(["a"]) == {"a": Place.READY}

    def test_many_are_found_at_once(self, broker: Broker) -> None:
        findable = having(broker, Findable)
        names = [f"m{number}" for number in range(2500)]
        publish(broker, *map(message, names[::2]))

        assert sorted(findable.find(names)) == sorted(names[::2])
