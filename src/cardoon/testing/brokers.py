"""What every Broker driver must do, as a suite that its author runs.

    class TestMyBroker(BrokerSuite):
        def make(self, clock):
            return MyBroker("localhost", clock=clock)

Each test gets a broker of its own, with an empty store. Tests of optional powers are skipped for a
driver without the power. See `cardoon.broker` for the contract in words.
"""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from cardoon.broker import (
    Ack,
    Broker,
    Cause,
    DeadLetter,
    Delivery,
    Outgoing,
    Quarantine,
    Requeue,
)
from cardoon.testing.clock import FakeClock
from cardoon.testing.epochs import EpochSuite
from cardoon.testing.finding import ErrbackSuite, FindableSuite
from cardoon.testing.inspecting import InspectableSuite
from cardoon.testing.limiting import CrowdSuite, LimitSuite, RateSuite
from cardoon.testing.pausing import PausingSuite
from cardoon.testing.posting import PostingSuite
from cardoon.testing.powers import (
    AdoptingSuite,
    BroadcasterSuite,
    MaintainedSuite,
    ReplaySuite,
    TransactionalSuite,
)
from cardoon.testing.quarantining import QuarantiningSuite
from cardoon.testing.recalling import RecallingSuite
from cardoon.testing.recording import RecordingSuite
from cardoon.testing.setting import message, publish, receive
from cardoon.testing.subscribing import SubscribingSuite
from cardoon.testing.tracing import RememberingSuite, TraceableSuite
from cardoon.testing.uniqueness import UniqueSuite
from cardoon.testing.workflows import KeptWorkflowSuite, WorkflowSuite

LONG = 20.0
"""Seconds in real time after which a test gives up on something that should happen at once."""


