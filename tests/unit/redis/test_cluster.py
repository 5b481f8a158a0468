"""A cluster: whoever is asked says who has the keys, also when they move or their master dies."""

from __future__ import annotations

import threading

import pytest

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Outgoing
from cardoon.clock import SystemClock
from cardoon.endpoints import Access, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.redis.failures import ServerError
from cardoon.redis.finding import Finder
from tests.servers.ground import Authority, running
from tests.servers.redis import RedisCluster


def connect(url, **options):
    return brokers.connect(url, clock=SystemClock(), **options)


def message(name):
    return Outgoing("q", name, name.encode())


def receive(broker, limit=1000, timeout=0.0):
    return broker.receive(["q"], limit=limit, lease=30, timeout=timeout)


def work_off(broker):
    """Claim and end all that is there; the ids."""
    done = []
    while loans := receive(broker):
        broker.complete([Completion(Ack(one)) for one in loans])
        done += [one.id for one in loans]
    return done


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running(RedisCluster(tmp_path_factory.mktemp("cluster"))) as made:
        yield made


@pytest.fixture
def slot(cluster):
    """The slot of our keys, which are gone."""
    for node in cluster.masters:
        node.ask("FLUSHALL")
    return slot_of(cluster)


def slot_of(cluster):
    told = cluster.nodes[0].ask("CLUSTER", "KEYSLOT", "{cardoon}:last")
    return int(told[1:])


def others(cluster, slot):
    owner = cluster.owner_of(slot)
    return [node for node in cluster.masters if node is not owner]


def test_a_node_that_has_not_the_keys_says_who_has(cluster, slot):
    stranger, _ = others(cluster, slot)
    broker = connect(stranger.url)

    broker.publish([message("a")], timeout=5)

    assert work_off(broker) == ["a"]
    broker.close()


def test_who_waits_for_a_message_hears_of_it_through_any_node(cluster, slot):
    waits, sends = (connect(node.url) for node in others(cluster, slot))
    waits.declare(["q"])
    heard = []
    waiting = threading.Thread(target=lambda: heard.extend(receive(waits, timeout=20)))
    waiting.start()

    sends.publish([message("a")], timeout=5)

    waiting.join(10)
    assert [one.id for one in heard] == ["a"]
    waits.close()
    sends.close()


def test_who_waits_for_a_result_hears_of_it_through_any_node(cluster, slot):
    one, two = others(cluster, slot)
    reads = backends.connect(one.url, clock=SystemClock())
    writes = backends.connect(two.url, clock=SystemClock())
    found = []

    def wait():
        found.extend(reads.wait(["t"], timeout=20))

    waiting = threading.Thread(target=wait)
    waiting.start()
    writes.store([SealedResult("t", b"frame", True, SystemClock().now() + 60)])

    waiting.join(10)
    assert found
    reads.close()
    writes.close()


def test_a_slot_that_moves_loses_nothing_and_runs_nothing_in_half(cluster, slot):
    broker = connect(cluster.url)
    broker.publish([message(f"m{number}") for number in range(50)], timeout=5)
    to, _ = others(cluster, slot)
    cluster.begin_to_move(slot, to)
    assert cluster.move_keys(slot, to, most=20) == 20

    with pytest.raises(OperationalError, match="on its way"):
        broker.publish([message("meanwhile")], timeout=0.3)

    sent = threading.Thread(target=lambda: broker.publish([message("late")], timeout=20))
    sent.start()
    cluster.move_keys(slot, to)
    cluster.end_move(slot, to)
    sent.join(20)
    assert cluster.owner_of(slot) is to
    assert sorted(work_off(broker)) == sorted([*(f"m{number}" for number in range(50)), "late"])
    broker.close()


def test_a_replica_takes_over_while_messages_are_sent(tmp_path):
    with running(RedisCluster(tmp_path / "cluster", replicated=True)) as cluster:
        careful = connect(cluster.url, transport={"durability": "1"})
        broker = connect(cluster.url, timeout=30)
        master = cluster.owner_of(slot_of(cluster))
        sent = [f"m{number}" for number in range(100)]
        for name in sent[:50]:
            careful.publish([message(name)], timeout=5)

        master.kill()
        for name in sent[50:]:
            broker.publish([message(name)], timeout=30)

        assert sorted(work_off(broker)) == sorted(sent)
        broker.close()
        careful.close()


def test_over_tls_the_node_that_is_named_is_verified_as_well(tmp_path):
    authority = Authority(tmp_path / "authority")
    with running(RedisCluster(tmp_path / "cluster", tls=authority)) as cluster:
        stranger, _ = others(cluster, slot_of(cluster))
        broker = connect(stranger.url)

        broker.publish([message("a")], timeout=5)

        assert work_off(broker) == ["a"]
        broker.close()


class MovedError(ServerError):
    """What a node says; made without one."""

    def __init__(self, text):
        self.text, self.code = text, text.split()[0]
        Exception.__init__(self, text)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("MOVED 1 10.0.0.2:6380", ("10.0.0.2", 6380)),
        ("MOVED 1 [fd00::1]:6380", ("fd00::1", 6380)),
        ("MOVED 1 fd00::1:6380", ("fd00::1", 6380)),
        ("MOVED 1 :6380", ("", 6380)),
        ("MOVED 1 ?:6380", None),
        ("MOVED 1 10.0.0.2", None),
        ("MOVED 1 10.0.0.2:0", None),
        ("MOVED 1 10.0.0.2:65536", None),
        ("MOVED 1 10.0.0.2:" + 5000 * "9", None),
        ("MOVED 10.0.0.2:6380", None),
        ("ASK 1 10.0.0.2:6380", None),
    ],
)
def test_the_node_that_is_named_is_read(text, node):
    assert MovedError(text).moved_to == node


def test_plain_text_to_another_host_is_refused():
    access = Access()
    endpoints = parse_endpoints("redis://127.0.0.1:1/0", setting="broker_url", access=access)
    finder = Finder(endpoints, sentinel=None, access=access)

    with pytest.raises(ImproperlyConfigured, match=r"the cluster names 10\.0\.0\.2:6380"):
        finder.heed(MovedError("MOVED 1 10.0.0.2:6380"))
