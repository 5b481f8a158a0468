"""Every broker driver against the suite that ships in `cardoon.testing`."""

from __future__ import annotations

import pytest

from cardoon import backends, brokers
from cardoon.testing.brokers import BrokerSuite


class TestMemoryBroker(BrokerSuite):
    def make(self, clock):
        return brokers.connect("memory://", clock=clock)

    def make_backend(self, broker, clock):
        return backends.connect("memory://", clock=clock, beside=broker)


class TestSqliteBroker(BrokerSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.url = f"sqlite:///{tmp_path}/cardoon.db"

    def make(self, clock):
        return brokers.connect(self.url, clock=clock)

    def make_backend(self, broker, clock):
        return backends.connect(self.url, clock=clock, beside=broker)


class TestRedisBroker(BrokerSuite):
    @pytest.fixture(autouse=True)
    def place(self, redis_server):
        redis_server.ask("FLUSHALL")
        self.url = redis_server.url

    def make(self, clock):
        return brokers.connect(self.url, clock=clock)

    def make_backend(self, broker, clock):
        return backends.connect(self.url, clock=clock, beside=broker)


class TestRedisTlsBroker(TestRedisBroker):
    @pytest.fixture(autouse=True)
    def place(self, redis_tls_server):
        redis_tls_server.ask("FLUSHALL")
        self.url = redis_tls_server.url


class TestRedisClusterBroker(TestRedisBroker):
    @pytest.fixture(autouse=True)
    def place(self, redis_cluster):
        for node in redis_cluster.masters:
            node.ask("FLUSHALL")
        self.url = redis_cluster.url


class TestPostgresBroker(BrokerSuite):
    @pytest.fixture(autouse=True)
    def place(self, postgres):
        self.url = postgres.empty()

    def make(self, clock):
        return brokers.connect(self.url, clock=clock)

    def make_backend(self, broker, clock):
        return backends.connect(self.url, clock=clock, beside=broker)


class TestPostgresTlsBroker(TestPostgresBroker):
    @pytest.fixture(autouse=True)
    def place(self, postgres_tls):
        self.url = postgres_tls.empty()
