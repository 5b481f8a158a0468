"""Several processes on one file, in peace and under fire."""

from __future__ import annotations

import random
import signal
import sqlite3
from collections import Counter

import pytest


def words(process, timeout=60):
    output, _ = process.communicate(timeout=timeout)
    return [tuple(line.split()) for line in output.splitlines()]


def rows(path, query):
    database = sqlite3.connect(path)
    try:
        return [row[0] for row in database.execute(query)]
    finally:
        database.close()


def test_four_senders_and_two_workers_lose_nothing_and_do_nothing_twice(tmp_path, start):
    path = tmp_path / "x.db"
    senders = [start("write", path, f"s{n}.", 200, 5) for n in range(4)]
    workers = [start("work", path, 3) for _ in range(2)]

    sent = [name for sender in senders for _, name in words(sender)]
    done = [name for worker in workers for _, name in words(worker)]

    assert [process.returncode for process in senders + workers] == [0] * 6
    assert len(sent) == 800
    assert Counter(done) == Counter([*sent, *(f"{name}+" for name in sent)])
    assert rows(path, "PRAGMA integrity_check") == ["ok"]
    assert rows(path, "SELECT count(*) FROM frame") == [0]
    assert rows(path, "SELECT count(*) FROM result") == [1600]
    assert rows(path, "SELECT count(*) FROM replay WHERE done") == [1600]


@pytest.mark.slow
def test_processes_killed_at_any_moment_lose_nothing_and_do_nothing_twice(tmp_path, start):
    path = tmp_path / "x.db"
    chance = random.Random(7)
    said = []
    for number in range(6):
        storm = [start("storm", path, f"{number}.{n}") for n in range(3)]
        said += [tuple(storm[0].stdout.readline().split()) for _ in range(chance.randrange(1, 99))]
        for process in storm:
            process.send_signal(signal.SIGKILL)
        said += [word for process in storm for word in words(process)]

    sent = {word[1] for word in said if word[0] == "sent"}
    done = Counter(word[1] for word in said if word[0] == "done")
    waiting = set(rows(path, "SELECT id FROM message"))
    recorded = set(rows(path, "SELECT task_id FROM result"))

    assert len(sent) > 100
    assert len(done) > 100
    assert rows(path, "PRAGMA integrity_check") == ["ok"]
    assert sent <= waiting | recorded
    assert not waiting & recorded
    assert set(done) <= recorded
    assert max(done.values()) == 1
    # The end of a task, its result, its nonce and its successor are one step.
    assert rows(path, "SELECT count(*) FROM replay WHERE done") == [len(recorded)]
    assert {f"{name}+" for name in recorded if not name.endswith("+")} <= waiting | recorded
    assert rows(path, "SELECT count(*) FROM frame") == [len(waiting)]

    # Whoever comes next takes back what the dead held, and finishes.
    words(start("work", path, 3))
    assert rows(path, "SELECT id FROM message") == []
