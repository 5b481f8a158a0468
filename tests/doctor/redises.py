"""Two Redis servers: one as it is installed, and one as the documentation has it."""

from __future__ import annotations

import pytest

from cardoon.redis.access import commands
from tests.servers.ground import Authority, running
from tests.servers.redis import RedisServer

LONG = "a-password-of-some-length"


@pytest.fixture(scope="module")
def bad_redis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redis")
    settings = ["maxmemory-policy allkeys-lru"]
    with running(RedisServer(folder, append_only=False, settings=settings)) as server:
        yield server


@pytest.fixture(scope="module")
def good_redis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redis")
    rules = " ".join(commands("worker", username="worker")[3:])
    acl = [f"user worker >{LONG} {rules}"]
    authority = Authority(folder / "authority")
    with running(RedisServer(folder / "server", tls=authority, acl=acl)) as server:
        yield server
