"""Which servers are taken, in what order, and what is said of them."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading

import pytest

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Kept, Outgoing, Quarantine
from cardoon.clock import SystemClock
from cardoon.endpoints import Access
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from tests.servers.ground import Authority, free_port, running
from tests.servers.redis import RedisSentinel, RedisServer


def connect(url, **options):
    return brokers.connect(url, clock=SystemClock(), **options)


def send(broker, *names):
    broker.publish([Outgoing("q", name, b"frame") for name in names], timeout=20)


def ids(broker):
    return [each.id for each in broker.receive(["q"], limit=100, lease=30, timeout=0)]


@contextlib.contextmanager
def pretending(*answers: bytes):
    """A server that gives these answers to whatever it is asked, on each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                with link:
                    for answer in answers:
                        if link.recv(65536):
                            link.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


def test_the_next_server_is_tried_when_one_is_gone(server):
    url = f"redis://127.0.0.1:{free_port()}/0;{server.url}"
    broker = connect(url)
    send(broker, "a")

    assert ids(broker) == ["a"]
    broker.close()


def test_a_socket_of_this_host_is_a_way_to_it(server):
    broker = connect(f"redis+socket://{server.socket}")
    send(broker, "a")

    assert ids(broker) == ["a"]
    broker.close()


def test_a_database_is_a_store_of_its_own(server):
    first, second = connect(server.url_of(database=0)), connect(server.url_of(database=5))
    send(first, "a")
    send(second, "b")

    assert (ids(first), ids(second)) == (["a"], ["b"])
    first.close()
    second.close()


def test_a_key_prefix_makes_a_deployment_of_its_own(server):
    first = connect(server.url)
    second = connect(server.url, transport={"global_keyprefix": "shop"})
    send(first, "a")
    send(second, "b")

    assert (ids(first), ids(second)) == (["a"], ["b"])
    names = second.store.ask_many([("KEYS", "*")])[0]
    assert all(name.startswith((b"{cardoon}:", b"{shop}:")) for name in names)
    first.close()
    second.close()


@pytest.mark.parametrize("prefix", ["", "a{b}", "a b", "é*", 5])
def test_a_key_prefix_is_a_plain_word(server, prefix):
    with pytest.raises(ImproperlyConfigured, match="global_keyprefix"):
        connect(server.url, transport={"global_keyprefix": prefix})


def test_a_result_backend_shares_the_store_of_the_same_url_only(server):
    broker = connect(server.url)
    same = backends.connect(server.url, clock=SystemClock(), beside=broker)
    other = backends.connect(server.url_of(database=3), clock=SystemClock(), beside=broker)
    send(broker, "a")
    [held] = broker.receive(["q"], limit=1, lease=30, timeout=0)
    broker.complete([Completion(Ack(held), SealedResult("a", b"r", final=True, expires_at=None))])

    assert set(same.load(["a"])) == {"a"}
    assert other.load(["a"]) == {}
    same.close()
    other.close()


def test_a_database_that_is_no_number_is_told():
    with pytest.raises(ImproperlyConfigured, match="is a number"):
        connect("redis://127.0.0.1/tasks")


def test_a_server_that_is_too_old_is_told():
    with pretending(bulk(b"# Server\r\nredis_version:6.2.14\r\n")) as url:
        broker = connect(url, timeout=5)

        with pytest.raises(ImproperlyConfigured, match=r"version 6\.2\.14; 7\.0 is the oldest"):
            broker.declare(["q"])
        broker.close()


def test_a_server_that_may_forget_is_warned_of_once(tmp_path, caplog):
    forgetful = ["maxmemory 100mb", "maxmemory-policy allkeys-lru"]
    server = RedisServer(tmp_path / "redis", append_only=False, settings=forgetful)
    with running(server), caplog.at_level(logging.WARNING, "cardoon"):
        broker = connect(server.url, access=Access(allow_eviction=True))
        send(broker, "a")
        broker.store.close()
        send(broker, "b")
        broker.close()

    said = [record.getMessage() for record in caplog.records]
    assert [text.count("appendonly off") for text in said] == [1, 0]
    assert "maxmemory-policy allkeys-lru" in said[1]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_deletes_what_it_was_given_is_refused(own_server, policy):
    own_server.ask("CONFIG", "SET", "maxmemory", "100mb")
    own_server.ask("CONFIG", "SET", "maxmemory-policy", policy)
    broker = connect(own_server.url)

    with pytest.raises(ImproperlyConfigured) as caught:
        send(broker, "a")
    broker.close()

    assert f"maxmemory-policy {policy}" in str(caught.value)
    assert "set maxmemory-policy noeviction there, or unsafe_allow_eviction=True" in str(
        caught.value
    )


