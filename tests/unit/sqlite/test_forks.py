"""Forking a process that uses a database."""

from __future__ import annotations

import sqlite3

from cardoon import brokers
from cardoon.clock import SystemClock


def test_parent_and_child_both_go_on_after_a_fork(tmp_path, start):
    path = tmp_path / "x.db"

    forked = start("fork", path)
    output, _ = forked.communicate(timeout=30)

    assert forked.returncode == 0
    assert output.splitlines() == ["child child", "parent parent"]
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("SELECT id, state FROM message ORDER BY number").fetchall() == [
        ("before", 2),
        ("child", 2),
        ("parent", 2),
    ]
    # Parent and child are two owners, and what each holds is its own.
    owners = database.execute("SELECT owner FROM message ORDER BY number").fetchall()
    assert owners[0] == owners[2] != owners[1]
    database.close()


def test_the_log_is_not_deleted_under_a_child_whose_parent_is_gone(tmp_path, start):
    path = tmp_path / "x.db"
    child = start("leave_child", path)
    assert child.stdout.readline() == "ready\n"
    child.wait(10)

    # The last connection to be closed deletes the log, and the child has one open.
    brokers.connect(f"sqlite:///{path}", clock=SystemClock()).close()
    reader = brokers.connect(f"sqlite:///{path}", clock=SystemClock())
    reader.declare(["q"])
    reader.close()
    child.stdin.write("go\n")
    child.stdin.flush()
    assert child.stdout.readline() == "sent\n"

    deliveries = reader.receive(["q"], limit=9, lease=30, timeout=0)
    assert [delivery.id for delivery in deliveries] == ["parent", "child"]
    reader.close()


def test_what_a_child_publishes_outlives_its_parent(tmp_path, start):
    path = tmp_path / "x.db"
    start("fork", path).communicate(timeout=30)

    broker = brokers.connect(f"sqlite:///{path}", clock=SystemClock())

    # The child closed its broker with a message in hand, and the parent is gone as well.
    assert broker.maintain() == 3
    broker.close()
