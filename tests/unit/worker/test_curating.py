"""The quarantine within its bounds: thinned out in time, and never silently."""

from __future__ import annotations

import logging

import pytest

from cardoon.broker import Completion, Kept, Outgoing, Quarantine
from cardoon.exceptions import OperationalError
from cardoon.quarantine import SPARED, Bounds, Fill, find_excess, total
from cardoon.worker.curating import LOOK_SECONDS, TELL_SECONDS, Curator

BOUNDS = Bounds(messages=20, bytes=1000)


@pytest.fixture
def curator(stage):
    return Curator(stage.broker, BOUNDS, audit=stage.audit, clock=stage.clock)


def refuse(stage, count, reason="malformed", size=1):
    """Put so many away, as a worker does; their completions."""
    names = [f"{reason} {stage.clock.now()} {number}" for number in range(count)]
    stage.broker.publish([Outgoing("x", name, bytes(size)) for name in names], timeout=5)
    held = stage.broker.receive(["x"], limit=count, lease=30, timeout=0)
    completions = [Completion(Quarantine(one, reason)) for one in held]
    assert all(stage.broker.complete(completions))
    stage.clock.advance(0.001)
    return completions


def overflows(stage):
    return [event for event in stage.events() if event["event"] == "quarantine.overflow"]


def left(stage):
    return {fill.reason: fill.messages for fill in stage.broker.quarantined()}


def test_what_is_too_much_goes_at_the_next_look(stage, curator):
    refuse(stage, 3, "unsigned")
    refuse(stage, 40)

    curator.look()

    assert left(stage) == {"unsigned": 3, "malformed": 17}
    [event] = overflows(stage)
    assert (event["messages"], event["bytes"], event["reasons"]) == (23, 23, "23 malformed")


def test_between_two_looks_a_worker_puts_away_a_tenth_at_most(stage, curator):
    curator.look()
    for _ in range(60):
        curator.note(refuse(stage, 1))

        assert sum(left(stage).values()) <= BOUNDS.messages * 1.1

    curator.end()
    assert sum(event["messages"] for event in overflows(stage)) == 60 - sum(left(stage).values())


def test_so_it_is_with_bytes(stage, curator):
    curator.look()
    for _ in range(10):
        curator.note(refuse(stage, 1, size=400))

        assert total(stage.broker.quarantined()).bytes <= BOUNDS.bytes
    assert left(stage) == {"malformed": 2}


def test_it_is_told_once_a_minute_and_at_the_end_and_all_of_it(stage, curator):
    for _ in range(30):
        refuse(stage, 10)
        stage.clock.advance(LOOK_SECONDS)
        curator.look()
    refuse(stage, 7)
    stage.clock.advance(LOOK_SECONDS)
    curator.look()
    curator.end()
    curator.end()

    told = overflows(stage)
    assert len(told) <= 2 + 30 * LOOK_SECONDS / TELL_SECONDS
    assert sum(event["messages"] for event in told) == 307 - 20


def test_a_quarantine_that_is_nearly_full_is_warned_of_once(stage, curator, caplog):
    with caplog.at_level(logging.WARNING, "cardoon.worker.curating"):
        for count in (15, 1, 1):
            refuse(stage, count)
            stage.clock.advance(LOOK_SECONDS)
            curator.look()

    [record] = caplog.records
    assert "16 messages of 16 bytes lie there, which is 80 % of what may" in record.getMessage()


def test_dead_letters_and_what_may_have_run_before_stay(stage, curator):
    refuse(stage, 50, "before-epoch")
    refuse(stage, 30)

    curator.look()

    assert left(stage) == {"before-epoch": 50, "malformed": 20}
    assert {"before-epoch"} == SPARED
    assert len(stage.kept(Kept.DEAD_LETTER)) == 0


def test_a_store_that_is_away_keeps_no_end_from_being_written(stage, curator, monkeypatch):
    completions = refuse(stage, 30)

    def away():
        raise OperationalError("away")

    monkeypatch.setattr(stage.broker, "quarantined", away)
    curator.note(completions)

    assert left_of(stage) == 30
    stage.clock.advance(LOOK_SECONDS)
    with pytest.raises(OperationalError):
        curator.look()  # and its keeper tries again


def left_of(stage):
    return len(stage.kept(Kept.QUARANTINE))


def test_a_broker_without_that_power_is_let_be(stage):
    curator = Curator(object(), BOUNDS, audit=stage.audit, clock=stage.clock)

    curator.note(refuse(stage, 40))
    curator.look()
    curator.end()

    assert overflows(stage) == []


@pytest.mark.parametrize(
    ("amounts", "stays"),
    [
        ({}, {}),
        ({"a": 20}, {}),
        ({"a": 21}, {"a": 20}),
        ({"a": 100, "b": 5}, {"a": 15}),
        ({"a": 100, "b": 10, "c": 1}, {"a": 9, "b": 9}),
        ({"a": 100, "b": 100, "c": 100}, {"a": 6, "b": 6, "c": 6}),
        ({"a": 9, "b": 9, "before-epoch": 1000}, {}),
    ],
)
def test_the_most_frequent_reason_gives_way(amounts, stays):
    fills = [Fill(reason, count, count) for reason, count in amounts.items()]

    excess = {one.reason: one.messages for one in find_excess(fills, Bounds(20, 10_000))}

    assert {reason: excess.get(reason, count) for reason, count in amounts.items()} == {
        **amounts,
        **stays,
    }
    assert set(excess) == {r for r, count in stays.items() if count < amounts[r]}
