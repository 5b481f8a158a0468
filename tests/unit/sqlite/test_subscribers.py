"""Subscriptions in a file: who publishes without a broadcast queue pays nothing for them."""

from __future__ import annotations

import sqlite3

import pytest

from cardoon.broker import Outgoing, Subscription
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.sqlite import schema, statements
from cardoon.sqlite.database import Database
from cardoon.testing import FakeClock


@pytest.fixture
def broker(tmp_path):
    made = SqliteBroker(Database(tmp_path / "x.db", clock=FakeClock()))
    yield made
    made.close()


def statements_of(monkeypatch, act):
    """The names of the statements that are asked for meanwhile."""
    asked = []
    text = statements.sql
    monkeypatch.setattr(
        "cardoon.sqlite.database.sql", lambda name: asked.append(name) or text(name)
    )
    act()
    monkeypatch.undo()
    return asked


def test_only_a_broadcast_asks_who_is_subscribed(broker, monkeypatch):
    broker.subscribe([Subscription("news", "news>one")], seconds=60)

    plain = statements_of(
        monkeypatch, lambda: broker.publish([Outgoing("q", "a", b"x")], timeout=5)
    )
    spread = statements_of(
        monkeypatch,
        lambda: broker.publish(
            [Outgoing("news", name, b"x", fanout=True) for name in "abc"], timeout=5
        ),
    )

    assert plain == ["messages.reserve", "messages.insert", "messages.insert_frames"]
    assert spread == ["subscribers.of", *plain]


def test_subscriptions_of_a_time_before_the_host_was_started_are_over(tmp_path):
    before = FakeClock()
    before.advance(1000)
    broker = SqliteBroker(Database(tmp_path / "x.db", clock=before))
    broker.subscribe([Subscription("news", "news>one")], seconds=60)
    broker.publish([Outgoing("news", "a", b"x", fanout=True)], timeout=5)
    broker.close()

    broker = SqliteBroker(Database(tmp_path / "x.db", clock=FakeClock()))
    broker.publish([Outgoing("news", "b", b"x", fanout=True)], timeout=5)
    [depth] = broker.depths()
    broker.maintain()

    assert (depth.ready, depth.subscribers) == (1, 0)
    assert broker.depths() == []
    broker.close()


def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path, monkeypatch):
    path = tmp_path / "old.db"
    monkeypatch.setattr(schema, "VERSION", 2)
    old = schema.connect_file(path)
    schema.migrate(old, path, now=0.0)
    old.execute("INSERT INTO queue (name) VALUES ('q')")
    old.close()
    monkeypatch.undo()

    broker = SqliteBroker(Database(path, clock=FakeClock()))
    assert broker.subscribe([Subscription("news", "news>one")], seconds=60) == [False]
    assert [depth.queue for depth in broker.depths()] == ["news", "q"]
    broker.close()
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
