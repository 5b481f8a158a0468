"""A worker sees that its host's firewall is gone, says so once, and acts as it was told to."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from cardoon.audit import AuditLog
from cardoon.firewall.judging import Finding, Verdict
from cardoon.firewall.table import Difference
from cardoon.firewall.telling import EVENTS, SECONDS_BETWEEN_ALARMS
from cardoon.syslog.catalogue import EVENTS as CATALOGUE
from cardoon.testing import FakeClock
from cardoon.worker.firewalling import LATE, FirewallWatch

OK = Finding(Verdict.OK, "ab", "ab")
ABSENT = Finding(Verdict.ABSENT, "", "ab", (Difference("table-absent", "", "none"),))
CHANGED = Finding(Verdict.CHANGED, "cd", "ab", (Difference("rule-added", "input", "accept"),))
OTHERWISE = Finding(Verdict.CHANGED, "ef", "ab", (Difference("rule-added", "output", "accept"),))
UNKNOWN = Finding(Verdict.UNKNOWN, reason="nft may not be asked by this user")
INTERVAL = 30.0


class Watched:
    """A worker's watch, and what it finds."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.trail = folder / "audit.jsonl"
        self.read = 0
        self.finding = OK
        self.alarms = 0
        self.asked = 0
        self.before_answer = lambda: None
        self.watch = FirewallWatch(
            self.ask,
            interval=INTERVAL,
            on_change="alert",
            react=self.react,
            audit=AuditLog(self.trail, clock=self.clock, source="worker"),
            clock=self.clock,
        )

    def react(self):
        self.alarms += 1

    def ask(self):
        self.asked += 1
        self.before_answer()
        if isinstance(self.finding, Exception):
            raise self.finding
        return self.finding

    def find(self, finding):
        """The next look finds this; returns the events of it."""
        self.finding = finding
        self.clock.advance(INTERVAL)
        self.watch.look()
        self.watch.end()
        return [one["event"] for one in self.records()]

    def records(self):
        if not self.trail.exists():
            return []
        records = list(map(json.loads, self.trail.read_text().splitlines()))
        new = records[self.read :]
        self.read = len(records)
        return new


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def test_nothing_is_well_before_the_first_look(watched):
    assert not watched.watch.is_ok

    assert watched.find(OK) == []
    assert watched.watch.is_ok


def test_it_looks_when_it_is_time(watched):
    for _ in range(3):
        watched.watch.look()
        watched.watch.end()
    assert watched.asked == 1

    watched.clock.advance(INTERVAL)
    watched.watch.look()
    watched.watch.end()
    assert watched.asked == 2


@pytest.mark.parametrize(
    ("finding", "event", "level"),
    [
        (ABSENT, "firewall.absent", logging.CRITICAL),
        (CHANGED, "firewall.changed", logging.CRITICAL),
        (UNKNOWN, "firewall.unchecked", logging.ERROR),
    ],
)
def test_each_verdict_is_told_once(watched, caplog, finding, event, level):
    assert watched.find(finding) == [event]
    assert watched.find(finding) == []
    assert not watched.watch.is_ok
    assert [record.levelno for record in caplog.records] == [level]


def test_an_alarm_says_what_differs_and_what_is_done(watched):
    watched.finding = CHANGED
    watched.watch.look()
    watched.watch.end()

    [record] = watched.records()
    assert (record["digest"], record["expected"], record["differences"]) == ("cd", "ab", 1)
    assert record["detail"] == "rule-added in chain input: accept"
    assert record["action"] == "alert"


def test_what_stays_wrong_is_told_again_after_a_while(watched):
    assert watched.find(ABSENT) == ["firewall.absent"]
    watched.clock.advance(SECONDS_BETWEEN_ALARMS)

    assert watched.find(ABSENT) == ["firewall.absent"]
    assert watched.find(ABSENT) == []


def test_another_change_is_another_alarm(watched):
    assert watched.find(CHANGED) == ["firewall.changed"]
    assert watched.find(OTHERWISE) == ["firewall.changed"]


def test_it_is_told_when_it_is_well_again(watched):
    watched.find(ABSENT)

    assert watched.find(OK) == ["firewall.restored"]
    assert watched.find(OK) == []
    assert watched.watch.is_ok


@pytest.mark.parametrize("finding", [ABSENT, CHANGED])
def test_a_worker_reacts_to_each_alarm(watched, finding):
    watched.find(OK)
    assert watched.alarms == 0

    watched.find(finding)
    assert watched.alarms == 1
    watched.find(OTHERWISE)

    assert watched.alarms == 2


def test_a_worker_does_not_react_to_what_could_not_be_checked(watched):
    watched.find(UNKNOWN)

    assert watched.alarms == 0


def test_a_look_that_breaks_is_no_good_news(watched, caplog):
    watched.find(OK)

    assert watched.find(RuntimeError("secret")) == ["firewall.unchecked"]
    assert not watched.watch.is_ok
    assert "RuntimeError" in caplog.text


def test_a_look_that_hangs_holds_nothing_up_and_is_no_good_news(watched):
    watched.find(OK)
    asked, go_on = threading.Event(), threading.Event()
    watched.before_answer = lambda: (asked.set(), go_on.wait())

    watched.clock.advance(INTERVAL)
    watched.watch.look()
    asked.wait()
    watched.clock.advance(LATE)
    watched.watch.look()

    assert [one["event"] for one in watched.records()] == ["firewall.unchecked"]
    assert not watched.watch.is_ok
    go_on.set()
    watched.watch.end()
    assert watched.watch.is_ok


def test_every_event_is_in_the_catalogue():
    assert set(EVENTS.values()) <= set(CATALOGUE)