def test_a_server_that_does_not_say_is_warned_of(own_server, caplog):
    own_server.ask("ACL", "SETUSER", "shy", "on", ">word", "~*", "&*", "+@all", "-info")
    broker = connect(own_server.url.replace("redis://", "redis://shy:word@"))
    with caplog.at_level(logging.WARNING, "cardoon"):
        send(broker, "a")
    broker.close()

    [record] = caplog.records
    assert "see to it that its maxmemory-policy is noeviction" in record.getMessage()


def test_a_sound_server_is_not_warned_of(server, caplog):
    with caplog.at_level(logging.WARNING, "cardoon"):
        broker = connect(server.url)
        send(broker, "a")
        broker.close()

    assert caplog.records == []


def test_a_full_server_says_so_and_lets_loans_end(own_server):
    broker = connect(own_server.url)
    send(broker, "a", "b")
    a, b = broker.receive(["q"], limit=2, lease=30, timeout=0)
    own_server.ask("CONFIG", "SET", "maxmemory", "1mb")

    with pytest.raises(OperationalError, match="has reached maxmemory; let workers catch up"):
        send(broker, "c")
    result = SealedResult("a", b"r", final=True, expires_at=None)
    assert broker.complete([Completion(Ack(a), result), Completion(Ack(b))]) == [True, True]
    broker.close()


def test_what_a_server_refuses_for_a_while_is_asked_again(server):
    answers = (b"-LOADING Redis is loading the dataset in memory\r\n",)
    with pretending(*answers) as url:
        broker = connect(f"{url};{server.url}", timeout=10)
        send(broker, "a")

        assert ids(broker) == ["a"]
        broker.close()


def test_a_password_is_in_no_error_and_no_repr(tmp_path):
    server = RedisServer(tmp_path / "redis", acl=["user worker on >hidden ~* &* +@all"])
    with running(server):
        wrong = connect(server.url_of(user="worker", password="mistaken"), timeout=3)
        with pytest.raises(OperationalError, match="user name or password are wrong") as refused:
            wrong.declare(["q"])
        right = connect(server.url_of(user="worker", password="hidden"))
        right.declare(["q"])

    assert "mistaken" not in str(refused.value)
    assert "hidden" not in repr(right) + repr(right.store) + repr(right.store.endpoints)
    wrong.close()
    right.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    server = RedisServer(tmp_path / "redis", tls=Authority(tmp_path / "authority"))
    stranger = Authority(tmp_path / "stranger")
    with running(server):
        url = server.url.replace(str(server.tls.file), str(stranger.file))
        broker = connect(url, timeout=1)
        with pytest.raises(OperationalError, match=r"(?i)certificate"):
            broker.declare(["q"])
        broker.close()


def test_a_send_may_wait_for_replicas(tmp_path):
    with running(RedisServer(tmp_path / "master")) as master:
        broker = connect(master.url, transport={"durability": 1})
        with pytest.raises(OperationalError, match="0 of 1 replicas"):
            broker.publish([Outgoing("q", "a", b"")], timeout=2)
        with running(RedisServer(tmp_path / "replica", replica_of=master.port)) as replica:
            send(broker, "b")
            assert b"frame" in replica.ask("GET", "{cardoon}:f:2")
        broker.close()


@pytest.mark.parametrize("durability", ["always", 0, -1, True, 1.5])
def test_a_durability_that_is_none_is_told(server, durability):
    with pytest.raises(ImproperlyConfigured, match="unknown durability"):
        connect(server.url, transport={"durability": durability})


def test_a_server_that_cannot_confirm_its_disk_is_told(server):
    version = server.ask("INFO", "server")
    broker = connect(server.url, transport={"durability": "fsync"})

    if b"redis_version:7.0" in version:
        with pytest.raises(OperationalError, match="WAITAOF"):
            send(broker, "a")
    else:
        send(broker, "a")
        assert ids(broker) == ["a"]
    broker.close()


@pytest.mark.slow
def test_a_failover_is_followed(tmp_path):
    with (
        running(RedisServer(tmp_path / "master")) as master,
        running(RedisServer(tmp_path / "replica", replica_of=master.port)) as replica,
    ):
        sentinel = RedisSentinel(tmp_path / "sentinel", master=master, name="shop")
        with running(sentinel):
            dead = f"sentinel://127.0.0.1:{free_port()}/0"
            broker = connect(
                f"{dead};{sentinel.url}",
                timeout=40,
                transport={"master_name": "shop", "durability": 1},
            )
            send(broker, "before")
            wait_for_replica(sentinel)
            master.kill()
            follower = connect(sentinel.url, timeout=40, transport={"master_name": "shop"})
            send(follower, "after")

            assert ids(follower) == ["before", "after"]
            assert b"role:master" in replica.ask("INFO", "replication")
            follower.close()
            broker.close()


