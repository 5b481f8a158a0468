"""What a Broker driver with an optional power must do; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import pytest

from cardoon.backend import ResultBackend, SealedResult
from cardoon.broker import (
    Ack,
    Adopting,
    Broadcaster,
    Broker,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Inspectable,
    Kept,
    Maintained,
    Outgoing,
    Quarantine,
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


class MaintainedSuite(BrokerFixtures):
    """Leases that run out are taken back."""

    def test_a_lease_that_runs_out_is_one_crash_and_a_pause(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        maintained = having(broker, Maintained)
        publish(broker, message("a"))
        receive(broker)

        self.pass_time(clock, 29)
        before = maintained.maintain()
        self.pass_time(clock, 1)
        taken_back = maintained.maintain()
        at_once = receive(broker)
        self.pass_time(clock, 1)
        (again,) = receive(broker)

        assert (before, taken_back) == (0, 1)
        assert at_once == []
        assert (again.attempt, again.crashes, again.retries) == (2, 1, 0)

    def test_the_second_crash_has_a_longer_pause(self, broker: Broker, clock: FakeClock) -> None:
        maintained = having(broker, Maintained)
        publish(broker, message("a"))
        for _ in range(2):
            receive(broker)
            self.pass_time(clock, 30)
            maintained.maintain()
            self.pass_time(clock, 1)

        early = receive(broker)
        self.pass_time(clock, 9)
        (again,) = receive(broker)

        assert early == []
        assert again.crashes == 2

    def test_a_lost_lease_cannot_be_settled_or_extended(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        maintained = having(broker, Maintained)
        publish(broker, message("a"))
        (lost,) = receive(broker)
        self.pass_time(clock, 30)
        maintained.maintain()

        assert broker.extend([lost], lease=30) == []
        assert broker.settle([Ack(lost)]) == [False]
        assert maintained.maintain() == 0

    def test_an_extended_lease_is_kept(self, broker: Broker, clock: FakeClock) -> None:
        maintained = having(broker, Maintained)
        publish(broker, message("a"), message("b"))
        a, _b = receive(broker)
        self.pass_time(clock, 20)
        broker.extend([a], lease=30)
        self.pass_time(clock, 20)

        assert maintained.maintain() == 1
        assert broker.settle([Ack(a)]) == [True]


class TransactionalSuite(BrokerFixtures):
    """A loan and what follows from it end in one step."""

    def test_a_completion_ends_the_loan_and_stores_the_result(
        self, broker: Broker, backend: ResultBackend
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"))
        (a,) = receive(broker)
        result = SealedResult("a", b"\x00result\xff", final=True, expires_at=None)

        taken = transactional.complete([Completion(Ack(a), result)])

        assert taken == [True]
        assert receive(broker) == []
        assert dict(backend.load(["a"])) == {"a": result}

    def test_a_completion_publishes_what_comes_next(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"), message("waits"))
        a, b = receive(broker, limit=2)

        transactional.complete(
            [
                Completion(Ack(a), publish=(message("next"), message("waits"), message("b"))),
                Completion(Ack(b), publish=(message("next"),)),
            ]
        )

        # One `next`; no second `waits`; no `b`, which was still stored when it was sent.
        assert [delivery.id for delivery in receive(broker)] == ["waits", "next"]

    def test_a_completion_may_send_its_own_id_again(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"))
        (a,) = receive(broker)

        transactional.complete([Completion(Ack(a), publish=(Outgoing("q", "a", b"new"),))])

        assert [delivery.frame for delivery in receive(broker)] == [b"new"]

    def test_a_completion_without_its_lease_does_nothing(
        self, broker: Broker, backend: ResultBackend
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"))
        (old,) = receive(broker)
        broker.settle([Requeue(old)])
        (new,) = receive(broker)
        result = SealedResult("a", b"late", final=True, expires_at=None)

        taken = transactional.complete([Completion(Ack(old), result, (message("next"),), nonce(1))])

        assert taken == [False]
        assert backend.load(["a"]) == {}
        assert receive(broker) == []
        if isinstance(broker, ReplayGuard):
            assert broker.claim([claim(new, nonce(1))]) == [NonceState.CLAIMED]

    def test_a_final_result_of_a_completion_replaces_what_lies_there(
        self, broker: Broker, backend: ResultBackend
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"))
        [a] = receive(broker)
        backend.store([SealedResult("task", b"forged", final=True, expires_at=None)])
        true = SealedResult("task", b"true", final=True, expires_at=None)

        transactional.complete([Completion(Ack(a), true)])

        assert dict(backend.load(["task"])) == {"task": true}

    def test_the_last_final_result_of_several_completions_stays(
        self, broker: Broker, backend: ResultBackend
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"), message("c"))
        a, b, c = receive(broker)
        won, lost, started = (
            SealedResult("task", frame, final, None)
            for frame, final in ((b"won", True), (b"lost", True), (b"started", False))
        )

        transactional.complete(
            [Completion(Ack(a), lost), Completion(Ack(b), won), Completion(Ack(c), started)]
        )

        assert dict(backend.load(["task"])) == {"task": won}


class AdoptingSuite(BrokerFixtures):
    """What another broker keeps is lent as one's own."""

    def test_adopted_messages_are_lent_as_if_they_had_been_received(self, broker: Broker) -> None:
        adopting = having(broker, Adopting)
        wanted = [message("a")._replace(priority=3), Outgoing("r", "b", bytes(range(256)) * 999)]

        first, second = adopting.adopt(wanted, lease=30, durable=False)

        assert first is not None
        assert second is not None
        assert first == Delivery("q", "a", b"a", first.receipt, 1, priority=3)
        assert second == Delivery("r", "b", wanted[1].frame, second.receipt, 1)
        assert receive(broker, "q", "r") == []
        assert list(broker.extend([first, second], lease=30)) == [first, second]
        assert broker.settle([Ack(first), Ack(second)]) == [True, True]
        assert adopting.adopt([], lease=30, durable=True) == []

    @pytest.mark.parametrize("durable", [False, True])
    def test_what_is_stored_is_not_adopted(self, broker: Broker, *, durable: bool) -> None:
        adopting = having(broker, Adopting)
        publish(broker, message("ready"), message("held"))
        receive(broker, limit=1)

        taken = adopting.adopt(
            [message("new"), message("held"), message("ready"), message("new")],
            lease=30,
            durable=durable,
        )

        assert [each and each.id for each in taken] == ["new", None, None, None]
        assert [each.id for each in receive(broker)] == ["held"]

    def test_an_adopted_message_goes_back_and_is_kept_as_any_other(self, broker: Broker) -> None:
        adopting, inspectable = having(broker, Adopting), having(broker, Inspectable)
        publish(broker, message("before"))
        lent = adopting.adopt([message("a"), message("b")], lease=30, durable=False)
        publish(broker, message("after"))
        a, b = filter(None, lent)

        broker.settle([DeadLetter(b, "broken"), Requeue(a, Cause.RETRIED)])

        given = receive(broker)
        assert [each.id for each in given] == ["before", "a", "after"]
        assert (given[1].attempt, given[1].crashes, given[1].retries) == (2, 0, 1)
        assert [each.id for each in inspectable.kept(Kept.DEAD_LETTER, limit=9)] == ["b"]

    def test_an_adopted_message_is_taken_back_when_its_lease_runs_out(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        adopting, maintained = having(broker, Adopting), having(broker, Maintained)
        (lost,) = adopting.adopt([message("a")], lease=30, durable=False)
        assert lost is not None
        self.pass_time(clock, 30)

        taken_back = maintained.maintain()
        self.pass_time(clock, 1)

        (again,) = receive(broker)
        assert taken_back == 1
        assert (again.id, again.attempt, again.crashes) == ("a", 2, 1)
        assert broker.settle([Ack(lost)]) == [False]


class ReplaySuite(BrokerFixtures):
    """A message is carried out to its end once."""

    def test_a_nonce_is_claimed_once_at_a_time(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("a"), message("copy"))
        a, copy = receive(broker)

        states = guard.claim([claim(a, nonce(1)), claim(copy, nonce(1)), claim(copy, nonce(2))])

        assert states == [NonceState.CLAIMED, NonceState.HELD, NonceState.CLAIMED]
        assert guard.claim([claim(a, nonce(1))]) == [NonceState.CLAIMED]
        assert guard.claim([]) == []

    def test_a_claim_ends_with_the_loan(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("a"), message("copy"))
        a, copy = receive(broker)
        guard.claim([claim(a, nonce(1))])
        broker.settle([Requeue(a)])

        assert guard.claim([claim(copy, nonce(1))]) == [NonceState.CLAIMED]
        (again,) = receive(broker)
        assert guard.claim([claim(again, nonce(1))]) == [NonceState.HELD]

    def test_a_claim_does_not_pass_to_the_next_delivery_by_itself(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("a"), message("copy"))
        a, copy = receive(broker)
        guard.claim([claim(a, nonce(1))])
        broker.settle([Requeue(a)])
        (again,) = receive(broker)

        assert guard.claim([claim(copy, nonce(1))]) == [NonceState.CLAIMED]
        assert guard.claim([claim(again, nonce(1))]) == [NonceState.HELD]

    def test_claims_of_one_call_follow_each_other(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)
        broker.settle([Ack(a), Ack(b)])
        guard.finish([nonce(2)])

        # Neither is on loan any more, so each gives way to the next.
        states = guard.claim([claim(a, nonce(2)), claim(a, nonce(1)), claim(b, nonce(1))])

        assert states == [NonceState.DONE, NonceState.CLAIMED, NonceState.CLAIMED]

    def test_a_redelivered_message_takes_its_claim_along(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("a"))
        (first,) = receive(broker)
        guard.claim([claim(first, nonce(1))])
        broker.settle([Requeue(first)])
        (second,) = receive(broker)

        assert guard.claim([claim(second, nonce(1))]) == [NonceState.CLAIMED]
        assert guard.claim([claim(first, nonce(1))]) == [NonceState.HELD]

    def test_a_finished_nonce_is_a_replay_for_ever(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)
        guard.claim([claim(a, nonce(1))])
        guard.finish([nonce(1), nonce(2)])

        states = guard.claim([claim(a, nonce(1)), claim(b, nonce(1)), claim(b, nonce(2))])

        assert states == [NonceState.DONE] * 3

    def test_a_final_settlement_finishes_the_nonce(self, broker: Broker) -> None:
        guard, transactional = having(broker, ReplayGuard), having(broker, Transactional)
        publish(broker, message("a"), message("b"), message("c"), message("copy"))
        a, b, c, copy = receive(broker)
        guard.claim([claim(d, nonce(n)) for n, d in enumerate((a, b, c))])

        transactional.complete(
            [
                Completion(Ack(a), nonce=nonce(0)),
                Completion(DeadLetter(b, "broken"), nonce=nonce(1)),
                Completion(Quarantine(c, "refused"), nonce=nonce(2)),
            ]
        )

        assert guard.claim([claim(copy, nonce(n)) for n in range(3)]) == [NonceState.DONE] * 3

    def test_a_requeue_leaves_the_nonce_claimable(self, broker: Broker) -> None:
        guard, transactional = having(broker, ReplayGuard), having(broker, Transactional)
        publish(broker, message("a"))
        (first,) = receive(broker)
        guard.claim([claim(first, nonce(1))])
        transactional.complete([Completion(Requeue(first, Cause.RETRIED), nonce=nonce(1))])
        (second,) = receive(broker)

        assert guard.claim([claim(second, nonce(1))]) == [NonceState.CLAIMED]


class BroadcasterSuite(BrokerFixtures):
    """Every worker hears what was broadcast."""

    def test_a_broadcast_is_heard_in_order_until_it_expires(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        broadcaster = having(broker, Broadcaster)
        broadcaster.broadcast(b"one\x00", expires_at=clock.now() + 5)
        broadcaster.broadcast(b"two", expires_at=clock.now() + 60)

        heard = broadcaster.heard(0)
        self.pass_time(clock, 5)
        if isinstance(broker, Maintained):
            broker.maintain()
        broadcaster.broadcast(b"three", expires_at=clock.now() + 60)

        assert [frame for _, frame in heard] == [b"one\x00", b"two"]
        assert [frame for _, frame in broadcaster.heard(0)] == [b"two", b"three"]
        assert [frame for _, frame in broadcaster.heard(heard[-1][0])] == [b"three"]
