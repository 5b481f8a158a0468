"""A server for the tests of this folder, and brokers on it."""

from __future__ import annotations

import pytest

from cardoon import backends, brokers
from cardoon.clock import SystemClock
from tests.servers.postgres import open_store, postgres

__all__ = ["postgres"]


@pytest.fixture(scope="module")
def durable():
    """A server that writes to the disk what it says is stored, for tests that kill it."""
    yield from open_store(durable=True)


@pytest.fixture
def url(postgres):
    return postgres.empty()


@pytest.fixture
def connect():
    """Brokers on any URL, as of as many processes; closed afterwards."""
    made = []

    def connect(url, *, timeout=10.0):
        broker = brokers.connect(url, clock=SystemClock(), timeout=timeout)
        made.append(broker)
        return broker

    yield connect
    for broker in made:
        broker.close()


@pytest.fixture
def broker(connect, url):
    return connect(url)


@pytest.fixture
def backend(broker, url):
    return backends.connect(url, clock=SystemClock(), beside=broker)
