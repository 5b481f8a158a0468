"""The suite of `Pausable` brokers."""
# ruff: noqa: D102 - the name of a test is its sentence
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cardoon.broker import Ack, Broker, Inspectable, Outgoing, Subscribing, Subscription
from cardoon.pausing import Pausable
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import BrokerFixtures, having, ids, message, publish, receive

_LONG = 20.0
"""Seconds in real time after which a test gives up on something that should happen at once."""


class PausingSuite(BrokerFixtures):
    """Queues that rest."""

    def test_nothing_is_lent_from_a_queue_that_rests(self, broker: Broker) -> None:
        having(broker, Pausable).pause(["q"])
        publish(broker, message("a"), Outgoing("r", "b", b"x"))

        assert ids(receive(broker, "q", "r")) == ["b"]
        assert ids(receive(broker)) == []

    def test_a_queue_that_goes_on_has_kept_everything(self, broker: Broker) -> None:
        pausable = having(broker, Pausable)
        publish(broker, message("a"))
        pausable.pause(["q", "other"])
        pausable.pause(["q"])
        publish(broker, message("b"))

        pausable.resume(["q", "never paused"])

        assert ids(receive(broker)) == ["a", "b"]

    def test_what_is_on_loan_runs_to_its_end(self, broker: Broker) -> None:
        pausable = having(broker, Pausable)
        publish(broker, message("a"))
        (delivery,) = receive(broker)

        pausable.pause(["q"])

        assert list(broker.extend([delivery], lease=30)) == [delivery]
        assert list(broker.settle([Ack(delivery)])) == [True]

    def test_a_message_that_falls_due_waits_as_well(self, broker: Broker, clock: FakeClock) -> None:
        pausable = having(broker, Pausable)
        publish(broker, Outgoing("q", "a", b"x", run_at=clock.now() + 5))
        pausable.pause(["q"])
        self.pass_time(clock, 6)

        assert ids(receive(broker)) == []

        pausable.resume(["q"])
        assert ids(receive(broker)) == ["a"]

    def test_whoever_waits_for_a_queue_that_rests_is_woken_when_it_goes_on(
        self, broker: Broker
    ) -> None:
        pausable = having(broker, Pausable)
        publish(broker, message("a"))
        pausable.pause(["q"])
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(broker.receive, ["q"], limit=1, lease=30, timeout=_LONG)
            pausable.resume(["q"])

            assert ids(waiting.result(_LONG)) == ["a"]

    def test_it_is_shown_which_queues_rest(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        broker.declare(["q", "r"])
        having(broker, Pausable).pause(["q", "unknown"])

        depths = {depth.queue: depth.paused for depth in inspectable.depths()}

        assert depths == {"q": True, "r": False, "unknown": True}

    def test_it_can_be_asked_which_queues_rest(self, broker: Broker) -> None:
        pausable = having(broker, Pausable)
        before = set(pausable.resting())
        pausable.pause(["q", "unknown", "q\u00e9 > \u2603"])
        pausable.resume(["q"])

        assert (before, set(pausable.resting())) == (set(), {"unknown", "q\u00e9 > \u2603"})

    def test_copies_rest_with_their_broadcast_queue(self, broker: Broker) -> None:
        having(broker, Subscribing).subscribe([Subscription("news", "news>a")], seconds=60)
        pausable = having(broker, Pausable)
        publish(broker, Outgoing("news", "n", b"x", fanout=True))
        pausable.pause(["news"])

        assert ids(receive(broker, "news>a")) == []

        pausable.resume(["news"])
        assert len(receive(broker, "news>a")) == 1
