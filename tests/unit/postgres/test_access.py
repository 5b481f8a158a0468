"""Each role does its work through the driver, and the server denies it the rest."""

from __future__ import annotations

import psycopg
import pytest

from cardoon import backends
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Kept, Outgoing, Subscription
from cardoon.clock import SystemClock
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.postgres.access import RIGHTS, commands
from cardoon.records import Record
from cardoon.security.replay import Nonce, NonceClaim, NonceState

LONG = 20.0
NEWS = Subscription("news", "news>a")
NONCE = Nonce(b"session of 16 by", 1, 9e9)


def message(name="a"):
    return Outgoing("q", name, name.encode())


@pytest.fixture(scope="module")
def roles(postgres):
    """A user of each role."""
    for role in RIGHTS:
        for statement in commands(role, username=f"a {role}"):
            postgres.ask(statement)
        postgres.ask(f"ALTER ROLE \"a {role}\" PASSWORD 'its own'")


@pytest.fixture
def of(roles, connect, postgres):
    """A broker, and its result backend, as a user of a role."""
    postgres.empty()

    def of(role):
        url = postgres.server.url_of(f"a {role}", "its own")
        broker = connect(url)
        return broker, backends.connect(url, clock=SystemClock(), beside=broker)

    return of


def denied(action, *arguments, **options):
    """Whether the server itself says no."""
    with pytest.raises(OperationalError, match="42501"):
        action(*arguments, **options)
    return True


def delivered(of):
    """A message on loan to a worker, for others to try their hands on."""
    broker, _ = of("worker")
    broker.publish([message()], timeout=LONG)
    [delivery] = broker.receive(["q"], limit=1, lease=60, timeout=0)
    return delivery


