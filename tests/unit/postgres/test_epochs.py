"""Since when a database remembers what was carried out, and what becomes of its marks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from cardoon.broker import Outgoing
from cardoon.postgres import schema
from cardoon.postgres.location import locate
from cardoon.security.replay import Nonce, NonceClaim, NonceState

HOUR = 3600.0


def ask(broker, signed_by):
    """What a claim of a message is told that was signed at that time."""
    broker.publish([Outgoing("q", "asked", b"x")], timeout=10)
    [held] = broker.receive(["q"], limit=1, lease=30, timeout=0)
    nonce = Nonce(b"session of 16 by", 1, 9e9, signed_by)
    return broker.claim([NonceClaim(nonce, held.receipt, held.attempt)])


def test_a_database_remembers_since_its_tables_were_made(broker):
    memory = broker.memory()

    assert time.time() - HOUR < memory.since <= time.time()
    assert ask(broker, memory.since - 1) == [NonceState.BEFORE_EPOCH]
    assert broker.memory().number > memory.number - 1


def test_a_table_that_was_emptied_remembers_anew_and_all_agree(postgres, broker, connect, url):
    first = broker.memory().since
    broker.finish([Nonce(b"session of 16 by", 1, 9e9)])
    postgres.ask("TRUNCATE cardoon.replay")

    others = [connect(url) for _ in range(3)]
    with ThreadPoolExecutor() as threads:
        seen = {memory.since for memory in threads.map(lambda one: one.memory(), others)}

    assert len(seen) == 1
    assert seen.pop() > first
    assert ask(broker, first) == [NonceState.BEFORE_EPOCH]


def test_tables_of_the_version_before_have_always_remembered(postgres, connect):
    postgres.ask("DROP SCHEMA IF EXISTS older CASCADE")
    url = f"{postgres.url}?schema=older"
    place = locate(url, setting="broker_url")
    schema.upgrade(place)
    connect(url).publish([Outgoing("q", "a", b"x")], timeout=10)
    postgres.ask("DELETE FROM older.replay; DROP INDEX older.kept_reason")
    postgres.ask("UPDATE older.schema_version SET value = 2")

    schema.upgrade(place)

    assert connect(url).memory().since == 0
    assert ask(connect(url), 1.0) == [NonceState.CLAIMED]
    postgres.ask("DROP SCHEMA older CASCADE")


def test_marks_of_sessions_that_are_over_are_forgotten(postgres, broker):
    soon, later = time.time() - 1, time.time() + HOUR
    for session in range(50):
        expires_at = later if session % 10 == 0 else soon
        broker.finish([Nonce(session.to_bytes(16), n, expires_at) for n in range(20)])
    since = broker.memory().since

    broker.maintain()

    assert postgres.ask("SELECT count(*) FROM cardoon.replay") == [(5 * 20 + 1,)]
    assert broker.memory().since == since
