from __future__ import annotations

import pytest

from tests.servers.ground import running
from tests.servers.redis import RedisServer


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def server(shared_server):
    """A server with nothing in it, which others use afterwards."""
    shared_server.ask("FLUSHALL")
    return shared_server


@pytest.fixture
def own_server(tmp_path):
    """A server that may be killed."""
    with running(RedisServer(tmp_path / "redis")) as server:
        yield server
