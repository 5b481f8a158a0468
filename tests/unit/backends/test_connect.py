"""From a URL to a result backend, which shares the broker's store where it can."""

from __future__ import annotations

import pytest

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Outgoing
from cardoon.exceptions import ImproperlyConfigured
from cardoon.testing import FakeClock


def complete_one(broker, result):
    broker.publish([Outgoing("q", "a", b"x")], timeout=1)
    (delivery,) = broker.receive(["q"], limit=1, lease=30, timeout=0)
    broker.complete([Completion(Ack(delivery), result)])


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/x.db", "sqlite:///{}/other.db"])
def test_a_backend_beside_its_broker_has_the_results_of_completions(tmp_path, url):
    clock = FakeClock()
    broker = brokers.connect(url.format(tmp_path).replace("other", "x"), clock=clock)
    backend = backends.connect(url.format(tmp_path), clock=clock, beside=broker)
    result = SealedResult("a", b"x", True, None)

    complete_one(broker, result)

    assert dict(backend.load(["a"])) == ({} if "other" in url else {"a": result})
    broker.close()
    backend.close()


def test_two_names_of_one_file_share_its_connections(tmp_path):
    clock = FakeClock()
    (tmp_path / "link").symlink_to(tmp_path / "x.db")
    broker = brokers.connect(f"sqlite:///{tmp_path}/x.db", clock=clock)
    backend = backends.connect(f"sqlite:///{tmp_path}/link", clock=clock, beside=broker)
    broker.declare(["q"])

    backend.close()

    assert not (tmp_path / "x.db-wal").exists()
    broker.close()


def test_a_memory_backend_without_a_memory_broker_has_its_own_results(tmp_path):
    clock = FakeClock()
    broker = brokers.connect(f"sqlite:///{tmp_path}/x.db", clock=clock)
    one = backends.connect("memory://", clock=clock, beside=broker)
    other = backends.connect("cache+memory://", clock=clock)

    one.store([SealedResult("a", b"x", True, None)])

    assert set(one.load(["a"])) == {"a"}
    assert other.load(["a"]) == {}


@pytest.mark.parametrize("broker", ["memory://", "sqlite:///{}/x.db", None])
def test_results_go_over_rabbitmq_only_where_tasks_do(tmp_path, broker):
    clock = FakeClock()
    beside = None if broker is None else brokers.connect(broker.format(tmp_path), clock=clock)

    with pytest.raises(ImproperlyConfigured, match="rpc:// needs RabbitMQ as broker_url"):
        backends.connect("rpc://", clock=clock, beside=beside)


def test_results_go_over_the_server_of_the_tasks_and_no_other():
    clock = FakeClock()
    companion = brokers.connect("memory://", clock=clock)
    broker = brokers.connect("amqp://localhost:1", clock=clock, companion=companion)

    with pytest.raises(ImproperlyConfigured, match="rpc:// names no server") as refused:
        backends.connect("rpc://me:secret@host/0", clock=clock, beside=broker)

    assert "secret" not in str(refused.value)
    broker.close()


def test_an_unknown_scheme_is_told_with_those_that_are_known():
    with pytest.raises(ImproperlyConfigured, match="result_backend: unknown scheme 'redi'; use"):
        backends.connect("redi://host", clock=FakeClock())


def test_what_is_no_url_is_not_repeated():
    with pytest.raises(ImproperlyConfigured, match="result_backend: not a URL") as refused:
        backends.connect("redis:secret@host", clock=FakeClock())

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "db+postgresql"])
def test_a_postgres_url_is_a_database_which_is_not_opened_before_it_is_needed(scheme):
    url = f"{scheme}://me:secret@localhost/x"
    broker = brokers.connect("postgresql://me:secret@localhost/x", clock=FakeClock(), timeout=3)

    shared = backends.connect(url, clock=FakeClock(), beside=broker)
    own = backends.connect(f"{url}?schema=other", clock=FakeClock(), beside=broker)

    assert shared._database is broker.postgres
    assert own._database is not broker.postgres
    assert "secret" not in repr(broker.postgres.location)


def test_stores_of_two_kinds_stand_beside_each_other(tmp_path):
    sqlite, postgres = f"sqlite:///{tmp_path}/x.db", "postgresql://localhost/x"
    for one, other in ((sqlite, postgres), (postgres, sqlite)):
        broker = brokers.connect(one, clock=FakeClock())
        backends.connect(other, clock=FakeClock(), beside=broker).close()
        broker.close()
