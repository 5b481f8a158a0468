"""Since when a server remembers what was carried out, whoever comes first, and what becomes of its marks."""

from __future__ import annotations

import pytest

from cardoon import brokers
from cardoon.broker import Kept, Outgoing, Unique
from cardoon.clock import SystemClock
from cardoon.redis.access import commands
from cardoon.security.replay import Nonce, NonceClaim, NonceState
from cardoon.testing import FakeClock

HOUR = 3600.0


@pytest.fixture
def connect(server):
    """Brokers of as many processes, on one clock if they are given one."""
    made = []

    def connect(user="", clock=None):
        url = server.url.replace("redis://", f"redis://{user}:word@") if user else server.url
        made.append(brokers.connect(url, clock=clock or SystemClock()))
        return made[-1]

    yield connect
    for broker in made:
        broker.close()


def ask(broker, signed_by):
    """What a claim of a message is told that was signed at that time."""
    broker.publish([Outgoing("q", "asked", b"x")], timeout=5)
    [held] = broker.receive(["q"], limit=1, lease=30, timeout=0)
    nonce = Nonce(b"session of 16 by", 1, 9e9, signed_by)
    return broker.claim([NonceClaim(nonce, held.receipt, held.attempt)])


@pytest.mark.parametrize("unique", [None, Unique("key")])
def test_the_first_message_begins_the_epoch_long_before_a_worker_comes(connect, unique):
    clock = FakeClock()
    sent_at = clock.now()
    connect(clock=clock).publish([Outgoing("other", "first", b"x", unique=unique)], timeout=5)
    clock.advance(HOUR)

    worker = connect(clock=clock)

    assert worker.memory() == (sent_at, 1)
    assert ask(worker, sent_at) == [NonceState.CLAIMED]


@pytest.mark.parametrize(
    "loss", [("FLUSHALL",), ("DEL", "{cardoon}:epoch"), ("SET", "{cardoon}:epoch", "soon")]
)
def test_a_server_that_was_emptied_remembers_anew(server, connect, loss):
    clock = FakeClock()
    worker = connect(clock=clock)
    ran_at = worker.memory().since
    worker.finish([Nonce(b"another session!", 1, 9e9)])
    clock.advance(HOUR)

    server.ask(*loss)

    assert ask(worker, ran_at) == [NonceState.BEFORE_EPOCH]
    assert worker.memory().since == clock.now()


def test_a_client_with_no_right_to_it_sends_all_the_same(server, connect):
    rules = commands("client", username="client")
    server.ask(*rules, ">word")
    client = connect("client")

    client.publish([Outgoing("q", "first", b"x")], timeout=5)

    worker = connect()
    assert worker.store.ask_many([("EXISTS", "{cardoon}:epoch")]) == [0]
    since = worker.memory().since
    assert client.memory().since == since
    server.ask("ACL", "DELUSER", "client")


def test_marks_of_sessions_that_are_over_leave_the_server(server, connect):
    clock = FakeClock()
    worker = connect(clock=clock)
    for session in range(100):
        nonces = [Nonce(session.to_bytes(16), n, clock.now() + 50) for n in range(0, 8192, 64)]
        worker.finish(nonces)

    [names] = worker.store.ask_many([("KEYS", "*seen:*")])
    sizes = worker.store.ask_many([("STRLEN", name) for name in names])
    lives = worker.store.ask_many([("PTTL", name) for name in names])

    # A bit for each message of a session, until a minute after the last of them is over.
    assert len(names) == 100
    assert max(sizes) <= 8192 // 8
    assert all(0 < life <= (50 + 60) * 1000 for life in lives)


def test_a_mark_that_is_over_is_not_made_again_for_ever(server, connect):
    """Nor is one that a message put back takes along."""
    worker = connect()
    server.ask("SET", "{cardoon}:epoch", "0")
    worker.quarantine(queue="q", id="x", frame=b"x", reason="denied", detail="")
    [kept] = worker.kept(Kept.QUARANTINE, limit=1)
    key = f"{{cardoon}}:kept:{kept.number}"
    server.ask("HSET", key, "session", "s" * 16, "sequence", "7")

    assert worker.restore(Kept.QUARANTINE, [kept.number]) == 1

    marks = ("{cardoon}:" + kind + ":" + "s" * 16 for kind in ("seen", "held"))
    assert worker.store.ask_many([("EXISTS", *marks)]) == [0]
