"""Unique and limited messages: what is stored for them, what it costs, and that it is deleted again."""

from __future__ import annotations

import sqlite3

import pytest

from cardoon.broker import Ack, DeadLetter, Kept, Limit, Outgoing, Unique
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.exceptions import ImproperlyConfigured
from cardoon.sqlite import messages, schema
from cardoon.sqlite.database import Database
from cardoon.sqlite.statements import load_schema
from cardoon.testing import FakeClock
from cardoon.testing.setting import ids, limited, message, only, publish, receive, send


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


def look(database, query):
    with database.write(durable=False) as transaction:
        return transaction._connection.execute(query).fetchall()


def blocked(database):
    [(count,)] = look(database, "SELECT count(*) FROM message WHERE state = 4")
    return count


def test_nothing_is_left_behind(broker, database, clock):
    for number in range(3):
        both = limited(f"m{number}", f"k{number}", most=1, gap=2 * number)
        send(broker, both._replace(unique=Unique(f"u{number}", 5.0)))
    (held, other, kept) = receive(broker)
    broker.settle([Ack(held), Ack(other), DeadLetter(kept, "broken")])
    send(broker, limited("purged", "k9", most=1))
    broker.purge("q")
    clock.advance(10)
    broker.maintain()
    broker.discard(Kept.DEAD_LETTER, None)

    for table in ("message", "frame", "kept", "bound", "recent"):
        assert look(database, f"SELECT * FROM {table}") == [], table


def test_a_limit_without_a_rate_is_forgotten_with_its_last_message(broker, database):
    send(broker, limited("a", most=1))
    broker.settle([Ack(each) for each in receive(broker)])

    assert look(database, "SELECT * FROM bound") == []


def test_a_crowd_is_put_out_of_the_way_once(broker, database):
    send(broker, *(limited(f"m{number}", most=1) for number in range(1500)))
    (held,) = receive(broker)
    before = blocked(database)
    touched = database._writer.total_changes
    for _ in range(10):
        publish(broker, message("free"))
        broker.settle([Ack(each) for each in receive(broker)])
    free = database._writer.total_changes - touched
    touched = database._writer.total_changes
    broker.settle([Ack(held)])
    (held,) = receive(broker)

    assert before == 1499
    assert free <= 10 * 7  # as many rows as without the crowd
    assert held.id == "m1"
    assert blocked(database) == 1498
    assert database._writer.total_changes - touched <= 8


def test_as_many_are_let_go_as_there_is_room_for(broker, database):
    send(broker, *(limited(f"m{number}", most=3) for number in range(9)))
    held = receive(broker)
    assert receive(broker) == []
    counts = [blocked(database)]
    for each in held:
        broker.settle([Ack(each)])
        counts.append(blocked(database))

    assert counts == [6, 5, 4, 3]


def test_a_claim_that_meets_a_crowd_lets_others_write_in_between(broker, monkeypatch):
    claims = []
    take = messages.Claim.take

    def counted(claim, *arguments, **options):
        claims.append(take(claim, *arguments, **options))
        return claims[-1]

    monkeypatch.setattr(messages.Claim, "take", counted)
    send(broker, limited("running", most=1))
    receive(broker)
    crowd = [limited(f"m{number}", most=1) for number in range(3 * messages._MAX_BLOCKED)]
    send(broker, *crowd)
    publish(broker, message("free"))
    claims.clear()

    assert ids(receive(broker, limit=10)) == ["free"]
    assert [len(claim) for claim in claims] == [0, 0, 1]


def test_a_worker_wakes_when_a_rate_allows_the_next(tmp_path, start):
    told, _ = start("paced", tmp_path / "x.db", 3, 0.3).communicate(timeout=60)

    first, second, third = (float(line.split()[1]) for line in told.splitlines())
    assert second - first < 1
    assert third - second < 1
    assert third - first > 0.48  # each may come late, which says nothing of the next


def test_of_eight_processes_that_send_the_same_one_sends_it(tmp_path, start):
    rivals = [start("compete", tmp_path / "x.db", f"p{number}", 25) for number in range(8)]
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        rival.stdin.write("\n")
        rival.stdin.flush()
    told = [
        line.split() for rival in rivals for line in rival.communicate(timeout=60)[0].splitlines()
    ]

    sent = {name.split(".")[1]: name for verb, name, _ in told if verb == "sent"}
    left = [(name.split(".")[1], holder) for verb, name, holder in told if verb == "left"]
    assert len(told) == 8 * 25
    assert len(sent) == 25
    assert len(left) == 7 * 25
    assert all(sent[number] == holder for number, holder in left)


# A file of the version before


def old_file(path):
    """A file as version 1 made it, with a message in each place."""
    connection = sqlite3.connect(path)
    connection.executescript(load_schema(1))
    connection.executescript(
        """
        UPDATE counter SET value = 2;
        INSERT INTO message (number, id, queue, priority, state, due, size)
            VALUES (1, 'old', 'q', 0, 1, 0, 3), (2, 'later', 'q', 0, 0, 9e9, 3);
        INSERT INTO frame VALUES (1, x'616263'), (2, x'616263');
        INSERT INTO kept (place, queue, id, priority, attempt, crashes, retries, reason, detail,
            kept_at, frame) VALUES ('dead', 'q', 'kept', 0, 1, 0, 0, 'broken', '', 0, x'616263');
        """
    )
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_a_file_of_the_version_before_goes_on(database, broker):
    old_file(database.path)

    send(broker, only("new"), limited("x", most=1), limited("y", most=1))
    restored = broker.restore(Kept.DEAD_LETTER, [1])
    taken = receive(broker)

    assert restored == 1
    assert ids(taken) == ["old", "new", "x", "kept"]
    assert taken[0].frame == b"abc"
    assert broker.settle([Ack(each) for each in taken]) == [True] * 4
    assert ids(receive(broker)) == ["y"]
    assert broker.purge("q") == 1
    assert look(database, "PRAGMA user_version") == [(schema.VERSION,)]
    assert look(database, "PRAGMA integrity_check") == [("ok",)]


def test_a_file_that_was_brought_up_to_date_is_as_a_new_one(tmp_path, database):
    old_file(tmp_path / "old.db")
    old = Database(tmp_path / "old.db", clock=FakeClock())
    shape = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"

    assert look(old, shape) == look(database, shape)
    old.close()


def test_a_file_of_a_later_version_is_left_alone(database):
    old_file(database.path)
    connection = sqlite3.connect(database.path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()

    with pytest.raises(ImproperlyConfigured, match="upgrade Cardoon"):
        SqliteBroker(database).publish([Outgoing("q", "a", b"x", limit=Limit("k", 1))], timeout=1)
