"""Connections that break, servers that stop, and what was confirmed before."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Outgoing
from cardoon.exceptions import OperationalError
from cardoon.postgres import messages, settling
from cardoon.security.replay import Nonce, NonceClaim
from tests.servers.ground import free_port

LONG = 30.0


def message(name):
    return Outgoing("q", name, name.encode())


def throw_out(store):
    """End every connection of Cardoon's; returns how many there were."""
    [(count,)] = store.ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'cardoon'"
    )
    return count


@pytest.fixture
def store(durable):
    durable.empty()
    return durable


def test_a_connection_that_was_ended_is_replaced_unnoticed(connect, store):
    broker = connect(store.url)
    taken = []
    for number in range(20):
        broker.publish([message(f"m{number}")], timeout=LONG)
        if number % 3 == 0:
            assert throw_out(store) > 0
        deliveries = broker.receive(["q"], limit=9, lease=60, timeout=0)
        assert all(broker.settle([Ack(each) for each in deliveries]))
        taken += [each.id for each in deliveries]

    assert taken == [f"m{number}" for number in range(20)]


def test_calls_that_are_under_way_when_connections_end_are_done(connect, store):
    sender, worker = connect(store.url), connect(store.url)
    names = [f"m{number}" for number in range(400)]
    stop = threading.Event()

    def harass():
        for _ in range(8):
            if stop.wait(0.4):
                return
            throw_out(store)

    def send():
        for name in names:
            sender.publish([message(name)], timeout=LONG)

    threads = [threading.Thread(target=each) for each in (harass, send)]
    for each in threads:
        each.start()
    seen = []
    deadline = time.monotonic() + 2 * LONG
    while len(set(seen)) < len(names) and time.monotonic() < deadline:
        deliveries = worker.receive(["q"], limit=9, lease=60, timeout=0.2)
        worker.settle([Ack(each) for each in deliveries])
        seen += [each.id for each in deliveries]
    stop.set()
    for each in threads:
        each.join(LONG)

    # One that was done before its sender heard of it may have been sent again; its nonce says so.
    assert set(seen) == set(names)


def test_no_descriptor_is_left_behind(connect, store):
    broker = connect(store.url)
    broker.publish([message("first")], timeout=LONG)
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(15):
        throw_out(store)
        broker.depths()

    assert len(list(Path("/dev/fd").iterdir())) <= before + 1


def test_what_was_confirmed_survives_the_death_of_the_server(connect, store):
    broker = connect(store.url, timeout=LONG)
    confirmed, results = [], []
    stop = threading.Event()

    def send():
        number = 0
        while not stop.is_set():
            names = [f"m{number + step}" for step in range(3)]
            number += 3
            broker.publish([message(name) for name in names], timeout=LONG)
            confirmed.extend(names)

    def work():
        while not stop.is_set():
            [*held] = broker.receive(["q"], limit=2, lease=600, timeout=0.1)
            ends = [Completion(Ack(each), SealedResult(each.id, b"x", True, None)) for each in held]
            taken = broker.complete(ends)
            results.extend(each.id for each, ended in zip(held, taken, strict=True) if ended)

    threads = [threading.Thread(target=each) for each in (send, work)]
    for each in threads:
        each.start()
    for _ in range(2):
        seen = len(confirmed)
        deadline = time.monotonic() + LONG
        while len(confirmed) < seen + 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        store.server.kill()
        store.server.start()
    stop.set()
    for each in threads:
        each.join(LONG)
    with store.server.connect() as connection:
        stored = {
            name
            for (name,) in connection.execute(
                "SELECT id FROM cardoon.message UNION SELECT task_id FROM cardoon.result"
            )
        }
        kept = {name for (name,) in connection.execute("SELECT task_id FROM cardoon.result")}
    store.reconnect()

    assert len(confirmed) > 120
    assert set(confirmed) <= stored
    assert set(results) <= kept


def test_a_frozen_server_does_not_hold_a_sender_for_longer_than_it_says(connect, store):
    broker = connect(store.url, timeout=1.0)
    broker.publish([message("before")], timeout=LONG)
    store.server.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(OperationalError, match="does not answer"):
            broker.publish([message("frozen")], timeout=0.5)
        assert 0.4 <= time.monotonic() - started < 3
        with pytest.raises(OperationalError):
            broker.depths()
        assert time.monotonic() - started < 6
    finally:
        store.server.signal(signal.SIGCONT)

    broker.publish([message("frozen"), message("after")], timeout=LONG)
    found = {each.id for each in broker.receive(["q"], limit=9, lease=60, timeout=0)}
    assert found == {"before", "frozen", "after"}


def test_a_server_that_is_away_is_waited_for(connect, store):
    broker = connect(store.url, timeout=LONG)
    broker.publish([message("before")], timeout=LONG)
    store.server.kill()
    timer = threading.Timer(0.5, store.server.start)
    timer.start()

    broker.publish([message("meanwhile")], timeout=LONG)

    timer.join(LONG)
    store.reconnect()
    assert len(broker.receive(["q"], limit=9, lease=60, timeout=0)) == 2


