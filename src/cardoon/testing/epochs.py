"""What a ReplayGuard must do that does not remember all; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

from cardoon.broker import (
    Ack,
    Broker,
    Completion,
    Inspectable,
    Kept,
    Maintained,
    Quarantine,
    Requeue,
    Transactional,
)
from cardoon.exceptions import Refusal
from cardoon.security.replay import Nonce, NonceState, ReplayGuard
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import BrokerFixtures, claim, having, message, nonce, publish, receive

_YEAR = 366 * 86400.0


def _signed(sequence: int, moment: float) -> Nonce:
    return nonce(sequence)._replace(signed_by=moment)


class EpochSuite(BrokerFixtures):
    """What may have been carried out before the store began to remember is not carried out."""

    def test_what_was_signed_before_the_epoch_is_not_claimed(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("old"), message("new"), message("copy"))
        old, new, copy = receive(broker)
        since = guard.begin_anew().since

        states = guard.claim(
            [
                claim(old, _signed(1, since - 0.001)),
                claim(new, _signed(2, since)),
                claim(copy, _signed(1, since - 0.001)),
            ]
        )

        before = NonceState.BEFORE_EPOCH
        assert states == [before, NonceState.CLAIMED, before]
        assert guard.claim([claim(old, _signed(1, since - 0.001))]) == [before]

    def test_what_the_store_knows_is_claimed_as_ever(self, broker: Broker) -> None:
        guard = having(broker, ReplayGuard)
        publish(broker, message("held"), message("done"), message("copy"))
        held, done, copy = receive(broker)
        since = guard.begin_anew().since
        guard.claim([claim(held, _signed(1, since)), claim(done, _signed(2, since))])
        guard.finish([_signed(2, since)])
        guard.begin_anew()

        known = [
            claim(copy, _signed(1, since - 1)),
            claim(held, _signed(1, since - 1)),
            claim(copy, _signed(2, since - 1)),
        ]

        assert guard.claim(known) == [NonceState.HELD, NonceState.CLAIMED, NonceState.DONE]
        broker.settle([Requeue(held)])
        (again,) = receive(broker)
        assert guard.claim([claim(again, _signed(1, since - 1))]) == [NonceState.CLAIMED]

    def test_what_is_put_back_may_be_claimed_once(self, broker: Broker) -> None:
        guard, transactional = having(broker, ReplayGuard), having(broker, Transactional)
        inspectable = having(broker, Inspectable)
        publish(broker, message("old"), message("copy"))
        old, copy = receive(broker)
        signed = _signed(1, guard.begin_anew().since - 1)
        guard.claim([claim(old, signed)])
        refused = Quarantine(old, Refusal.BEFORE_EPOCH)
        transactional.complete([Completion(refused, nonce=signed)])
        (kept,) = inspectable.kept(Kept.QUARANTINE, limit=9)
        assert guard.claim([claim(copy, signed)]) == [NonceState.DONE]

        inspectable.restore(Kept.QUARANTINE, [kept.number])

        (again,) = receive(broker)
        asked = [claim(again, signed), claim(copy, signed)]
        assert guard.claim(asked) == [NonceState.CLAIMED, NonceState.HELD]
        transactional.complete([Completion(Ack(again), nonce=signed)])
        assert guard.claim([claim(copy, signed)]) == [NonceState.DONE]

    def test_an_epoch_lasts_until_another_one_begins(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        guard = having(broker, ReplayGuard)
        first = guard.begin_anew()
        self.pass_time(clock, 5)
        publish(broker, message("a"))
        receive(broker)
        self.pass_time(clock, _YEAR)
        if isinstance(broker, Maintained):
            broker.maintain()

        later = guard.memory()
        anew = guard.begin_anew()

        assert later.since == first.since
        assert anew.since >= first.since + _YEAR
        assert guard.memory().since == anew.since
        assert later.number >= first.number