def test_a_worker_does_all_but_define(of, postgres):
    broker, backend = of("worker")
    broker.declare(["q"])
    broker.publish([message()], timeout=LONG)
    [delivery] = broker.receive(["q"], limit=9, lease=60, timeout=0)
    assert broker.adopt([message()], lease=60, durable=True) == [None]
    assert broker.extend([delivery], lease=60) == [delivery]
    claimed = broker.claim([NonceClaim(NONCE, delivery.receipt, delivery.attempt)])
    assert claimed == [NonceState.CLAIMED]
    result = SealedResult("a", b"x", True, None)
    assert broker.complete([Completion(Ack(delivery), result, (), NONCE)]) == [True]
    assert dict(backend.load(["a"])) == {"a": result}
    broker.maintain()
    broker.heard(0)
    broker.quarantine(queue="q", id="x", frame=b"", reason="r", detail="")
    [kept] = broker.kept(Kept.QUARANTINE, limit=9)
    assert broker.discard(Kept.QUARANTINE, [kept.number]) == 1

    with psycopg.connect(postgres.server.url_of("a worker", "its own"), autocommit=True) as raw:
        for statement in (
            "DELETE FROM cardoon.message",
            "SELECT * FROM cardoon.frame",
            "SELECT cardoon._delete(ARRAY[1])",
            "DROP FUNCTION cardoon.publish",
            "CREATE TABLE cardoon.mine (x integer)",
            "CREATE SCHEMA mine",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                raw.execute(statement)


def test_a_worker_subscribes_and_lets_queues_rest(of):
    broker, _ = of("worker")
    assert broker.subscribe([NEWS], seconds=60) == [False]
    broker.pause(["news"])

    assert [(each.subscribers, each.paused) for each in broker.depths()] == [(1, True)]

    broker.resume(["news"])
    assert broker.unsubscribe([NEWS]) == 0


def test_clients_and_beats_reach_subscribers_and_cannot_subscribe_or_pause(of):
    worker, _ = of("worker")
    worker.subscribe([NEWS], seconds=60)
    for role in ("client", "beat"):
        broker, _ = of(role)
        broker.publish([Outgoing("news", role, b"x", fanout=True)], timeout=LONG)

        assert denied(broker.subscribe, [NEWS], seconds=60)
        assert denied(broker.unsubscribe, [NEWS])
        assert denied(broker.pause, ["news"])
        assert denied(broker.resume, ["news"])

    found = worker.receive([NEWS.queue], limit=9, lease=60, timeout=0)
    assert [each.id for each in found] == ["client>news>a", "beat>news>a"]


def test_a_client_sends_waits_and_revokes(of):
    broker, backend = of("client")
    broker.declare(["q"])
    broker.publish([message()], timeout=LONG)
    broker.broadcast(b"revoke", expires_at=9e9)
    backend.store([SealedResult("group", b"x", True, None)])
    assert [each.task_id for each in backend.wait(["group"], timeout=LONG)] == ["group"]
    assert dict(broker.find(["a"])) == {"a": "ready"}
    broker.quarantine(queue="results", id="x", frame=b"", reason="r", detail="")
    backend.forget(["group"])
    assert backend.load(["group"]) == {}


def test_a_client_cannot_take_end_or_delete_what_others_sent(of):
    delivery = delivered(of)
    broker, _ = of("client")

    assert denied(broker.receive, ["q"], limit=1, lease=60, timeout=0)
    assert denied(broker.adopt, [message("b")], lease=60, durable=True)
    assert denied(broker.settle, [Ack(delivery)])
    assert denied(broker.extend, [delivery], lease=60)
    assert denied(broker.purge, "q")
    assert denied(broker.discard, Kept.QUARANTINE, None)
    assert denied(broker.restore, Kept.QUARANTINE, [1])
    assert denied(broker.kept, Kept.QUARANTINE, limit=1)
    assert denied(broker.maintain)
    assert denied(broker.begin_anew)
    assert denied(broker.thin_out, "malformed", messages=0, bytes=0)


def test_a_client_cannot_write_replay_marks(of):
    delivery = delivered(of)
    broker, _ = of("client")

    assert denied(broker.finish, [NONCE])
    assert denied(broker.claim, [NonceClaim(NONCE, delivery.receipt, delivery.attempt)])


def test_a_beat_sends_and_reads_no_result(of):
    broker, backend = of("beat")
    broker.publish([message()], timeout=LONG)

    assert denied(backend.load, ["a"])
    assert denied(backend.store, [SealedResult("a", b"x", True, None)])
    assert denied(broker.broadcast, b"x", expires_at=9e9)
    assert denied(broker.receive, ["q"], limit=1, lease=60, timeout=0)


def test_a_monitor_reads_and_changes_nothing(of):
    delivered(of)
    broker, backend = of("monitor")

    assert [depth.leased for depth in broker.depths()] == [1]
    assert list(broker.limits(limit=9)) == []
    assert list(broker.kept(Kept.DEAD_LETTER, limit=9)) == []
    assert dict(broker.find(["a"])) == {"a": "leased"}
    assert (broker.trace("a").place, broker.trace("b")) == ("leased", None)
    assert list(broker.were_done([Nonce(b"x" * 16, 1, 9e9)])) == [False]
    assert backend.load(["a"]) == {}
    assert denied(broker.publish, [message("b")], timeout=LONG)
    assert denied(broker.declare, ["q"])
    assert denied(broker.subscribe, [NEWS], seconds=60)
    assert denied(broker.pause, ["q"])
    assert denied(broker.purge, "q")
    assert denied(backend.forget, ["a"])
    assert denied(broker.broadcast, b"x", expires_at=9e9)
    assert denied(broker.quarantine, queue="q", id="x", frame=b"", reason="r", detail="")


def test_each_role_posts_and_reads_what_it_needs(of):
    client, worker, beat, monitor = (
        of(role)[0] for role in ("client", "worker", "beat", "monitor")
    )
    for broker in (client, worker, beat):
        broker.post("events", [b"told"], expires_at=9e9, keep=10)
    worker.post("reply.0f", [b"answer"], expires_at=9e9, keep=10)

    for broker in (client, monitor):
        assert len(broker.posted("events", 0, limit=9, timeout=0)) == 3
        assert broker.posted("events", 3, limit=9, timeout=0.05) == []
        assert broker.posted("reply.0f", 0, limit=9, timeout=0) == [(1, b"answer")]
        assert broker.position("events") == 3
    assert denied(client.post, "reply.0f", [b"forged"], expires_at=9e9, keep=10)
    assert denied(beat.post, "reply.0f", [b"forged"], expires_at=9e9, keep=10)
    assert denied(beat.posted, "reply.0f", 0, limit=9, timeout=0)
    assert denied(monitor.post, "events", [b"forged"], expires_at=9e9, keep=10)


def test_beats_and_workers_write_records_and_others_read_them(of):
    client, worker, beat, monitor = (
        of(role)[0] for role in ("client", "worker", "beat", "monitor")
    )
    assert beat.put_record("tick", "a", b"one", revision=0)
    assert worker.put_record("tick", "a", b"two", revision=1)

    for broker in (client, worker, beat, monitor):
        assert dict(broker.records("tick")) == {"a": Record(2, b"two")}
    for broker in (client, monitor):
        assert denied(broker.put_record, "tick", "a", b"forged", revision=2)
        assert denied(broker.put_record, "schedule", "b", b"forged", revision=0)
        assert denied(broker.drop_record, "tick", "a", revision=2)
    assert beat.drop_record("tick", "a", revision=2)


def test_a_user_without_a_role_gets_nowhere(of, postgres, connect):
    of("client")
    postgres.ask("DROP ROLE IF EXISTS stranger")
    postgres.ask("CREATE ROLE stranger LOGIN PASSWORD 'x'")

    assert denied(connect(postgres.server.url_of("stranger", "x")).depths)


def test_names_are_quoted_and_unknown_roles_refused():
    assert commands("beat", username='o"brien')[0].startswith('CREATE ROLE "o""brien" LOGIN')
    with pytest.raises(ImproperlyConfigured, match="unknown 'boss'"):
        commands("boss", username="x")
    with pytest.raises(ImproperlyConfigured, match="username"):
        commands("beat", username="x" * 64)
    with pytest.raises(ImproperlyConfigured, match="schema"):
        commands("beat", username="x", schema="public")
