"""Each role does its work, and the server denies it the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.broker import (
    Ack,
    Completion,
    DeadLetter,
    Kept,
    Limit,
    Outcome,
    Outgoing,
    Predecessor,
    Subscription,
    Trigger,
    Unique,
)
from cardoon.clock import SystemClock
from cardoon.exceptions import OperationalError
from cardoon.records import Record
from cardoon.redis.access import commands
from cardoon.security.replay import Nonce, NonceClaim, NonceState
from tests.servers.ground import running
from tests.servers.redis import RedisServer

ROOT = Path(__file__).parents[3]
ROLES = ("client", "worker", "beat", "monitor")
FAR = 4e9
NEWS = Subscription("news", "news>w")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    rules = [f"user {role} >secret {' '.join(commands(role, username=role)[3:])}" for role in ROLES]
    with running(RedisServer(tmp_path_factory.mktemp("acl"), acl=rules)) as server:
        yield server


@pytest.fixture
def login(guarded):
    """Log in as a role; returns the broker and the result backend of that user."""
    guarded.ask("FLUSHALL")
    opened = []

    def log_in(role):
        url = guarded.url_of(user=role, password="secret")
        broker = brokers.connect(url, clock=SystemClock(), timeout=5)
        backend = backends.connect(url, clock=SystemClock(), beside=broker, timeout=5)
        opened.extend((broker, backend))
        return broker, backend

    yield log_in
    for each in opened:
        each.close()


def message(name, **options):
    return Outgoing("q", name, name.encode(), **options)


ALONE = [message("alone"), message("alone and later", run_at=FAR)]
"""What is sent by a script of its own."""


def everything():
    """A message of each kind."""
    after = (Predecessor("plain", b"x" * 32),)
    return [
        message("plain"),
        message("later", run_at=FAR),
        message("only", unique=Unique("u", 60)),
        message("slow", limit=Limit("k", 1, 0.01)),
        message("waits", after=after),
        message("errback", after=after, trigger=Trigger.FAILURE),
    ]


def test_a_client_sends_revokes_and_reads_results(login):
    client, results = login("client")
    worker, _ = login("worker")
    client.declare(["q"])
    client.publish(everything(), timeout=5)
    client.publish(ALONE, timeout=5)
    client.broadcast(b"revoked", expires_at=FAR)
    [plain, *_] = worker.receive(["q"], limit=1, lease=30, timeout=0)
    result = SealedResult("plain", b"done", final=True, expires_at=FAR)
    worker.complete([Completion(Ack(plain), result, outcome=Outcome(b"done", succeeded=True))])

    assert dict(results.load(["plain"])) == {"plain": result}
    assert list(results.wait(["plain"], timeout=5)) == [result]
    assert set(client.find(["later", "only", "slow", "waits", "errback"])) == {
        "later", "only", "slow", "waits",
    }  # fmt: skip
    assert [frame for _, frame in worker.heard(0)] == [b"revoked"]


@pytest.mark.parametrize("role", ["client", "beat", "worker"])
def test_who_sends_sends_to_every_subscriber(login, role):
    sender, _ = login(role)
    worker, _ = login("worker")
    assert worker.subscribe([NEWS], seconds=60) == [False]

    sender.publish([Outgoing("news", "a", b"x", fanout=True)], timeout=5)

    [copy] = worker.receive([NEWS.queue], limit=5, lease=30, timeout=0)
    assert worker.complete([Completion(Ack(copy))]) == [True]


@pytest.mark.parametrize("role", ["client", "beat", "monitor"])
def test_only_workers_subscribe_and_let_queues_rest(login, role):
    other, _ = login(role)
    worker, _ = login("worker")
    worker.subscribe([NEWS], seconds=60)

    for forbidden in (
        lambda: other.subscribe([Subscription("news", "news>x")], seconds=60),
        lambda: other.unsubscribe([NEWS]),
        lambda: other.pause(["q"]),
        lambda: other.resume(["q"]),
    ):
        with pytest.raises(OperationalError, match="NOPERM"):
            forbidden()

    [news] = worker.depths()
    assert (news.subscribers, news.paused) == (1, False)


def test_a_worker_subscribes_and_lets_queues_rest(login):
    worker, _ = login("worker")
    worker.subscribe([NEWS], seconds=60)
    worker.pause(["news"])
    worker.publish([Outgoing("news", "a", b"x", fanout=True)], timeout=5)

    assert worker.receive([NEWS.queue], limit=5, lease=30, timeout=0) == []

    worker.resume(["news"])
    worker.maintain()
    assert worker.unsubscribe([NEWS]) == 1


def test_a_client_that_sends_an_errback_too_late_may_drop_it(login):
    client, _ = login("client")
    worker, _ = login("worker")
    client.publish([message("a"), message("b"), message("waits", after=(Predecessor("a", b""),))], timeout=5)  # fmt: skip
    a, _ = worker.receive(["q"], limit=2, lease=30, timeout=0)
    worker.complete([Completion(Ack(a), outcome=Outcome(b"done", succeeded=True))])

    late = message("late", after=(Predecessor("a", b""),), trigger=Trigger.FAILURE)
    client.publish([late], timeout=5)

    assert client.find(["late"]) == {}


def test_a_client_neither_works_nor_marks_nor_forges(login):
    client, results = login("client")
    worker, _ = login("worker")
    client.publish([message("a"), message("b")], timeout=5)
    [held] = worker.receive(["q"], limit=1, lease=30, timeout=0)
    nonce = Nonce(bytes(16), 1, FAR)

    for forbidden in (
        lambda: client.receive(["q"], limit=1, lease=30, timeout=0),
        lambda: client.adopt([message("mine")], lease=30, durable=False),
        lambda: client.extend([held], lease=99),
        lambda: client.settle([DeadLetter(held, "mine")]),
        lambda: client.finish([nonce]),
        lambda: client.claim([NonceClaim(nonce, held.receipt, held.attempt)]),
        client.begin_anew,
        lambda: client.discard(Kept.DEAD_LETTER, None),
        lambda: client.quarantine(queue="q", id="x", frame=b"", reason="", detail=""),
        lambda: results.store([SealedResult("a", b"forged", final=True, expires_at=None)]),
        lambda: results.forget(["a"]),
    ):
        with pytest.raises(OperationalError, match="NOPERM"):
            forbidden()


def test_what_a_client_is_denied_with_plain_commands(guarded, login):
    client, _ = login("client")

    for words in (
        ("SETBIT", "{cardoon}:seen:x", 1, 1),
        ("DEL", "{cardoon}:seen:x"),
        ("SET", "{cardoon}:epoch", "0"),
        ("DEL", "{cardoon}:epoch"),
        ("ZREM", "{cardoon}:leased:q", 1),
        ("SET", "{cardoon}:result:x", "forged"),
        ("ZADD", "{cardoon}:subscribers:news", 4e9, "mine"),
        ("SADD", "{cardoon}:paused", "q"),
        ("XADD", "{cardoon}:posts:reply.0f", "9-0", "f", "forged"),
        ("DEL", "{cardoon}:posts:reply.0f"),
        ("HSET", "{cardoon}:records:schedule", "a", "1 0f\nforged"),
        ("HDEL", "{cardoon}:records:tick", "a"),
        ("SET", "elsewhere", "x"),
        ("GET", "elsewhere"),
        ("SUBSCRIBE", "elsewhere"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
    ):
        with pytest.raises(OperationalError, match="NOPERM"):
            client.store.ask_many([words])


def test_a_worker_does_all_that_workers_do(login):
    worker, results = login("worker")
    worker.publish(everything(), timeout=5)
    held = worker.receive(["q"], limit=10, lease=30, timeout=0)
    nonces = [Nonce(bytes(16), number, FAR) for number in range(len(held))]
    claims = [NonceClaim(n, d.receipt, d.attempt) for n, d in zip(nonces, held, strict=True)]

    assert set(worker.claim(claims)) == {NonceState.CLAIMED}
    assert list(worker.extend(held, lease=30)) == list(held)
    assert worker.adopt([message("plain")], lease=30, durable=True) == [None]
    worker.maintain()
    completions = [Completion(DeadLetter(held[0], "odd"), nonce=nonces[0])]
    completions += [
        Completion(Ack(d), SealedResult(d.id, b"r", final=True, expires_at=FAR), nonce=n)
        for d, n in zip(held[1:], nonces[1:], strict=True)
    ]
    assert all(worker.complete(completions))
    [kept] = worker.kept(Kept.DEAD_LETTER, limit=5)
    assert worker.restore(Kept.DEAD_LETTER, [kept.number]) == 1
    assert worker.receive(["q"], limit=5, lease=30, timeout=0.05)
    assert worker.receive(["q"], limit=5, lease=30, timeout=0.05) == []
    assert worker.purge("q") == 3
    worker.finish([Nonce(bytes(16), 99, FAR)])
    worker.quarantine(queue="q", id="x", frame=b"", reason="odd", detail="")
    assert worker.discard(Kept.QUARANTINE, None) == 1
    results.store([SealedResult("state", b"half", final=False, expires_at=None)])
    results.forget(["state"])


def test_beat_only_sends(login):
    beat, results = login("beat")
    beat.publish(everything(), timeout=5)
    beat.publish(ALONE, timeout=5)

    for forbidden in (
        lambda: beat.receive(["q"], limit=1, lease=30, timeout=0),
        lambda: beat.broadcast(b"x", expires_at=FAR),
        lambda: results.load(["plain"]),
    ):
        with pytest.raises(OperationalError, match="NOPERM"):
            forbidden()


def test_a_monitor_only_reads(login):
    client, _ = login("client")
    monitor, results = login("monitor")
    client.publish(everything(), timeout=5)
    worker, _ = login("worker")
    worker.subscribe([NEWS], seconds=60)
    worker.pause(["q"])

    news, depth = monitor.depths()
    assert (news.queue, news.subscribers, depth.paused) == ("news", 1, True)
    assert (depth.ready, depth.scheduled, depth.dormant) == (3, 1, 2)
    assert list(monitor.limits(limit=5)) == []
    assert monitor.kept(Kept.QUARANTINE, limit=5) == []
    assert set(monitor.find(["plain"])) == {"plain"}
    assert monitor.heard(0) == []
    assert [monitor.trace(name).place for name in ("plain", "later", "slow", "waits")] == [
        *("ready", "scheduled", "ready", "dormant"),
    ]
    assert monitor.were_done([Nonce(b"x" * 16, 1, FAR)]) == [False]
    assert results.load(["plain"]) == {}
    for forbidden in (
        lambda: monitor.declare(["r"]),
        lambda: monitor.publish([message("x")], timeout=5),
        lambda: monitor.purge("q"),
        lambda: monitor.receive(["q"], limit=1, lease=30, timeout=0),
        monitor.maintain,
    ):
        with pytest.raises(OperationalError, match="NOPERM"):
            forbidden()


def test_each_role_posts_and_reads_what_it_needs(login):
    client, worker, beat, monitor = (login(role)[0] for role in ROLES)
    for broker in (client, worker, beat):
        broker.post("events", [b"told"], expires_at=FAR, keep=10)
    worker.post("reply.0f", [b"answer"], expires_at=FAR, keep=10)

    for broker in (client, monitor):
        assert len(broker.posted("events", 0, limit=9, timeout=0)) == 3
        assert broker.posted("events", 3, limit=9, timeout=0.05) == []
        assert broker.posted("reply.0f", 0, limit=9, timeout=0) == [(1, b"answer")]
        assert broker.position("events") == 3
    for forbidden in (
        lambda: client.post("reply.0f", [b"forged"], expires_at=FAR, keep=10),
        lambda: beat.post("reply.0f", [b"forged"], expires_at=FAR, keep=10),
        lambda: beat.posted("reply.0f", 0, limit=9, timeout=0),
        lambda: monitor.post("events", [b"forged"], expires_at=FAR, keep=10),
    ):
        with pytest.raises(OperationalError, match="NOPERM"):
            forbidden()


def test_beats_and_workers_write_records_and_others_read_them(login):
    client, worker, beat, monitor = (login(role)[0] for role in ROLES)
    assert beat.put_record("tick", "a", b"one", revision=0)
    assert worker.put_record("tick", "a", b"two", revision=1)

    for broker in (client, worker, beat, monitor):
        assert dict(broker.records("tick")) == {"a": Record(2, b"two")}
    for broker in (client, monitor):
        for forbidden in (
            lambda broker=broker: broker.put_record("tick", "a", b"forged", revision=2),
            lambda broker=broker: broker.put_record("schedule", "b", b"forged", revision=0),
            lambda broker=broker: broker.drop_record("tick", "a", revision=2),
        ):
            with pytest.raises(OperationalError, match="NOPERM"):
                forbidden()
    assert beat.drop_record("tick", "a", revision=2)


def test_a_denial_says_what_to_look_at_and_no_secret(login):
    _, results = login("beat")

    with pytest.raises(OperationalError, match=r"cardoon\.redis\.access") as denied:
        results.load(["a"])

    assert "secret" not in str(denied.value)


@pytest.mark.parametrize("role", ROLES)
def test_the_rules_that_are_shipped_are_these(role):
    shipped = (ROOT / "deploy" / "redis" / "users.acl").read_text("utf-8").splitlines()
    [line] = [line for line in shipped if line.startswith(f"user {role} ")]

    assert line.split()[3:] == commands(role, username=role)[3:]


def test_rules_go_by_the_key_prefix():
    rules = commands("worker", prefix="shop", username="w")

    assert rules[:3] == ["ACL", "SETUSER", "w"]
    assert "~{shop}:*" in rules
    assert not any("cardoon" in rule for rule in rules)


@pytest.mark.parametrize("role", ["client", "beat"])
def test_on_a_new_server_a_sender_that_comes_first_sends_and_begins_no_epoch(login, role):
    sender, _ = login(role)
    worker, _ = login("worker")

    sender.publish([message("a"), message("b")], timeout=5)
    with pytest.raises(OperationalError, match="NOPERM"):
        sender.memory()

    # So it begins with the worker: what was signed before, but for the skew, may have run for all it knows.
    now = SystemClock().now()
    assert now - 5 < worker.memory().since < now + 5
    held = worker.receive(["q"], limit=2, lease=30, timeout=0)
    fresh, old = (
        NonceClaim(Nonce(bytes(16), number, FAR, signed_by), one.receipt, one.attempt)
        for number, (one, signed_by) in enumerate(zip(held, (now + 61, now - 60), strict=True))
    )
    assert worker.claim([fresh, old]) == [NonceState.CLAIMED, NonceState.BEFORE_EPOCH]


def test_a_sender_may_come_first_where_a_worker_has_looked_before(login):
    client, _ = login("client")
    worker, _ = login("worker")
    since = worker.memory().since  # `cardoon replay show`

    client.publish([message("a")], timeout=5)

    assert client.memory() == worker.memory()
    assert worker.memory().since == since
