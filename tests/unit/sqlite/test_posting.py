"""Channels and records of a file that several processes have."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon import backends, brokers
from cardoon.clock import SystemClock
from cardoon.records import Record
from cardoon.sqlite import schema
from cardoon.testing import FakeClock

LONG = 30.0


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/cardoon.db"


@pytest.fixture
def connect(url):
    made = []

    def connect(clock=None):
        made.append(brokers.connect(url, clock=clock or SystemClock()))
        return made[-1]

    yield connect
    for broker in made:
        broker.close()


def test_a_reader_in_another_process_is_woken(connect, url):
    broker = connect()
    program = (
        "from cardoon import brokers\n"
        "from cardoon.clock import SystemClock\n"
        f"broker = brokers.connect({url!r}, clock=SystemClock())\n"
        "broker.post('reply.0f', [b'here'], expires_at=9e9, keep=1)\n"
        "after = 0\n"
        "for _ in range(3):\n"
        "    [(after, frame)] = broker.posted('events', after, limit=1, timeout=30)\n"
        "    broker.post('reply.0f', [frame], expires_at=9e9, keep=1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as reader:
        assert broker.posted("reply.0f", 0, limit=1, timeout=LONG) == [(1, b"here")]
        seconds = []
        for number in range(3):
            start = time.monotonic()
            broker.post("events", [b"%d" % number], expires_at=9e9, keep=10)
            answer = broker.posted("reply.0f", number + 1, limit=1, timeout=LONG)
            assert answer == [(number + 2, b"%d" % number)]
            seconds.append(time.monotonic() - start)
        assert reader.wait(LONG) == 0

    # There and back, by hints: each way would take up to a second without.
    assert min(seconds) < 0.7


def test_of_many_processes_that_write_a_revision_one_does(connect, url):
    program = (
        "import sys\n"
        "from cardoon import brokers\n"
        "from cardoon.clock import SystemClock\n"
        f"broker = brokers.connect({url!r}, clock=SystemClock())\n"
        "won = [broker.put_record('tick', 'a', sys.argv[1].encode(), revision=n) for n in range(30)]\n"
        "print(''.join('01'[one] for one in won))\n"
    )

    def run(number):
        done = subprocess.run(
            [sys.executable, "-c", program, str(number)], capture_output=True, check=True, text=True
        )
        return done.stdout.strip()

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(run, range(4)))

    wins = [sum(each[revision] == "1" for each in told) for revision in range(30)]
    [(_, (revision, _))] = connect().records("tick").items()
    assert wins[:revision] == [1] * revision
    assert wins[revision:] == [0] * (30 - revision)
    assert revision > 0


def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path, connect, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(schema, "VERSION", 4)
        path = tmp_path / "cardoon.db"
        file = schema.connect_file(path)
        schema.migrate(file, path, now=0.0)
        file.close()

    broker = connect()
    broker.post("events", [b"x"], expires_at=9e9, keep=1)

    assert broker.put_record("tick", "a", b"y", revision=0)
    assert broker.position("events") == 1


def test_what_has_expired_leaves_the_file(connect, tmp_path):
    clock = FakeClock()
    broker = connect(clock)
    broker.post("events", [b"x"] * 10, expires_at=clock.now() + 1, keep=100)
    broker.post("events", [b"y"], expires_at=clock.now() + 10_000, keep=100)
    broker.post("reply.0f", [b"z"], expires_at=clock.now() + 1, keep=100)
    clock.advance(4000)

    broker.maintain()

    broker.close()
    file = sqlite3.connect(tmp_path / "cardoon.db")
    assert file.execute("SELECT number, frame FROM post").fetchall() == [(11, b"y")]
    assert file.execute("SELECT name, newest FROM channel").fetchall() == [("events", 11)]
    file.close()


def test_a_result_backend_has_the_records_of_its_broker(connect, url):
    broker = connect()
    backend = backends.connect(url, clock=SystemClock(), beside=broker)
    broker.put_record("tick", "a", b"x", revision=0)

    assert backend.put_record("tick", "a", b"y", revision=1)
    assert dict(broker.records("tick")) == {"a": Record(2, b"y")}
