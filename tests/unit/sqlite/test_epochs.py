"""Since when a file remembers what was carried out, and what becomes of that when marks are lost."""

from __future__ import annotations

import sqlite3

import pytest

from cardoon.broker import Outgoing
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.security.replay import Nonce, NonceClaim, NonceState
from cardoon.sqlite import schema
from cardoon.sqlite.database import Database
from cardoon.testing import FakeClock

MINUTE = 60.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cardoon.db"


@pytest.fixture
def reopen(path, clock):
    """Opens the file, again if it is open."""
    brokers = []

    def reopen():
        for broker in brokers:
            broker.close()
        brokers.append(SqliteBroker(Database(path, clock=clock)))
        return brokers[-1]

    yield reopen
    for broker in brokers:
        broker.close()


def ask(broker, signed_by):
    """What a claim of a message is told that was signed at that time."""
    broker.publish([Outgoing("q", "a", b"x")], timeout=5)
    [held] = broker.receive(["q"], limit=1, lease=30, timeout=0)
    nonce = Nonce(b"session of 16 by", 1, 9e9, signed_by)
    return broker.claim([NonceClaim(nonce, held.receipt, held.attempt)])


def test_a_new_file_remembers_since_whoever_came_first_made_it(reopen, clock):
    made_at = clock.now()
    reopen().publish([Outgoing("q", "first", b"x")], timeout=5)
    clock.advance(60 * MINUTE)  # until the first worker comes

    broker = reopen()

    assert broker.memory().since == made_at
    assert ask(broker, made_at) == [NonceState.CLAIMED]


def test_a_file_that_was_deleted_remembers_anew(reopen, clock, path):
    ran_at = clock.now()
    reopen().publish([Outgoing("q", "first", b"x")], timeout=5)
    clock.advance(MINUTE)
    reopen().close()
    for file in path.parent.glob("cardoon.db*"):
        if file.is_file():
            file.unlink()

    broker = reopen()

    assert ask(broker, ran_at) == [NonceState.BEFORE_EPOCH]
    assert broker.memory().since == clock.now()


def test_marks_that_are_deleted_take_the_epoch_along(reopen, clock, path):
    broker = reopen()
    ran_at = clock.now()
    broker.finish([Nonce(b"session of 16 by", 1, 9e9)])
    clock.advance(MINUTE)
    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM replay")
    file.close()

    assert ask(broker, ran_at) == [NonceState.BEFORE_EPOCH]
    assert broker.memory().since == clock.now()


@pytest.mark.parametrize("value", ["'soon'", "x'00'", "NULL"])
def test_an_epoch_that_is_no_number_is_none(reopen, clock, path, value):
    broker = reopen()
    ran_at = clock.now()
    broker.finish([Nonce(b"another session!", 1, 9e9)])
    clock.advance(MINUTE)
    with sqlite3.connect(path) as file:
        file.execute(f"UPDATE replay SET receipt = {value} WHERE session = x''")
    file.close()

    assert ask(broker, ran_at) == [NonceState.BEFORE_EPOCH]
    assert broker.memory().since == clock.now()


def test_a_file_from_before_epochs_has_always_remembered(reopen, clock, path, monkeypatch):
    monkeypatch.setattr(schema, "VERSION", 3)
    old = schema.connect_file(path)
    schema.migrate(old, path, now=clock.now())
    old.execute("DELETE FROM replay")
    old.execute("UPDATE counter SET value = 7")
    old.execute(
        "INSERT INTO kept (place, queue, id, priority, attempt, crashes, retries, reason, detail,"
        " kept_at, frame) VALUES ('quarantine', 'q', 'x', 0, 1, 0, 0, 'unsigned', '', 0, x'0102')"
    )
    old.close()
    monkeypatch.undo()

    broker = reopen()

    assert broker.memory() == (0, 7)
    assert ask(broker, 1.0) == [NonceState.CLAIMED]
    assert broker.quarantined() == [("unsigned", 1, 2)]


def test_the_number_of_a_file_tells_that_it_was_set_back(reopen, path):
    broker = reopen()
    broker.publish([Outgoing("q", f"a{n}", b"x") for n in range(5)], timeout=5)
    reopen().close()
    backup = path.read_bytes()
    broker = reopen()
    broker.publish([Outgoing("q", f"b{n}", b"x") for n in range(5)], timeout=5)
    before = broker.memory()
    broker.close()
    for file in path.parent.glob("cardoon.db-*"):
        if file.is_file():
            file.unlink()
    path.write_bytes(backup)

    after = reopen().memory()

    assert after.since == before.since
    assert after.number < before.number


def test_marks_of_sessions_that_are_over_are_forgotten(reopen, clock, path):
    broker = reopen()
    for session in range(50):
        expires_at = clock.now() + 100
        broker.finish([Nonce(session.to_bytes(16), n, expires_at) for n in range(20)])
        clock.advance(10)
        broker.maintain()

    with sqlite3.connect(path) as file:
        [(count,)] = file.execute("SELECT count(*) FROM replay")
    file.close()

    # Ten sessions are not over yet but one, and the epoch never is.
    assert count == 9 * 20 + 1