def test_where_nobody_listens_a_call_fails_within_its_time(connect):
    port = free_port()
    broker = connect(f"postgresql://me:top-secret@127.0.0.1:{port}/x", timeout=0.5)
    started = time.monotonic()

    with pytest.raises(OperationalError, match=f"127.0.0.1:{port}") as failed:
        broker.depths()

    assert time.monotonic() - started < 3
    assert "top-secret" not in str(failed.value)


def test_a_wrong_password_is_told_at_once_and_not_shown(connect, store):
    url = store.server.url_of("owner", "top-secret")
    started = time.monotonic()

    with pytest.raises(OperationalError, match="check the password") as failed:
        connect(url).depths()

    assert time.monotonic() - started < 5
    assert "top-secret" not in str(failed.value)


def test_of_several_servers_the_one_that_is_there_is_used(connect, store):
    away = f"postgresql://owner:x@127.0.0.1:{free_port()}/postgres"
    broker = connect(f"{away};{store.url}")

    broker.publish([message("a")], timeout=LONG)

    assert len(broker.receive(["q"], limit=9, lease=60, timeout=0)) == 1


def test_a_standby_is_not_taken_for_the_primary(connect, store):
    store.ask("ALTER SYSTEM SET default_transaction_read_only = on")
    store.ask("SELECT pg_reload_conf()")
    try:
        with pytest.raises(OperationalError, match="read-only"):
            connect(store.url, timeout=1.0).publish([message("a")], timeout=1.0)
    finally:
        with store.server.connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


def test_text_that_the_store_cannot_keep_is_refused(connect, store):
    broker = connect(store.url)

    for name in ("nul \0", "half \ud800"):
        with pytest.raises(OperationalError, match="cannot keep"):
            broker.publish([message("fine"), Outgoing("q", name, b"")], timeout=LONG)

    assert broker.receive(["q"], limit=9, lease=60, timeout=0) == []


def test_what_a_claim_leased_whose_answer_was_lost_goes_back_without_blame(connect, store):
    broker = connect(store.url)
    broker.publish([message("a"), message("b")], timeout=LONG)
    broker.postgres.call("claim", None, ["q"], 1, 60.0, 10**6, 4711)

    broker.postgres.call("unclaim", None, 4711)

    found = broker.receive(["q"], limit=9, lease=60, timeout=0)
    assert [(each.id, each.attempt, each.crashes) for each in found] == [("a", 2, 0), ("b", 1, 0)]


def test_an_adoption_whose_answer_was_lost_is_told_again(connect, store):
    broker = connect(store.url)
    broker.publish([message("stored")], timeout=LONG)
    wanted = [message("a"), message("stored"), message("b"), message("a")]

    def adopt(token):
        return broker.postgres.attempt(
            lambda session: messages.adopt(session, wanted, lease=60, now=None, token=token)
        )

    a, *others = adopt(4711)

    assert [each and each.id for each in others] == [None, "b", None]
    assert adopt(4711) == [a, *others]
    assert adopt(4712) == [None] * 4
    assert broker.settle([Ack(a)]) == [True]


def test_an_end_whose_answer_was_lost_is_known_as_ones_own(connect, store):
    broker = connect(store.url)
    broker.publish([message("a"), message("b")], timeout=LONG)
    held = broker.receive(["q"], limit=9, lease=60, timeout=0)
    nonces = [Nonce(b"session of 16 by", number, 9e9) for number in range(2)]
    broker.claim(
        [NonceClaim(n, each.receipt, each.attempt) for n, each in zip(nonces, held, strict=True)]
    )
    ends = [Completion(Ack(each), None, (), n) for each, n in zip(held, nonces, strict=True)]
    assert broker.complete(ends[:1]) == [True]

    def again(*, is_repeat):
        return broker.postgres.attempt(
            lambda session: settling.complete(
                session, ends[:1], now=None, schema="cardoon", is_repeat=is_repeat
            )
        )

    assert again(is_repeat=True) == [True]
    assert again(is_repeat=False) == [False]
    stale = Completion(Ack(held[1]._replace(attempt=9)), None, (), nonces[1])
    assert broker.complete([stale]) == [False]
    assert broker.complete(ends[1:]) == [True]


def test_without_prepared_statements_all_works(connect, store):
    broker = connect(f"{store.url}?prepare=false")
    for number in range(3):
        broker.publish([message(f"m{number}")], timeout=LONG)
        held = broker.receive(["q"], limit=9, lease=60, timeout=0)
        assert broker.settle([Ack(each) for each in held]) == [True]

    prepared = broker.postgres.attempt(lambda session: session._connection._prepared)
    assert prepared == set()
