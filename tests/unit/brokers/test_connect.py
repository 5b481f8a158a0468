"""From a URL to a broker."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cardoon import brokers
from cardoon.broker import Accompanied
from cardoon.brokers.memory import MemoryBroker
from cardoon.brokers.rabbitmq import RabbitmqBroker
from cardoon.brokers.redis import RedisBroker
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.exceptions import ImproperlyConfigured
from cardoon.testing import FakeClock


@pytest.mark.parametrize("scheme", ["sqlite", "sqla+sqlite", "SQLite"])
def test_a_sqlite_url_names_a_file_which_is_not_made_before_it_is_needed(tmp_path, scheme):
    broker = brokers.connect(f"{scheme}:///{tmp_path}/x.db", clock=FakeClock(), timeout=3)

    assert isinstance(broker, SqliteBroker)
    assert broker.database.path == tmp_path / "x.db"
    assert broker.database.timeout == 3
    assert list(tmp_path.iterdir()) == []
    broker.close()


def test_a_memory_url_is_a_broker_within_the_process():
    assert isinstance(brokers.connect("memory://", clock=FakeClock()), MemoryBroker)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:7/3",
        "rediss://me:secret@127.0.0.1:7/3?ssl_ca_certs=ca.pem",
        "valkey://localhost:7/3",
        "valkeys://localhost:7/3",
        "redis+socket:///run/redis.sock?virtual_host=3",
    ],
)
def test_a_redis_url_names_servers_which_are_not_asked_before_it_is_needed(url):
    broker = brokers.connect(url, clock=FakeClock(), timeout=3)

    assert isinstance(broker, RedisBroker)
    assert [endpoint.path for endpoint in broker.store.endpoints] == ["3"]
    assert broker.store.timeout == 3
    broker.close()


def test_redis_without_its_library_says_what_to_install():
    code = (
        "import sys; sys.modules['hiredis'] = None\n"
        "from cardoon import brokers, clock\n"
        "brokers.connect('redis://localhost', clock=clock.SystemClock())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (
        "ImproperlyConfigured: broker_url: redis needs the redis library;"
        " pip install 'cardoon[redis]'" in done.stderr
    )


@pytest.mark.parametrize("url", ["amqp://localhost", "pyamqp://u:p@[::1]/v", "amqps://far.example"])
def test_an_amqp_url_needs_a_companion_and_opens_nothing(url):
    companion = MemoryBroker(clock=FakeClock())

    broker = brokers.connect(url, clock=FakeClock(), companion=companion)

    assert isinstance(broker, RabbitmqBroker)
    assert isinstance(broker, Accompanied)
    assert broker.companion is companion
    broker.close()
    with pytest.raises(TypeError, match="companion"):
        brokers.connect(url, clock=FakeClock())


def test_who_lacks_the_client_library_is_told_what_to_install():
    program = """
import sys
sys.modules["pika"] = None  # as if it were not installed
from cardoon import brokers, exceptions
from cardoon.clock import SystemClock
try:
    brokers.connect("amqp://localhost", clock=SystemClock())
except exceptions.ImproperlyConfigured as error:
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert told.stdout.strip() == ("broker_url: amqp needs pika; pip install 'cardoon[rabbitmq]'")


def test_what_can_do_less_is_no_companion():
    class Plain:
        """No broker at all."""

    with pytest.raises(ImproperlyConfigured, match="Plain, cannot stand beside RabbitMQ"):
        brokers.connect("amqp://localhost", clock=FakeClock(), companion=Plain())


def test_an_unknown_scheme_is_told_with_those_that_are_known():
    with pytest.raises(ImproperlyConfigured) as refused:
        brokers.connect("redi://me:secret@host", clock=FakeClock())

    assert str(refused.value) == (
        "broker_url: unknown scheme 'redi'; use sqlite, redis, amqp, postgresql"
    )


@pytest.mark.parametrize(
    "url", ["", "secret", "redis:secret@host", "me:secret@x://host", "/var/lib/secret.db"]
)
def test_what_is_no_url_is_not_repeated(url):
    with pytest.raises(ImproperlyConfigured, match="broker_url: not a URL") as refused:
        brokers.connect(url, clock=FakeClock())

    assert "secret" not in str(refused.value)


def test_without_its_library_a_postgres_url_says_what_to_install():
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from cardoon import brokers\n"
        "from cardoon.clock import SystemClock\n"
        "brokers.connect('postgresql://localhost/x', clock=SystemClock())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert "broker_url: postgresql needs psycopg; pip install 'cardoon[postgres]'" in done.stderr
