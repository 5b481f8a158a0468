"""What a Broker driver must do that can be asked for a dead worker's claims; part of `brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import pytest

from cardoon.broker import Ack, Broker, Cause, Requeue
from cardoon.recalling import Recalling
from cardoon.testing.setting import BrokerFixtures, having, ids, message, publish, receive


class RecallingSuite(BrokerFixtures):
    """What a claim took is known to the store, though whoever asked may not have lived to hear it."""

    def test_what_was_claimed_last_is_told_and_can_be_given_back_unharmed(
        self, broker: Broker
    ) -> None:
        recalling = _recalling(broker)
        publish(broker, message("a"), message("b"), message("c"))
        taken = receive(broker, limit=2)

        told = recalling.recall(recalling.claimant)

        assert ids(told) == ids(taken)
        assert [(one.receipt, one.attempt) for one in told] == [
            (one.receipt, one.attempt) for one in taken
        ]
        assert broker.settle([Requeue(one, Cause.RELEASED) for one in told]) == [True, True]
        again = receive(broker, limit=3)
        assert sorted(ids(again)) == ["a", "b", "c"]
        assert {one.crashes for one in again} == {0}

    def test_what_is_not_on_loan_any_more_is_not_told(self, broker: Broker) -> None:
        recalling = _recalling(broker)
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)
        broker.settle([Ack(a), Requeue(b, Cause.RELEASED, 60.0)])

        assert list(recalling.recall(recalling.claimant)) == []

    def test_an_unknown_claimant_has_nothing(self, broker: Broker) -> None:
        recalling = _recalling(broker)
        publish(broker, message("a"))
        receive(broker)

        assert [list(recalling.recall(name)) for name in ("", "nobody", "1")] == [[], [], []]


def _recalling(broker: Broker) -> Recalling:
    recalling = having(broker, Recalling)
    if not recalling.claimant:
        pytest.skip("its companion is a file, which knows by itself who is dead")
    return recalling
