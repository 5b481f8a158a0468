"""A worker warns of certificates that end: in its log and in the audit trail, and not without end."""

from __future__ import annotations

import json
import logging

import pytest

from cardoon import Cardoon
from cardoon.audit import AuditLog
from cardoon.security.authority import ensure_identity
from cardoon.testing import FakeClock
from cardoon.worker.expiring import ExpiryWatch
from tests.security.actors import DAY, make_person, write

HOUR = 3600


@pytest.fixture
def clock():
    return FakeClock()


class Watched:
    """A project whose certificates a worker watches."""

    def __init__(self, folder, clock, **settings):
        self.folder = folder
        self.clock = clock
        self.trail = folder / "audit.jsonl"
        self.read = 0
        app = Cardoon("watched", set_as_current=False, state_directory=str(folder / "state"))
        app.conf.update(settings)
        audit = AuditLog(self.trail, clock=clock, source="worker")
        self.watch = ExpiryWatch(app.settings, audit=audit, clock=clock)

    def records(self):
        """What was recorded since the last time."""
        self.watch.look()
        if not self.trail.exists():
            return []
        records = list(map(json.loads, self.trail.read_text().splitlines()))
        new = records[self.read :]
        self.read = len(records)
        return new


@pytest.fixture
def watched(tmp_path, clock):
    ensure_identity(tmp_path / "state", "worker", clock=clock, lifetime=20 * DAY)
    ensure_identity(tmp_path / "state", "client", clock=clock, lifetime=400 * DAY)
    return Watched(tmp_path, clock)


def test_nobody_is_warned_while_there_is_time(watched, caplog):
    assert watched.records() == []
    assert not caplog.records


def test_what_ends_soon_is_recorded_and_logged(watched, clock, caplog):
    clock.advance(17 * DAY)

    with caplog.at_level(logging.WARNING):
        records = watched.records()

    assert [one["event"] for one in records] == ["certificate.expiring"] * 2
    assert [one["part"] for one in records] == ["identity", "pin"]
    assert {one["state"] for one in records} == {"expires-soon"}
    assert {one["name"] for one in records} == {"CN=worker"}
    assert {one["seconds_left"] for one in records} == {3 * DAY}
    assert "identity CN=worker" in caplog.text
    assert "in 3 days" in caplog.text


def test_one_look_an_hour_and_one_warning_a_day(watched, clock):
    clock.advance(17 * DAY)
    assert len(watched.records()) == 2
    write(watched.folder / "state" / "trusted", "bob.pem", make_person("bob", ends=18 * DAY).pem)

    assert watched.records() == [], "it has looked just now"
    clock.advance(HOUR)
    assert [one["name"] for one in watched.records()] == ["CN=bob"]
    for _ in range(22):
        clock.advance(HOUR)
        assert watched.records() == []
    clock.advance(HOUR)
    assert {one["name"] for one in watched.records()} == {"CN=worker"}


def test_a_new_state_is_told_at_once_and_a_mended_one_no_more(watched, clock):
    clock.advance(20 * DAY - HOUR)
    assert {one["state"] for one in watched.records()} == {"expires-soon"}
    clock.advance(HOUR + 1)
    assert {one["state"] for one in watched.records()} == {"expired"}

    for path in (watched.folder / "state").rglob("worker.pem"):
        path.unlink()
    ensure_identity(watched.folder / "state", "worker", clock=clock)
    clock.advance(2 * DAY)

    assert watched.records() == []


def test_the_threshold_is_a_setting(tmp_path, clock):
    ensure_identity(tmp_path / "state", "worker", clock=clock, lifetime=400 * DAY)
    watched = Watched(tmp_path, clock, security_expiry_warning=DAY)

    clock.advance(398 * DAY)
    assert watched.records() == []
    clock.advance(1.5 * DAY)
    assert len(watched.records()) == 2


def test_a_worker_that_takes_no_signatures_looks_at_none(tmp_path, clock):
    ensure_identity(tmp_path / "state", "worker", clock=clock, lifetime=DAY)
    watched = Watched(tmp_path, clock, accept_content=["json"], task_serializer="json")

    clock.advance(2 * DAY)

    assert watched.records() == []
