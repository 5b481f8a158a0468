"""A canary tells what it reaches, and takes no silence for good news that means nothing."""

from __future__ import annotations

import contextlib
import json
import socket

import pytest

from cardoon.audit import AuditLog
from cardoon.doctor.canary import SECONDS_BETWEEN_TELLINGS, Canary
from cardoon.doctor.exposure import (
    Answer,
    Round,
    Tried,
    Verdict,
    parse_round,
    parse_target,
    try_round,
)
from cardoon.exceptions import ImproperlyConfigured
from cardoon.syslog.catalogue import EVENTS
from cardoon.testing import FakeClock
from tests.servers.ground import free_port

ANSWERS = [Tried("log.example:6514", Answer.OPEN)]


def found(*answers, controls=ANSWERS):
    targets = tuple(Tried(f"10.0.0.{at}:6379", one) for at, one in enumerate(answers, 1))
    return Round("canary", 1.0, targets, tuple(controls))


@pytest.mark.parametrize(
    ("round_", "verdict"),
    [
        (found(Answer.FILTERED, Answer.FILTERED), Verdict.FILTERED),
        (found(Answer.FILTERED, Answer.OPEN), Verdict.EXPOSED),
        (found(Answer.CLOSED), Verdict.EXPOSED),
        (found(Answer.REJECTED), Verdict.UNCHECKED),
        (found(Answer.UNKNOWN), Verdict.UNCHECKED),
        (found(Answer.REJECTED, Answer.OPEN), Verdict.EXPOSED),
        (found(Answer.FILTERED, controls=[Tried("a:1", Answer.FILTERED)]), Verdict.UNCHECKED),
        (found(Answer.FILTERED, controls=[Tried("a:1", Answer.CLOSED)]), Verdict.UNCHECKED),
        (found(Answer.FILTERED, controls=[]), Verdict.UNCHECKED),
        (found(Answer.OPEN, controls=[]), Verdict.EXPOSED),
    ],
)
def test_only_silence_beside_an_answer_is_well(round_, verdict):
    assert round_.verdict is verdict
    assert parse_round(json.loads(json.dumps(round_.told()))) == round_


def test_ports_are_tried_and_told_apart():
    with contextlib.closing(socket.create_server(("0.0.0.0", 0))) as server:
        opened, closed = server.getsockname()[1], free_port()
        # Of all addresses of loopback the kernel calls from the first one.
        places = [f"127.0.0.2:{opened}", f"127.0.0.2:{closed}", f"127.0.0.1:{opened}"]

        told = try_round(
            [parse_target(one, option="--target") for one in places],
            [],
            host="h",
            now=2.0,
            seconds=5,
        )

    assert told.targets == tuple(map(Tried, places, (Answer.OPEN, Answer.CLOSED, Answer.UNKNOWN)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1", "is not HOST:PORT"),
        ("10.0.0.0/24:80", "is a network; name hosts"),
        ("udp/10.0.0.1:514", "silence says nothing of UDP"),
        ("a b:1", "is no address, network or host name"),
    ],
)
def test_what_cannot_be_tried_is_named(text, why):
    with pytest.raises(ImproperlyConfigured, match=why):
        parse_target(text, option="--target")


class Told:
    """A canary, and the records that it makes."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.path = folder / "audit.jsonl"
        self.canary = Canary(
            audit=AuditLog(self.path, clock=self.clock, source="client"), clock=self.clock
        )
        self._read = 0

    def take(self, round_):
        """The new records of a round: what, and about which place."""
        self.canary.take(round_)
        records = [json.loads(line) for line in self.path.read_text().splitlines()]
        new, self._read = records[self._read :], len(records)
        assert {one["event"] for one in new} <= set(EVENTS)
        return [(one["event"].partition(".")[2], one.get("target")) for one in new]


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path)


def test_what_is_exposed_is_told_once_then_after_an_hour_and_when_it_is_mended(told):
    assert told.take(found(Answer.FILTERED)) == [("canary", None)]
    assert told.take(found(Answer.OPEN)) == [("port_exposed", "10.0.0.1:6379"), ("canary", None)]
    assert told.take(found(Answer.OPEN)) == []

    told.clock.advance(SECONDS_BETWEEN_TELLINGS)
    assert told.take(found(Answer.OPEN)) == [("port_exposed", "10.0.0.1:6379"), ("canary", None)]
    assert told.take(found(Answer.FILTERED))[0] == ("port_filtered", "10.0.0.1:6379")
    assert told.take(found(Answer.OPEN))[0] == ("port_exposed", "10.0.0.1:6379")


def test_a_canary_that_has_become_blind_says_so_and_calls_nothing_mended(told):
    told.take(found(Answer.OPEN))
    blind = found(Answer.FILTERED, controls=[Tried("a:1", Answer.FILTERED)])

    assert [event for event, _ in told.take(blind)] == ["canary_blind", "canary"]
    assert told.take(blind) == []
    assert ("port_filtered", "10.0.0.1:6379") in told.take(found(Answer.FILTERED))
    assert ("canary_blind", None) in told.take(blind)
