"""Every result backend driver against the suite that ships in `cardoon.testing`."""

from __future__ import annotations

import pytest

from cardoon import backends
from cardoon.testing.backends import BackendSuite


class TestMemoryBackend(BackendSuite):
    def make(self, clock):
        return backends.connect("memory://", clock=clock)


class TestSqliteBackend(BackendSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.url = f"sqlite:///{tmp_path}/cardoon.db"

    def make(self, clock):
        return backends.connect(self.url, clock=clock)


class TestRedisBackend(BackendSuite):
    @pytest.fixture(autouse=True)
    def place(self, redis_server):
        redis_server.ask("FLUSHALL")
        self.url = redis_server.url

    def make(self, clock):
        return backends.connect(self.url, clock=clock)


class TestRedisTlsBackend(TestRedisBackend):
    @pytest.fixture(autouse=True)
    def place(self, redis_tls_server):
        redis_tls_server.ask("FLUSHALL")
        self.url = redis_tls_server.url


class TestPostgresBackend(BackendSuite):
    @pytest.fixture(autouse=True)
    def place(self, postgres):
        self.url = postgres.empty()

    def make(self, clock):
        return backends.connect(self.url, clock=clock)
