"""From a URL to a broker."""

from __future__ import annotations

import pytest

from cardoon import brokers
from cardoon.brokers.memory import MemoryBroker
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


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps", "pyamqp", "postgresql"])
def test_a_broker_without_a_driver_yet_is_told(scheme):
    with pytest.raises(ImproperlyConfigured, match="drivers for sqlite and memory only") as refused:
        brokers.connect(f"{scheme}://me:secret@host/0", clock=FakeClock())

    assert "secret" not in str(refused.value)


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
