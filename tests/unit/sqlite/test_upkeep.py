"""Deleting what has expired, a bounded amount at a time, and purging much."""

from __future__ import annotations

import pytest

from cardoon.backend import SealedResult
from cardoon.backends.sqlite import SqliteBackend
from cardoon.broker import Kept, Outgoing
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.security.replay import Nonce
from cardoon.sqlite import kept, messages, upkeep
from cardoon.sqlite.database import Database
from cardoon.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def database(tmp_path, clock):
    database = Database(tmp_path / "x.db", clock=clock, flush=lambda _: None)
    yield database
    database.close()


@pytest.fixture
def broker(database):
    return SqliteBroker(database)


def count(database, table):
    with database.write(durable=False) as transaction:
        (number,) = transaction._connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return number


def test_expired_rows_are_deleted_in_steps(database, broker, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "MAX_EXPIRED_AT_ONCE", 10)
    soon, late = clock.now() + 5, clock.now() + 50
    backend = SqliteBackend(database)
    backend.store([SealedResult(f"a{n}", b"x", True, soon) for n in range(15)])
    backend.store([SealedResult("late", b"x", True, late), SealedResult("ever", b"x", True, None)])
    broker.finish([Nonce(b"s" * 16, n, soon) for n in range(15)])
    broker.finish([Nonce(b"s" * 16, 99, late)])
    broker.broadcast(b"x", expires_at=soon)
    broker.broadcast(b"y", expires_at=late)

    sizes = []
    for _ in range(4):
        broker.maintain()
        sizes.append([count(database, table) for table in ("result", "replay", "broadcast")])
        clock.advance(5)

    # The mark of the epoch is never over.
    assert sizes == [[17, 17, 2], [7, 7, 1], [2, 2, 1], [2, 2, 1]]


def test_maintaining_without_need_does_not_write(database, broker):
    broker.publish([Outgoing("q", "a", b"x")], timeout=1)
    broker.receive(["q"], limit=1, lease=30, timeout=0)
    database.timeout = 0.05

    with database.write(durable=False):
        assert broker.maintain() == 0


def test_a_large_queue_is_purged_in_steps(database, broker, clock, monkeypatch):
    monkeypatch.setattr(kept, "MAX_ROWS_AT_ONCE", 3)
    ready = [Outgoing("q", f"a{n}", b"x") for n in range(7)]
    scheduled = [Outgoing("q", f"b{n}", b"x", run_at=clock.now() + 9) for n in range(6)]
    broker.publish([*ready, *scheduled, Outgoing("r", "c", b"x")], timeout=1)

    assert broker.purge("q") == 13
    assert [depth.queue for depth in broker.depths() if depth.ready] == ["r"]
    # The frames went with their messages.
    assert count(database, "frame") == 1


def test_a_large_quarantine_is_discarded_in_steps(broker, monkeypatch):
    monkeypatch.setattr(kept, "MAX_ROWS_AT_ONCE", 3)
    for _ in range(7):
        broker.quarantine(queue="q", id="a", frame=b"x", reason="unsigned", detail="")

    assert broker.discard(Kept.QUARANTINE, None) == 7
    assert broker.kept(Kept.QUARANTINE, limit=9) == []


def test_one_claim_does_not_carry_more_than_fits_in_memory(broker, monkeypatch):
    monkeypatch.setattr(messages, "MAX_CLAIM_BYTES", 100)
    sizes = [60, 40, 1, 500, 30]
    broker.publish([Outgoing("q", str(n), b"x" * size) for n, size in enumerate(sizes)], timeout=1)

    claims = []
    while deliveries := broker.receive(["q"], limit=10, lease=30, timeout=0):
        claims.append([len(delivery.frame) for delivery in deliveries])

    assert claims == [[60, 40], [1], [500], [30]]


def test_of_more_due_messages_than_are_made_ready_at_once_none_is_forgotten(
    broker, clock, monkeypatch
):
    monkeypatch.setattr(messages, "_MIN_PROMOTED", 2)
    broker.publish(
        [Outgoing("q", str(n), b"x", run_at=clock.now() + 9 - n) for n in range(6)], timeout=1
    )
    clock.advance(9)

    taken = []
    while deliveries := broker.receive(["q"], limit=1, lease=30, timeout=0):
        taken += [delivery.id for delivery in deliveries]

    assert sorted(taken) == ["0", "1", "2", "3", "4", "5"]
    # Those that were due first are made ready first, and of these the older goes first.
    assert taken[0] == "4"
