"""What a Broker driver must do whose quarantine can be thinned out; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

from cardoon.broker import (
    Broker,
    DeadLetter,
    Inspectable,
    Kept,
    Outgoing,
    Quarantine,
    Transactional,
)
from cardoon.quarantine import Bounds, Fill, Quarantining, find_excess, thin_out
from cardoon.testing.setting import (
    BrokerFixtures,
    having,
    message,
    publish,
    receive,
    success,
    waiting,
)


def _put_away(broker: Broker, reason: str, *frames: bytes) -> None:
    """Have messages refused, each of which has its number and its reason for a name."""
    known = len(having(broker, Inspectable).kept(Kept.QUARANTINE, limit=1000))
    publish(
        broker,
        *(Outgoing("q", f"{reason} {known + n}", frame) for n, frame in enumerate(frames)),
    )
    broker.settle([Quarantine(each, reason) for each in receive(broker)])


def _kept(broker: Broker) -> list[str]:
    return [each.id for each in having(broker, Inspectable).kept(Kept.QUARANTINE, limit=1000)]


class QuarantiningSuite(BrokerFixtures):
    """How full the quarantine is can be seen, and the oldest of a reason can go."""

    def test_the_quarantine_is_measured_by_reason(self, broker: Broker) -> None:
        measured, inspectable = having(broker, Quarantining), having(broker, Inspectable)
        assert list(measured.quarantined()) == []
        _put_away(broker, "malformed", b"12345", b"123")
        _put_away(broker, "unsigned", bytes(1000))
        publish(broker, message("dead"))
        broker.settle([DeadLetter(receive(broker)[0], "malformed")])
        inspectable.quarantine(queue="results", id="r", frame=b"1", reason="unsigned", detail="")

        found = sorted(measured.quarantined())
        first, *_ = inspectable.kept(Kept.QUARANTINE, limit=1)
        inspectable.discard(Kept.QUARANTINE, [first.number])
        inspectable.restore(Kept.QUARANTINE, [first.number + 1])

        assert found == [Fill("malformed", 2, 8), Fill("unsigned", 2, 1001)]
        left = [fill for fill in measured.quarantined() if fill.reason == "unsigned"]
        assert left == [Fill("unsigned", 2, 1001)]
        inspectable.discard(Kept.QUARANTINE, None)
        assert list(measured.quarantined()) == []

    def test_the_oldest_of_a_reason_go_by_number_or_by_size(self, broker: Broker) -> None:
        measured = having(broker, Quarantining)
        _put_away(broker, "malformed", b"1", b"22", b"333", b"4444")
        _put_away(broker, "unsigned", b"55555")

        assert measured.thin_out("malformed", messages=9, bytes=99) == Fill("malformed", 0, 0)
        assert measured.thin_out("malformed", messages=3, bytes=99) == Fill("malformed", 1, 1)
        assert _kept(broker) == ["malformed 1", "malformed 2", "malformed 3", "unsigned 4"]
        assert measured.thin_out("malformed", messages=9, bytes=7) == Fill("malformed", 1, 2)
        assert measured.thin_out("unsigned", messages=0, bytes=0) == Fill("unsigned", 1, 5)
        assert measured.thin_out("unheard-of", messages=0, bytes=0) == Fill("unheard-of", 0, 0)
        assert _kept(broker) == ["malformed 2", "malformed 3"]
        assert list(measured.quarantined()) == [Fill("malformed", 2, 7)]

    def test_a_flood_of_one_kind_pushes_out_itself(self, broker: Broker) -> None:
        measured = having(broker, Quarantining)
        _put_away(broker, "unsigned", b"a", b"b")
        _put_away(broker, "malformed", *(b"%d" % n for n in range(8)))

        bounds = Bounds(messages=5, bytes=1 << 20)

        gone = thin_out(measured, find_excess(measured.quarantined(), bounds))

        assert gone == [Fill("malformed", 5, 5)]
        kept = ["unsigned 0", "unsigned 1", "malformed 7", "malformed 8", "malformed 9"]
        assert _kept(broker) == kept
        assert find_excess(measured.quarantined(), bounds) == []

    def test_what_goes_takes_along_how_its_predecessors_ended(self, broker: Broker) -> None:
        measured, transactional = having(broker, Quarantining), having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (a,) = receive(broker)
        transactional.complete([success(a)])
        broker.settle([Quarantine(receive(broker)[0], "malformed")])

        gone = measured.thin_out("malformed", messages=0, bytes=0)

        assert gone == Fill("malformed", 1, 1)
        # Nobody waits for it any more, so how it ended is forgotten.
        publish(broker, waiting("c", "a"))
        assert receive(broker) == []
