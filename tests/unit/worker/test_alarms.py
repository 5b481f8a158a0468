"""A worker's alarms: for what, when and how often they ring."""

from __future__ import annotations

import logging

import pytest

from cardoon.exceptions import Refusal
from cardoon.worker.alarms import MANY, WINDOW_SECONDS, ClockAlarm, RefusalAlarm


def rung(stage, event):
    return [one for one in stage.events() if one["event"] == event]


class TestRefusals:
    @pytest.fixture
    def alarm(self, stage):
        return RefusalAlarm(audit=stage.audit, clock=stage.clock)

    def refuse(self, alarm, times, queue="celery", reason=Refusal.BAD_SIGNATURE):
        for _ in range(times):
            alarm.note(queue, reason)
        alarm.look()

    def test_a_few_are_not_alarming(self, stage, alarm, caplog):
        with caplog.at_level(logging.CRITICAL, "cardoon"):
            self.refuse(alarm, MANY - 1)
            self.refuse(alarm, MANY - 1, queue="other")
        alarm.end()

        assert rung(stage, "messages.refused_often") == caplog.records == []

    def test_many_are_told_at_once_with_their_reasons(self, stage, alarm, caplog):
        with caplog.at_level(logging.CRITICAL, "cardoon"):
            self.refuse(alarm, 30, reason=Refusal.MALFORMED)
            self.refuse(alarm, MANY - 30)

        [event] = rung(stage, "messages.refused_often")
        assert (event["queue"], event["count"]) == ("celery", MANY)
        assert event["reasons"] == "70 bad-signature, 30 malformed"
        assert "find out who else writes" in caplog.text

    def test_it_rings_once_a_window_for_each_queue(self, stage, alarm):
        for queue in ("celery", "celery", "other"):
            self.refuse(alarm, MANY, queue=queue)
        assert len(rung(stage, "messages.refused_often")) == 2

        stage.clock.advance(WINDOW_SECONDS)
        alarm.look()
        self.refuse(alarm, MANY)

        assert len(rung(stage, "messages.refused_often")) == 3

    def test_what_was_refused_in_the_window_before_does_not_count(self, stage, alarm):
        self.refuse(alarm, MANY - 1)
        stage.clock.advance(WINDOW_SECONDS)
        alarm.look()

        self.refuse(alarm, MANY - 1)

        assert rung(stage, "messages.refused_often") == []


class Clocks:
    """Two clocks that go as they are told."""

    wall = 1000.0
    time = 0.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.time


class TestClock:
    @pytest.mark.parametrize(
        ("jump", "rings"),
        [(0, False), (59, False), (-59, False), (61, True), (-61, True), (-1e9, True)],
    )
    def test_it_rings_where_the_clock_was_set_by_more_than_the_skew(
        self, stage, jump, rings, caplog
    ):
        clocks = Clocks()
        alarm = ClockAlarm(audit=stage.audit, clock=clocks, skew=60)
        clocks.time += 3600
        clocks.wall += 3600 + jump

        with caplog.at_level(logging.CRITICAL, "cardoon"):
            alarm.look()
            alarm.look()  # once
        alarm.end()

        assert [one["seconds"] for one in rung(stage, "clock.jumped")] == [float(jump)] * rings
        assert ("set forward by" if jump > 0 else "set back by") in caplog.text or not rings
