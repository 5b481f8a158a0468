"""What a Broker driver must tell of one message; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

from cardoon.broker import (
    Ack,
    Broker,
    Cause,
    Completion,
    DeadLetter,
    Inspectable,
    Kept,
    Limiting,
    Outgoing,
    Quarantine,
    Requeue,
    Transactional,
)
from cardoon.lookup import MAX_MISSING, Place, Remembering, Traceable, Whereabouts
from cardoon.security.replay import ReplayGuard
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import (
    BrokerFixtures,
    claim,
    failure,
    having,
    limited,
    message,
    nonce,
    only,
    publish,
    receive,
    send,
    success,
    waiting,
)


def trace(broker: Broker, name: str) -> Whereabouts:
    """What the broker knows of a message that is there."""
    found = having(broker, Traceable).trace(name)
    assert found is not None
    return found


class TraceableSuite(BrokerFixtures):
    """All that is known of a message is told to whoever asks why it does not run."""

    def test_nothing_is_known_of_a_message_that_is_nowhere(self, broker: Broker) -> None:
        traceable = having(broker, Traceable)
        publish(broker, message("a"))
        broker.settle([Ack(receive(broker)[0])])

        assert (traceable.trace("a"), traceable.trace("never sent")) == (None, None)

    def test_a_ready_message_tells_since_when_and_what_is_before_it(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        having(broker, Traceable)
        publish(broker, message("old"), Outgoing("q", "urgent", b"", 9), message("other"))
        publish(broker, Outgoing("q", "mine", b"frame", 3), Outgoing("q", "late", b"", 3))
        publish(broker, Outgoing("elsewhere", "far", b"", 9))
        self.pass_time(clock, 5)

        mine = trace(broker, "mine")

        assert (mine.place, mine.queue, mine.frame, mine.priority) == (
            Place.READY,
            "q",
            b"frame",
            3,
        )
        assert (mine.attempt, mine.crashes, mine.retries) == (0, 0, 0)
        assert mine.due == clock.now() - 5
        assert mine.ahead == 1
        assert [trace(broker, name).ahead for name in ("urgent", "late", "old", "other")] == [
            *(0, 2, 3, 4),
        ]

    def test_a_scheduled_message_tells_when_it_is_due(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        having(broker, Traceable)
        publish(broker, Outgoing("q", "a", b"", run_at=clock.now() + 50))

        before = trace(broker, "a")
        self.pass_time(clock, 50)
        after = trace(broker, "a")

        assert (before.place, after.place) == (Place.SCHEDULED, Place.READY)
        assert before.due == after.due == clock.now()

    def test_a_leased_message_tells_how_long_its_lease_is(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        having(broker, Traceable)
        publish(broker, message("a"))
        broker.settle([Requeue(receive(broker)[0], Cause.CRASHED)])
        broker.settle([Requeue(receive(broker)[0], Cause.RETRIED)])
        receive(broker)
        self.pass_time(clock, 10)

        found = trace(broker, "a")

        assert found.place is Place.LEASED
        assert (found.attempt, found.crashes, found.retries) == (3, 1, 1)
        assert found.lease_left is not None
        assert round(found.lease_left) == 20
        assert found.due is None

    def test_a_retried_message_tells_when_it_runs_again(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        having(broker, Traceable)
        publish(broker, message("a"))
        broker.settle([Requeue(receive(broker)[0], Cause.RETRIED, 30.0)])

        found = trace(broker, "a")

        assert (found.place, found.retries, found.due) == (Place.SCHEDULED, 1, clock.now() + 30)

    def test_a_dormant_message_names_those_that_have_not_ended(self, broker: Broker) -> None:
        having(broker, Traceable)
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"), waiting("c", "b", "a", "x", "b"))

        before = trace(broker, "c")
        transactional.complete([success(one) for one in receive(broker) if one.id == "b"])
        after = trace(broker, "c")

        assert (before.place, before.waits_for) == (Place.DORMANT, 3)
        assert before.missing == ("b", "a", "x")
        assert (after.place, after.waits_for, after.missing) == (Place.DORMANT, 2, ("a", "x"))

    def test_a_message_that_was_woken_waits_for_nothing(self, broker: Broker) -> None:
        having(broker, Traceable)
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("c", "a", "x"))
        transactional.complete([failure(one) for one in receive(broker)])

        found = trace(broker, "c")

        assert (found.place, found.waits_for, found.missing) == (Place.READY, 0, ())

    def test_of_many_predecessors_the_first_are_named(self, broker: Broker) -> None:
        having(broker, Traceable)
        having(broker, Transactional)
        names = [f"m{number}" for number in range(MAX_MISSING + 20)]
        publish(broker, waiting("last", *names))

        found = trace(broker, "last")

        assert found.waits_for == MAX_MISSING + 20
        assert list(found.missing) == names[:MAX_MISSING]

    def test_keys_are_told(self, broker: Broker) -> None:
        having(broker, Traceable)
        having(broker, Limiting)
        send(broker, limited("a", "turn", most=1), limited("b", "turn", most=1), only("c", "one"))
        receive(broker, limit=1)

        assert [trace(broker, name).limit for name in "abc"] == ["turn", "turn", ""]
        assert [trace(broker, name).unique for name in "abc"] == ["", "", "one"]
        assert trace(broker, "b").place is Place.READY

    def test_those_that_a_limit_holds_back_hold_up_nobody(self, broker: Broker) -> None:
        having(broker, Traceable)
        having(broker, Limiting)
        send(broker, limited("a", most=1), limited("b", most=1), limited("c", most=1))
        receive(broker, limit=1)
        publish(broker, message("plain"))

        assert trace(broker, "plain").ahead == 0

    def test_what_is_kept_tells_why(self, broker: Broker, clock: FakeClock) -> None:
        having(broker, Traceable)
        inspectable = having(broker, Inspectable)
        publish(broker, Outgoing("q", "dead", b"D", 4), message("refused"))
        dead, refused = receive(broker)
        broker.settle([DeadLetter(dead, "broken"), Quarantine(refused, "odd", "its ears")])

        found, other = trace(broker, "dead"), trace(broker, "refused")

        assert (found.place, found.frame, found.priority) == (Place.DEAD_LETTER, b"D", 4)
        assert (other.place, other.attempt) == (Place.QUARANTINE, 1)
        assert [found.kept] == list(inspectable.kept(Kept.DEAD_LETTER, limit=9))
        assert [other.kept] == list(inspectable.kept(Kept.QUARANTINE, limit=9))
        assert found.kept is not None
        assert found.kept.kept_at == clock.now()

    def test_of_several_kept_ones_the_latest_is_told_and_a_queued_one_before_it(
        self, broker: Broker
    ) -> None:
        having(broker, Traceable)
        for reason in ("first", "second"):
            publish(broker, message("a"))
            broker.settle([DeadLetter(receive(broker)[0], reason)])

        kept = trace(broker, "a").kept
        publish(broker, message("a"))

        assert kept is not None
        assert kept.reason == "second"
        assert trace(broker, "a").kept is None

    def test_ids_may_be_any_text(self, broker: Broker) -> None:
        having(broker, Traceable)
        publish(broker, Outgoing("qué \"'%", "☃ ] [ { \\u0041 \n\t", b"x"))

        assert trace(broker, "☃ ] [ { \\u0041 \n\t").queue == "qué \"'%"


class RememberingSuite(BrokerFixtures):
    """Whether a message was carried out is told without claiming it."""

    def test_what_was_carried_out_is_remembered(self, broker: Broker) -> None:
        memory, guard = having(broker, Remembering), having(broker, ReplayGuard)
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)
        guard.claim([claim(a, nonce(1)), claim(b, nonce(2))])
        transactional.complete([Completion(Ack(a), nonce=nonce(1))])

        assert list(memory.were_done([nonce(2), nonce(1), nonce(3)])) == [False, True, False]
        assert list(memory.were_done([])) == []

    def test_to_ask_claims_nothing(self, broker: Broker) -> None:
        memory, guard = having(broker, Remembering), having(broker, ReplayGuard)
        publish(broker, message("a"))
        (a,) = receive(broker)
        assert list(memory.were_done([nonce(1)])) == [False]

        guard.claim([claim(a, nonce(1))])
        assert list(memory.were_done([nonce(1)])) == [False]
        guard.finish([nonce(1)])

        assert list(memory.were_done([nonce(1)])) == [True]
