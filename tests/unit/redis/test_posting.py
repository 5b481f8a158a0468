"""Channels and records when servers end, links are cut, and others write what no driver does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon import backends, brokers
from cardoon.clock import SystemClock
from cardoon.records import Record
from cardoon.redis.scripts import load
from tests.servers.lossy import LossyLink

LONG = 30.0


def connect(url, **options):
    return brokers.connect(url, clock=SystemClock(), **options)


def soon(seconds=60.0):
    return time.time() + seconds


@pytest.fixture
def broker(server):
    made = connect(server.url)
    yield made
    made.close()


@pytest.fixture
def link(server):
    made = LossyLink(server.port)
    yield made
    made.close()


@pytest.fixture
def lossy(link):
    """A broker behind a link that can fail, which is connected."""
    made = connect(f"redis://127.0.0.1:{link.port}/0")
    made.declare(["q"])
    yield made
    made.close()


def test_no_record_is_lost_when_the_server_is_killed(own_server):
    broker = connect(own_server.url, timeout=LONG)
    for number in range(50):
        assert broker.put_record("schedule", f"n{number}", b"one", revision=0)
    assert broker.put_record("schedule", "n7", b"two", revision=1)
    own_server.kill()
    own_server.restart()

    expected = {f"n{number}": Record(1, b"one") for number in range(50)}
    assert dict(broker.records("schedule")) == {**expected, "n7": Record(2, b"two")}
    assert broker.put_record("schedule", "n7", b"three", revision=2)
    broker.close()


def test_whoever_waits_for_a_channel_outlives_a_restart(own_server):
    broker = connect(own_server.url, timeout=LONG)
    broker.post("events", [b"before"], expires_at=soon(), keep=10)

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(broker.posted, "events", 1, limit=9, timeout=LONG)
        own_server.kill()
        own_server.restart()
        broker.post("events", [b"after"], expires_at=soon(), keep=10)

        assert [frame for _, frame in waiting.result(LONG)][-1] == b"after"
    broker.close()


def test_a_channel_that_was_lost_is_read_from_its_beginning(server, broker):
    broker.post("events", [b"1", b"2", b"3"], expires_at=soon(), keep=10)
    server.ask("FLUSHALL")
    broker.post("events", [b"anew"], expires_at=soon(), keep=10)

    assert broker.posted("events", 3, limit=9, timeout=0) == [(1, b"anew")]


@pytest.mark.parametrize("revision", [0, 1])
def test_a_record_whose_answer_was_lost_is_known_as_ones_own(lossy, link, revision):
    for number in range(revision):
        lossy.put_record("tick", "a", b"before", revision=number)
    link.cut_answers(2, to=load("put_record").digest.encode())

    written = lossy.put_record("tick", "a", b"mine", revision=revision)

    assert link.cuts_left == 0
    assert written
    assert dict(lossy.records("tick")) == {"a": Record(revision + 1, b"mine")}
    assert not lossy.put_record("tick", "a", b"mine", revision=revision)


def test_a_drop_whose_answer_was_lost_is_known_as_ones_own(lossy, link):
    lossy.put_record("tick", "a", b"x", revision=0)
    link.cut_answers(2, to=load("drop_record").digest.encode())

    assert lossy.drop_record("tick", "a", revision=1)
    assert link.cuts_left == 0
    assert not lossy.drop_record("tick", "a", revision=1)


def test_what_others_have_written_hides_no_record(server, broker):
    broker.put_record("schedule", "a", b"x", revision=0)
    server.ask("HSET", "{cardoon}:records:schedule", "odd", "no revision")
    broker.store.ask_many([("HSET", "{cardoon}:records:schedule", b"\xff", "")])

    found = dict(broker.records("schedule"))

    assert found == {"a": Record(1, b"x"), "odd": Record(0, b""), "\\xff": Record(0, b"")}
    assert not broker.put_record("schedule", "odd", b"mine", revision=0)


def test_what_others_have_written_into_a_channel_hides_nothing_that_comes(server, broker):
    broker.post("events", [b"1"], expires_at=soon(), keep=10)
    server.ask("XADD", "{cardoon}:posts:events", "7-0", "e", "9e9", "u", "9e9")
    server.ask("XADD", "{cardoon}:posts:events", "8-0", "f", "odd")

    broker.post("events", [b"2"], expires_at=soon(), keep=10)

    assert broker.posted("events", 0, limit=9, timeout=0) == [(1, b"2")]


def test_frames_go_by_the_servers_time(broker):
    broker.post("events", [b"short"], expires_at=soon(0.3), keep=10)
    broker.post("events", [b"long"], expires_at=soon(), keep=10)
    deadline = time.monotonic() + LONG
    while len(broker.posted("events", 0, limit=9, timeout=0)) == 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert broker.posted("events", 0, limit=9, timeout=0) == [(2, b"long")]


def test_a_channel_is_forgotten_by_the_server_itself(server, broker):
    broker.post("reply.0f", [b"x"], expires_at=soon(60), keep=10)

    left = int(server.ask("PTTL", "{cardoon}:posts:reply.0f")[1:])

    assert 3660_000 < left <= 3660_000 + 61_000


def test_expired_frames_leave_the_server_with_the_next_post(server, broker):
    broker.post("events", [b"x"] * 100, expires_at=soon(-1), keep=1000)
    broker.post("events", [b"y"], expires_at=soon(), keep=1000)

    assert server.ask("XLEN", "{cardoon}:posts:events") == b":1\r\n"


def test_a_result_backend_has_the_records_of_its_broker(server, broker):
    backend = backends.connect(server.url, clock=SystemClock(), beside=broker)
    broker.put_record("tick", "a", b"x", revision=0)

    assert backend.put_record("tick", "a", b"y", revision=1)
    assert dict(broker.records("tick")) == dict(backend.records("tick")) == {"a": Record(2, b"y")}
    backend.close()
