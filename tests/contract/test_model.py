"""The drivers with all optional powers against the oracle in `cardoon.testing`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings

from cardoon import backends, brokers
from cardoon.backends.sqlite import SqliteBackend
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.sqlite.database import Database
from cardoon.testing.copying import CopyingMachine
from cardoon.testing.model import BrokerMachine
from cardoon.testing.turns import TurnsMachine
from tests.contract.conftest import THOROUGH
from tests.servers.redis import RedisServer

SETTINGS = settings(
    max_examples=100 if THOROUGH else 40, stateful_step_count=50, deadline=None, derandomize=True
)


class MemoryMachine(BrokerMachine):
    def make(self, clock):
        broker = brokers.connect("memory://", clock=clock)
        return broker, backends.connect("memory://", clock=clock, beside=broker)


class InAFile:
    """Each machine has its own file; whether it reaches the disk is tested elsewhere."""

    def database(self, clock):
        self.place = Path(tempfile.mkdtemp(prefix="cardoon-"))
        return Database(self.place / "model.db", clock=clock, flush=lambda _: None)

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.place)


class SqliteMachine(InAFile, BrokerMachine):
    def make(self, clock):
        database = self.database(clock)
        return SqliteBroker(database), SqliteBackend(database)


class MemoryTurns(TurnsMachine):
    def make(self, clock):
        return brokers.connect("memory://", clock=clock)


class SqliteTurns(InAFile, TurnsMachine):
    def make(self, clock):
        return SqliteBroker(self.database(clock))


class MemoryCopying(CopyingMachine):
    def make(self, clock):
        return brokers.connect("memory://", clock=clock)


class SqliteCopying(InAFile, CopyingMachine):
    def make(self, clock):
        return SqliteBroker(self.database(clock))


@pytest.fixture(scope="module", autouse=True)
def place(redis_server):
    """Machines are made by Hypothesis, which knows no fixtures."""
    RedisMachine.server = RedisTurns.server = RedisCopying.server = redis_server


class RedisMachine(BrokerMachine):
    server: ClassVar[RedisServer]

    def make(self, clock):
        self.server.ask("FLUSHALL")
        broker = brokers.connect(self.server.url, clock=clock)
        return broker, backends.connect(self.server.url, clock=clock, beside=broker)


class RedisTurns(TurnsMachine):
    server: ClassVar[RedisServer]

    def make(self, clock):
        self.server.ask("FLUSHALL")
        return brokers.connect(self.server.url, clock=clock)


class RedisCopying(CopyingMachine):
    server: ClassVar[RedisServer]

    def make(self, clock):
        self.server.ask("FLUSHALL")
        return brokers.connect(self.server.url, clock=clock)


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = SETTINGS
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = SETTINGS
TestMemoryTurns = MemoryTurns.TestCase
TestMemoryTurns.settings = SETTINGS
TestSqliteTurns = SqliteTurns.TestCase
TestSqliteTurns.settings = SETTINGS
TestMemoryCopying = MemoryCopying.TestCase
TestMemoryCopying.settings = SETTINGS
TestSqliteCopying = SqliteCopying.TestCase
TestSqliteCopying.settings = SETTINGS
TestRedisMachine = RedisMachine.TestCase
TestRedisMachine.settings = SETTINGS
TestRedisTurns = RedisTurns.TestCase
TestRedisTurns.settings = SETTINGS
TestRedisCopying = RedisCopying.TestCase
TestRedisCopying.settings = SETTINGS
