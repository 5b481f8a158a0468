"""PostgreSQL against the oracle in `cardoon.testing`."""

from __future__ import annotations

import pytest

from cardoon.backends.postgres import PostgresBackend
from cardoon.brokers.postgres import PostgresBroker
from cardoon.postgres.database import Database
from cardoon.postgres.location import locate
from cardoon.testing import FakeClock
from cardoon.testing.copying import CopyingMachine
from cardoon.testing.model import BrokerMachine
from cardoon.testing.turns import TurnsMachine
from tests.contract.test_model import SETTINGS


class PostgresMachine(BrokerMachine):
    def make(self, clock):
        database = PostgresMachine.store.open(clock)
        return PostgresBroker(database), PostgresBackend(database)


class PostgresTurns(TurnsMachine):
    def make(self, clock):
        return PostgresBroker(PostgresTurns.store.open(clock))


class PostgresCopying(CopyingMachine):
    def make(self, clock):
        return PostgresBroker(PostgresCopying.store.open(clock))


class PostgresStore:
    """An empty store for each machine, and one connection for all: its plans are made once."""

    def __init__(self, store):
        self._store = store
        location = locate(store.url, setting="broker_url")
        self._database = OpenDatabase(location, clock=FakeClock(), timeout=30)

    def open(self, clock):
        self._store.empty()
        self._database.clock = clock
        return self._database

    def close(self):
        super(OpenDatabase, self._database).close()


class OpenDatabase(Database):
    """One that machines do not close."""

    def close(self):
        pass


@pytest.fixture(scope="module", autouse=True)
def machines(postgres):
    """Machines are made by Hypothesis, which knows no fixtures."""
    store = PostgresStore(postgres)
    PostgresMachine.store = PostgresTurns.store = PostgresCopying.store = store
    yield
    store.close()


TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = SETTINGS
TestPostgresTurns = PostgresTurns.TestCase
TestPostgresTurns.settings = SETTINGS
TestPostgresCopying = PostgresCopying.TestCase
TestPostgresCopying.settings = SETTINGS
