"""Channels and records when servers end and answers are lost."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.endpoints import Access
from cardoon.exceptions import ImproperlyConfigured
from cardoon.postgres import schema
from cardoon.postgres.location import locate
from cardoon.records import MAX_RECORDS, Record

LONG = 30.0


def soon(seconds=60.0):
    return time.time() + seconds


@pytest.fixture
def store(durable):
    durable.empty()
    return durable


def test_no_record_is_lost_when_the_server_is_killed(connect, store):
    broker = connect(store.url, timeout=LONG)
    for number in range(20):
        assert broker.put_record("schedule", f"n{number}", b"one", revision=0)
    assert broker.put_record("schedule", "n7", b"two", revision=1)
    store.server.kill()
    store.server.start()
    store.reconnect()

    expected = {f"n{number}": Record(1, b"one") for number in range(20)}
    assert dict(broker.records("schedule")) == {**expected, "n7": Record(2, b"two")}
    assert broker.put_record("schedule", "n7", b"three", revision=2)


def test_after_a_crash_a_channel_begins_anew_and_whoever_waits_reads_on(connect, store):
    broker = connect(store.url, timeout=LONG)
    broker.post("events", [b"1", b"2", b"3"], expires_at=soon(), keep=10)
    assert broker.posted("events", 2, limit=9, timeout=0) == [(3, b"3")]

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(broker.posted, "events", 3, limit=9, timeout=LONG)
        store.server.kill()
        store.server.start()
        store.reconnect()
        broker.post("events", [b"anew"], expires_at=soon(), keep=10)

        assert [frame for _, frame in waiting.result(LONG)] == [b"anew"]


def test_a_reader_in_another_process_is_woken(connect, url):
    poster, reader = connect(url), connect(url)
    with ThreadPoolExecutor() as threads:
        seconds = []
        for number in (1, 2, 3):
            waiting = threads.submit(
                lambda after: (
                    reader.posted("events", after, limit=9, timeout=LONG),
                    time.monotonic(),
                ),
                number - 1,
            )
            time.sleep(0.2)
            posted_at = time.monotonic()
            poster.post("events", [b"x"], expires_at=soon(), keep=10)
            found, back_at = waiting.result(LONG)
            assert found == [(number, b"x")]
            seconds.append(back_at - posted_at)

    assert min(seconds) < 0.5


def test_a_record_whose_answer_was_lost_is_known_as_ones_own(broker):
    def put(token, revision):
        wanted = ("tick", "a", b"x", revision, token, MAX_RECORDS)
        [(written,)] = broker.postgres.call("put_record", *wanted)
        return written

    assert [put(1, 0), put(1, 0), put(2, 0)] == [1, 1, 0]
    assert [put(3, 1), put(3, 1), put(1, 0), put(2, 1)] == [1, 1, 0, 0]
    assert dict(broker.records("tick")) == {"a": Record(2, b"x")}


def test_a_drop_whose_answer_was_lost_is_known_as_ones_own(broker):
    broker.put_record("tick", "a", b"x", revision=0)

    def drop(*, is_again):
        [(dropped,)] = broker.postgres.call("drop_record", "tick", "a", 1, is_again)
        return dropped

    assert [drop(is_again=again) for again in (False, True, False)] == [True, True, False]


def test_many_processes_make_no_more_records_than_there_may_be(connect, url, monkeypatch):
    monkeypatch.setattr("cardoon.postgres.posting.MAX_RECORDS", 5)
    monkeypatch.setattr("cardoon.records.MAX_RECORDS", 5)
    start = threading.Barrier(8)

    def make(number):
        broker = connect(url)
        start.wait(LONG)
        try:
            return broker.put_record("tick", f"n{number}", b"x", revision=0)
        except Exception as error:  # noqa: BLE001 - which one is asserted
            return type(error).__name__

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(make, range(8)))

    assert sorted(map(str, told)) == ["ImproperlyConfigured"] * 3 + ["True"] * 5


def test_tables_of_version_3_learn_to_post_and_record(connect, postgres, url):
    postgres.ask("DROP TABLE cardoon.post, cardoon.channel, cardoon.record")
    postgres.ask("UPDATE cardoon.schema_version SET value = 3")
    with pytest.raises(ImproperlyConfigured, match="cardoon db upgrade"):
        connect(url).position("events")

    schema.upgrade(locate(url, setting="broker_url", access=Access(allow_plaintext=True)))

    broker = connect(url)
    broker.post("events", [b"x"], expires_at=soon(), keep=1)
    assert broker.put_record("tick", "a", b"y", revision=0)
    assert broker.position("events") == 1


def test_what_has_expired_leaves_the_tables(broker, postgres):
    broker.post("events", [b"x"] * 10, expires_at=soon(-1), keep=100)
    broker.post("events", [b"y"], expires_at=soon(), keep=100)
    broker.post("reply.0f", [b"z"], expires_at=soon(-4000), keep=100)
    postgres.ask("UPDATE cardoon.channel SET expires_at = 1 WHERE name = 'reply.0f'")

    broker.maintain()

    assert postgres.ask("SELECT number, frame FROM cardoon.post") == [(11, b"y")]
    assert postgres.ask("SELECT name, newest FROM cardoon.channel") == [("events", 11)]