class BrokerSuite(
    MaintainedSuite,
    TransactionalSuite,
    AdoptingSuite,
    RecallingSuite,
    ReplaySuite,
    EpochSuite,
    BroadcasterSuite,
    PostingSuite,
    RecordingSuite,
    PausingSuite,
    InspectableSuite,
    QuarantiningSuite,
    WorkflowSuite,
    KeptWorkflowSuite,
    ErrbackSuite,
    FindableSuite,
    TraceableSuite,
    RememberingSuite,
    UniqueSuite,
    LimitSuite,
    RateSuite,
    CrowdSuite,
    SubscribingSuite,
):
    """The contract of `Broker`, and of those optional powers that the driver has."""

    def test_a_published_message_arrives_whole(self, broker: Broker) -> None:
        frame = bytes(range(256)) * 3
        publish(broker, Outgoing("q", "a", frame, priority=4))

        delivery = receive(broker)[0]

        assert delivery == Delivery(
            "q", "a", frame, delivery.receipt, 1, crashes=0, retries=0, priority=4
        )

    def test_an_empty_frame_and_a_large_one_arrive_whole(self, broker: Broker) -> None:
        large = bytes(range(256)) * 4096
        publish(broker, Outgoing("q", "empty", b""), Outgoing("q", "large", large))

        frames = {delivery.id: delivery.frame for delivery in receive(broker)}

        assert frames == {"empty": b"", "large": large}

    def test_ids_and_queues_may_be_any_text(self, broker: Broker) -> None:
        publish(broker, Outgoing("qué \\ue \"'%", "☃ ] [ { \\u0041 \n\t", b"x"))

        (delivery,) = receive(broker, "qué \\ue \"'%")

        assert delivery.id == "☃ ] [ { \\u0041 \n\t"

    def test_publishing_nothing_is_nothing(self, broker: Broker) -> None:
        publish(broker)

        assert receive(broker) == []

    def test_a_queue_may_be_declared_twice(self, broker: Broker) -> None:
        broker.declare(["q"])
        broker.declare(["q", "r"])
        publish(broker, message("a"))

        assert len(receive(broker)) == 1

    def test_only_the_queues_asked_for_are_served(self, broker: Broker) -> None:
        publish(broker, Outgoing("other", "a", b"x"), message("b"))

        assert [delivery.id for delivery in receive(broker, "q", "empty")] == ["b"]

    def test_no_more_than_the_limit_arrives(self, broker: Broker) -> None:
        publish(broker, message("a"), message("b"), message("c"))

        assert len(receive(broker, limit=2)) == 2
        assert len(receive(broker, limit=2)) == 1

    def test_the_most_urgent_arrives_first(self, broker: Broker) -> None:
        for name, priority in (("a", 0), ("b", 9), ("c", 3), ("d", 9)):
            publish(broker, Outgoing("q", name, b"x", priority=priority))

        first = [delivery.id for delivery in receive(broker, limit=3)]

        assert first == ["b", "d", "c"]

    def test_an_urgent_message_overtakes_what_was_sent_before(self, broker: Broker) -> None:
        """Also where the driver has been sent that already."""
        publish(broker, *map(message, "abc"))
        broker.settle([Ack(delivery) for delivery in receive(broker)])
        publish(broker, message("d"), message("e"))

        publish(broker, Outgoing("q", "urgent", b"x", priority=9))

        assert [delivery.id for delivery in receive(broker, limit=2)] == ["urgent", "d"]

    def test_equally_urgent_messages_arrive_in_the_order_of_publishing(
        self, broker: Broker
    ) -> None:
        names = [f"m{number}" for number in range(20)]
        publish(broker, *map(message, names[:10]))
        publish(broker, *map(message, names[10:]))

        assert [delivery.id for delivery in receive(broker)] == names

    def test_a_queue_cannot_starve_another(self, broker: Broker) -> None:
        for number in range(4):
            publish(broker, Outgoing("q", f"q{number}", b"x"), Outgoing("r", f"r{number}", b"x"))

        served = [receive(broker, "q", "r", limit=1)[0].queue for _ in range(4)]

        assert set(served) == {"q", "r"}

    def test_a_full_queue_fills_what_an_empty_one_leaves(self, broker: Broker) -> None:
        publish(broker, *(message(f"m{number}") for number in range(5)))

        assert len(receive(broker, "empty", "q", "empty2", limit=5)) == 5

    def test_a_scheduled_message_waits_until_it_is_due(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        publish(broker, Outgoing("q", "later", b"x", run_at=clock.now() + 10), message("now"))

        early = receive(broker)
        self.pass_time(clock, 10)
        due = receive(broker)

        assert [delivery.id for delivery in early] == ["now"]
        assert [delivery.id for delivery in due] == ["later"]

    def test_a_message_scheduled_for_the_past_is_due(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        publish(broker, Outgoing("q", "a", b"x", run_at=clock.now() - 5))

        assert len(receive(broker)) == 1

    def test_sending_an_id_again_is_one_message(self, broker: Broker) -> None:
        publish(broker, Outgoing("q", "a", b"first"), Outgoing("q", "a", b"second"))
        publish(broker, Outgoing("q", "a", b"third"))

        deliveries = receive(broker)
        publish(broker, Outgoing("q", "a", b"fourth"))

        assert [delivery.frame for delivery in deliveries] == [b"first"]
        assert receive(broker) == []

    def test_an_id_may_be_used_again_after_its_message_is_done(self, broker: Broker) -> None:
        publish(broker, Outgoing("q", "a", b"first"))
        first = receive(broker)[0]
        broker.settle([Ack(first)])

        publish(broker, Outgoing("q", "a", b"second"))
        second = receive(broker)[0]

        assert second.frame == b"second"
        # The old token names another message, though id and attempt are the same.
        assert broker.settle([Ack(first)]) == [False]
        assert broker.extend([first], lease=30) == []
        assert broker.settle([Ack(second)]) == [True]

    def test_a_message_on_loan_is_not_lent_again(self, broker: Broker) -> None:
        publish(broker, message("a"))
        receive(broker)

        assert receive(broker) == []

    def test_receive_returns_nothing_after_its_timeout(self, broker: Broker) -> None:
        assert broker.receive(["q"], limit=1, lease=30, timeout=0.01) == []

    def test_receive_waits_for_a_message(self, broker: Broker) -> None:
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(broker.receive, ["q"], limit=1, lease=30, timeout=LONG)
            publish(broker, message("a"))

            assert [delivery.id for delivery in waiting.result(LONG)] == ["a"]

    def test_extending_returns_what_is_still_held(self, broker: Broker) -> None:
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)
        broker.settle([Ack(a)])

        assert list(broker.extend([a, b], lease=30)) == [b]
        assert broker.extend([], lease=30) == []

    def test_an_acknowledged_message_is_gone(self, broker: Broker) -> None:
        publish(broker, message("a"))
        delivery = receive(broker)[0]

        assert broker.settle([Ack(delivery)]) == [True]
        assert broker.settle([Ack(delivery)]) == [False]
        assert receive(broker) == []

    def test_settling_nothing_is_nothing(self, broker: Broker) -> None:
        assert broker.settle([]) == []

    def test_a_loan_ends_once_within_one_call(self, broker: Broker) -> None:
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)

        ended = broker.settle([Ack(a), Requeue(a), Ack(b)])

        assert ended == [True, False, True]
        assert receive(broker) == []

    def test_a_released_message_goes_back_to_its_place(self, broker: Broker) -> None:
        publish(broker, message("a"), message("b"), message("c"))
        a, b = receive(broker, limit=2)

        broker.settle([Requeue(b), Requeue(a)])

        assert [delivery.id for delivery in receive(broker)] == ["a", "b", "c"]

    def test_a_requeued_message_waits_for_its_delay(self, broker: Broker, clock: FakeClock) -> None:
        publish(broker, message("a"))
        broker.settle([Requeue(receive(broker)[0], delay=5)])

        early = receive(broker)
        self.pass_time(clock, 5)

        assert early == []
        assert len(receive(broker)) == 1

    def test_attempts_crashes_and_retries_are_counted_apart(self, broker: Broker) -> None:
        publish(broker, message("a"))
        seen = []
        for cause in (Cause.RELEASED, Cause.RETRIED, Cause.RETRIED, Cause.CRASHED):
            delivery = receive(broker)[0]
            seen.append((delivery.attempt, delivery.crashes, delivery.retries))
            broker.settle([Requeue(delivery, cause)])
        last = receive(broker)[0]

        assert seen == [(1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 0, 2)]
        assert (last.attempt, last.crashes, last.retries) == (5, 1, 2)

    def test_an_older_attempt_has_lost_the_message(self, broker: Broker) -> None:
        publish(broker, message("a"))
        old = receive(broker)[0]
        broker.settle([Requeue(old)])
        new = receive(broker)[0]

        assert broker.settle([Ack(old)]) == [False]
        assert broker.settle([Requeue(old)]) == [False]
        assert broker.settle([DeadLetter(old, "late")]) == [False]
        assert broker.extend([old], lease=30) == []
        assert broker.settle([Ack(new)]) == [True]

    def test_a_token_must_name_its_message(self, broker: Broker) -> None:
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)

        assert broker.settle([Ack(a._replace(id=b.id))]) == [False]
        assert broker.settle([Ack(a._replace(attempt=2))]) == [False]
        assert broker.settle([Ack(a), Ack(b)]) == [True, True]

    def test_dead_letters_and_quarantined_messages_leave_the_queue(self, broker: Broker) -> None:
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)

        ended = broker.settle([DeadLetter(a, "broken"), Quarantine(b, "unsigned", "no header")])

        assert ended == [True, True]
        assert receive(broker) == []

    def test_a_thousand_messages_go_through_in_batches(self, broker: Broker) -> None:
        names = [f"m{number}" for number in range(2500)]
        publish(broker, *map(message, names))

        seen = []
        while deliveries := receive(broker, limit=700):
            assert all(broker.settle([Ack(delivery) for delivery in deliveries]))
            seen += [delivery.id for delivery in deliveries]

        assert seen == names

    def test_threads_share_a_broker(self, broker: Broker) -> None:
        names = [f"m{number}" for number in range(200)]
        start = threading.Barrier(4)

        def send(part: int) -> None:
            start.wait()
            for name in names[part::2]:
                publish(broker, message(name))

        def take() -> list[str]:
            start.wait()
            taken = []
            while deliveries := broker.receive(["q"], limit=7, lease=30, timeout=0.5):
                assert all(broker.settle([Ack(delivery) for delivery in deliveries]))
                taken += [delivery.id for delivery in deliveries]
            return taken

        with ThreadPoolExecutor(4) as threads:
            senders = [threads.submit(send, part) for part in range(2)]
            takers = [threads.submit(take) for _ in range(2)]
            for sender in senders:
                sender.result()
            taken = [name for taker in takers for name in taker.result()]

        assert sorted(taken) == sorted(names)

    def test_closing_twice_is_closing_once(self, broker: Broker) -> None:
        publish(broker, message("a"))

        broker.close()
        broker.close()