def sentinel_says(sentinel, *words):
    with contextlib.closing(socket.create_connection(("127.0.0.1", sentinel.port))) as link:
        link.settimeout(5)
        packed = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        link.sendall(f"*{len(words)}\r\n{packed}".encode())
        return link.recv(1_000_000)


def wait_for_replica(sentinel):
    """A sentinel learns of replicas from its master, and promotes only what it knows."""
    while not sentinel_says(sentinel, "SENTINEL", "REPLICAS", sentinel.name).startswith(b"*1"):
        pass


def test_a_sentinel_needs_the_name_of_its_master(server):
    with pytest.raises(ImproperlyConfigured, match="master_name"):
        connect("sentinel://127.0.0.1:26379/0")


def test_a_sentinel_that_knows_no_such_master_is_told(tmp_path, server):
    sentinel = RedisSentinel(tmp_path / "sentinel", master=server, name="shop")
    with running(sentinel):
        broker = connect(sentinel.url, timeout=1, transport={"master_name": "other"})
        with pytest.raises(OperationalError, match="knows no master 'other'"):
            broker.declare(["q"])
        broker.close()


def test_plain_text_to_a_master_elsewhere_is_refused():
    answer = b"*2\r\n" + bulk(b"192.0.2.7") + bulk(b"6379")
    with pretending(answer) as url:
        broker = connect(
            url.replace("redis:", "sentinel:"), timeout=5, transport={"master_name": "x"}
        )
        with pytest.raises(ImproperlyConfigured, match=r"192\.0\.2\.7:6379, and plain text"):
            broker.declare(["q"])
        broker.close()


def test_messages_that_the_server_has_evicted_hold_up_no_others(server):
    broker = connect(server.url)
    send(broker, "a", "b", "c", "d")
    held = broker.receive(["q"], limit=1, lease=0.01, timeout=0)
    broker.store.ask_many([("DEL", "{cardoon}:m:1", "{cardoon}:m:2", "{cardoon}:f:3")])
    broker.extend(held, lease=0.0)

    taken = broker.receive(["q"], limit=9, lease=30, timeout=0)

    assert [(each.id, each.frame) for each in taken] == [("c", b""), ("d", b"frame")]
    assert broker.maintain() == 0
    broker.close()


ODD_FIELDS = {
    "id": b"\xff",
    "queue": b"\xff",
    "priority": b"high",
    "attempt": b"first",
    "crashes": b"none",
    "retries": b"\xff",
    "waits": b"3",
    "limit": b"\xff",
}


@pytest.mark.parametrize(("field", "value"), ODD_FIELDS.items())
def test_what_others_have_written_into_a_message_holds_up_no_others(server, field, value):
    broker = connect(server.url)
    send(broker, "a", "b")
    broker.store.ask_many([("HSET", "{cardoon}:m:1", field, value)])

    taken = broker.receive(["q"], limit=9, lease=30, timeout=0)

    assert len(taken) == 2
    assert {each.id for each in taken} > {"b"}
    assert all(type(each.crashes) is int and type(each.retries) is int for each in taken)
    assert all(broker.settle([Quarantine(each, "malformed", "") for each in taken]))
    assert len(broker.kept(Kept.QUARANTINE, limit=9)) == 2
    broker.close()


def test_a_key_of_another_type_holds_up_no_messages(server):
    broker = connect(server.url)
    send(broker, "a", "b", "c")
    commands = [("DEL", "{cardoon}:m:1", "{cardoon}:f:2")]
    commands += [("RPUSH", "{cardoon}:m:1", "junk"), ("RPUSH", "{cardoon}:f:2", "junk")]
    broker.store.ask_many(commands)

    taken = broker.receive(["q"], limit=9, lease=30, timeout=0)

    assert [(each.id, each.frame) for each in taken] == [("b", b""), ("c", b"frame")]
    broker.close()


def test_a_result_that_others_have_written_is_a_failure_of_the_store(server):
    backend = backends.connect(server.url, clock=SystemClock())
    backend.store([SealedResult("a", b"r", final=True, expires_at=None)])
    key = "{cardoon}:result:a"
    server.ask("SET", key, "1soon\nframe")

    with pytest.raises(OperationalError, match="has not written"):
        backend.load(["a"])
    backend.close()
