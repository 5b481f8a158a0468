"""Rows that no driver writes: one of them must not stop the claims of all others."""

from __future__ import annotations

import sqlite3

import pytest

from cardoon.broker import Outgoing
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.exceptions import OperationalError
from cardoon.sqlite.database import Database
from cardoon.testing import FakeClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.db"


@pytest.fixture
def broker(path):
    made = SqliteBroker(Database(path, clock=FakeClock(), flush=lambda _: None))
    made.declare(["q"])
    yield made
    made.close()


def publish(broker, *ids):
    broker.publish([Outgoing("q", each, each.encode()) for each in ids], timeout=5)


def write(path, statement):
    """Do what anybody may who can write the file."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def receive(broker):
    return {each.frame: each for each in broker.receive(["q"], limit=9, lease=30, timeout=0)}


ODD = {
    "id = x'fffe'": b"odd",
    "id = CAST(x'fffe' AS TEXT)": b"odd",
    "priority = x'ff'": b"odd",
    "priority = 'high'": b"odd",
    "attempt = 'first'": b"odd",
    "attempt = 9223372036854775807": b"odd",
    "crashes = 'none'": b"odd",
    "retries = 1.5": b"odd",
    "retries = x'00'": b"odd",
    "limit_key = 'of nobody'": b"odd",
    "limit_key = x'fffe'": b"odd",
}


@pytest.mark.parametrize(("change", "frame"), ODD.items())
def test_an_odd_row_comes_to_the_gate_and_the_others_with_it(broker, path, change, frame):
    publish(broker, "first", "odd", "last")
    write(path, f"UPDATE message SET {change} WHERE id = 'odd'")

    found = receive(broker)

    assert found.keys() == {b"first", b"last", frame}
    odd = found[frame]
    assert all(type(one) is int for one in (odd.attempt, odd.crashes, odd.retries, odd.priority))
    assert odd.id == "odd" or odd.id.startswith("row-")


@pytest.mark.parametrize("statement", ["DELETE FROM frame", "UPDATE frame SET frame = 'ö'"])
def test_a_frame_that_is_none_is_empty(broker, path, statement):
    publish(broker, "first", "odd", "last")
    write(path, f"{statement} WHERE number = (SELECT number FROM message WHERE id = 'odd')")

    assert receive(broker).keys() == {b"first", b"last", b""}


def test_a_time_that_is_none_keeps_nobody_from_looking(broker, path):
    publish(broker, "odd")
    write(path, "UPDATE message SET state = 0, due = 'now'")

    assert receive(broker) == {}
    publish(broker, "other")
    assert receive(broker).keys() == {b"other"}


def test_a_row_that_is_in_order_is_not_touched(broker, path):
    publish(broker, "first", "odd")
    write(path, "UPDATE message SET attempt = 7, crashes = 2, retries = 3 WHERE id = 'first'")
    write(path, "UPDATE message SET id = x'fffe' WHERE id = 'odd'")

    first = receive(broker)[b"first"]

    assert (first.id, first.attempt, first.crashes, first.retries) == ("first", 8, 2, 3)


def test_what_is_wrong_with_the_file_itself_is_said(broker, path):
    publish(broker, "first")
    write(path, "DROP TABLE frame")

    with pytest.raises(OperationalError, match="frame"):
        receive(broker)
