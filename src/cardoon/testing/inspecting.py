"""What a Broker driver that can be looked into must do; part of `cardoon.testing.brokers`."""
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
    Outgoing,
    Quarantine,
    QueueDepth,
    Requeue,
    Transactional,
)
from cardoon.security.replay import NonceState, ReplayGuard
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import (
    BrokerFixtures,
    claim,
    having,
    message,
    nonce,
    publish,
    receive,
)


class InspectableSuite(BrokerFixtures):
    """People can see what lies where, and move it."""

    def test_depths_tell_what_lies_in_each_queue(self, broker: Broker, clock: FakeClock) -> None:
        inspectable = having(broker, Inspectable)
        broker.declare(["empty"])
        publish(broker, message("a"), message("b"))
        publish(broker, Outgoing("q", "later", b"x", run_at=clock.now() + 60))
        publish(broker, Outgoing("r", "soon", b"x", run_at=clock.now() + 4))
        receive(broker, limit=1)
        self.pass_time(clock, 7)
        receive(broker, "r", limit=1)
        publish(broker, Outgoing("r", "now", b"x"))
        self.pass_time(clock, 2)

        depths = list(inspectable.depths())

        assert depths == [
            QueueDepth(queue="empty", ready=0, scheduled=0, dormant=0, leased=0, oldest=None),
            QueueDepth(queue="q", ready=1, scheduled=1, dormant=0, leased=1, oldest=9),
            QueueDepth(queue="r", ready=1, scheduled=0, dormant=0, leased=1, oldest=2),
        ]

    def test_purging_deletes_what_waits(self, broker: Broker, clock: FakeClock) -> None:
        inspectable = having(broker, Inspectable)
        publish(broker, message("a"), message("b"), Outgoing("other", "c", b"x"))
        publish(broker, Outgoing("q", "later", b"x", run_at=clock.now() + 60))
        (held,) = receive(broker, limit=1)

        deleted = inspectable.purge("q")

        assert deleted == 2
        assert receive(broker) == []
        assert broker.settle([Ack(held)]) == [True]
        assert len(receive(broker, "other")) == 1

    def test_kept_messages_are_shown_with_their_reason(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        inspectable = having(broker, Inspectable)
        publish(broker, message("a"), message("b"), message("c"))
        broker.settle([Requeue(delivery, Cause.CRASHED) for delivery in receive(broker)])
        a, b, c = receive(broker)
        broker.settle([DeadLetter(a, "broken"), Quarantine(b, "unsigned", "no header")])
        broker.settle([DeadLetter(c, "worn out")])

        dead = inspectable.kept(Kept.DEAD_LETTER, limit=10)
        (refused,) = inspectable.kept(Kept.QUARANTINE, limit=10)

        assert [(kept.id, kept.reason, kept.frame) for kept in dead] == [
            ("a", "broken", b"a"),
            ("c", "worn out", b"c"),
        ]
        assert (refused.id, refused.queue, refused.reason) == ("b", "q", "unsigned")
        assert (refused.detail, refused.kept_at) == ("no header", clock.now())
        assert (refused.attempt, refused.crashes, refused.retries) == (2, 1, 0)
        assert list(inspectable.kept(Kept.DEAD_LETTER, limit=1)) == [dead[0]]
        assert list(inspectable.kept(Kept.DEAD_LETTER, limit=9, after=dead[0].number)) == [dead[1]]

    def test_reasons_may_be_any_text(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        publish(broker, message("a"))
        (a,) = receive(broker)

        broker.settle([Quarantine(a, "odd", "nul \x00 surrogate \ud800 quote \"'")])

        (kept,) = inspectable.kept(Kept.QUARANTINE, limit=1)
        assert kept.detail.startswith("nul ")
        assert kept.detail.endswith(" quote \"'")

    def test_a_restored_dead_letter_starts_afresh(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        publish(broker, Outgoing("q", "a", b"frame", priority=3))
        broker.settle([Requeue(receive(broker)[0], Cause.CRASHED)])
        (old,) = receive(broker)
        broker.settle([DeadLetter(old, "broken")])
        (kept,) = inspectable.kept(Kept.DEAD_LETTER, limit=1)

        restored = inspectable.restore(Kept.DEAD_LETTER, [kept.number, kept.number + 999])

        (again,) = receive(broker)
        assert restored == 1
        assert (again.id, again.frame, again.priority) == ("a", b"frame", 3)
        assert (again.attempt, again.crashes, again.retries) == (1, 0, 0)
        assert inspectable.kept(Kept.DEAD_LETTER, limit=1) == []
        assert broker.settle([Ack(old)]) == [False]
        assert broker.settle([Ack(again)]) == [True]

    def test_a_message_restored_from_quarantine_goes_on_as_it_was(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        publish(broker, message("a"))
        broker.settle([Requeue(receive(broker)[0], Cause.CRASHED)])
        broker.settle([Quarantine(receive(broker)[0], "unknown-signer")])
        (kept,) = inspectable.kept(Kept.QUARANTINE, limit=1)

        wrong_place = inspectable.restore(Kept.DEAD_LETTER, [kept.number])
        restored = inspectable.restore(Kept.QUARANTINE, [kept.number])

        (again,) = receive(broker)
        assert (wrong_place, restored) == (0, 1)
        assert (again.attempt, again.crashes, again.retries) == (3, 1, 0)

    def test_a_kept_message_whose_id_is_in_a_queue_stays_kept(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        publish(broker, message("a"))
        broker.settle([DeadLetter(receive(broker)[0], "broken")])
        publish(broker, message("a"))
        (kept,) = inspectable.kept(Kept.DEAD_LETTER, limit=1)

        assert inspectable.restore(Kept.DEAD_LETTER, [kept.number]) == 0
        assert list(inspectable.kept(Kept.DEAD_LETTER, limit=1)) == [kept]
        assert len(receive(broker)) == 1

    def test_a_restored_message_is_no_replay_of_itself(self, broker: Broker) -> None:
        inspectable, guard = having(broker, Inspectable), having(broker, ReplayGuard)
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)
        guard.claim([claim(a, nonce(1)), claim(b, nonce(2))])
        transactional.complete(
            [
                Completion(DeadLetter(a, "broken"), nonce=nonce(1)),
                Completion(Quarantine(b, "replayed"), nonce=None),
            ]
        )
        guard.finish([nonce(2)])
        for where in Kept:
            (kept,) = inspectable.kept(where, limit=1)
            inspectable.restore(where, [kept.number])

        again, copy = receive(broker)

        assert guard.claim([claim(again, nonce(1))]) == [NonceState.CLAIMED]
        # Nobody put this one away together with its nonce, which stays finished.
        assert guard.claim([claim(copy, nonce(2))]) == [NonceState.DONE]

    def test_discarded_messages_are_gone(self, broker: Broker) -> None:
        inspectable = having(broker, Inspectable)
        publish(broker, *(message(f"m{number}") for number in range(5)))
        *dead, last = receive(broker)
        broker.settle([*(DeadLetter(delivery, "broken") for delivery in dead)])
        broker.settle([Quarantine(last, "unsigned")])
        first, *_ = inspectable.kept(Kept.DEAD_LETTER, limit=10)

        assert inspectable.discard(Kept.QUARANTINE, [first.number]) == 0
        assert inspectable.discard(Kept.DEAD_LETTER, [first.number]) == 1
        assert inspectable.discard(Kept.DEAD_LETTER, None) == 3
        assert inspectable.kept(Kept.DEAD_LETTER, limit=10) == []
        assert len(inspectable.kept(Kept.QUARANTINE, limit=10)) == 1

    def test_a_frame_from_elsewhere_can_be_quarantined(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        inspectable = having(broker, Inspectable)
        for _ in range(2):
            inspectable.quarantine(
                queue="results", id="a", frame=b"\x00bad", reason="bad-signature", detail="key 7"
            )

        kept, _ = inspectable.kept(Kept.QUARANTINE, limit=10)

        assert (kept.queue, kept.id, kept.frame) == ("results", "a", b"\x00bad")
        assert (kept.reason, kept.detail) == ("bad-signature", "key 7")
        assert (kept.kept_at, kept.attempt) == (clock.now(), 0)
