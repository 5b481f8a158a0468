"""After the tests, a table: which driver passed the suites, and how many of their tests."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.servers.ground import Authority, running
from tests.servers.postgres import postgres, postgres_tls
from tests.servers.redis import RedisCluster, RedisServer

__all__ = ["postgres", "postgres_tls"]

_DRIVER = re.compile(r"::Test([A-Za-z]+?)(Tls)?(Broker|Backend|Machine|Turns|Copying)::")
_OUTCOMES = ("passed", "failed", "error", "skipped")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A Redis server without TLS."""
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture(scope="session")
def redis_tls_server(tmp_path_factory):
    """A Redis server that asks clients for a certificate."""
    folder = tmp_path_factory.mktemp("redis-tls")
    with running(RedisServer(folder, tls=Authority(folder / "authority"))) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory):
    """Three masters, any of which may be asked."""
    with running(RedisCluster(tmp_path_factory.mktemp("redis-cluster"))) as cluster:
        yield cluster


def pytest_terminal_summary(terminalreporter) -> None:
    counts: dict[str, Counter[str]] = {}
    for outcome in _OUTCOMES:
        for report in terminalreporter.stats.get(outcome, []):
            found = _DRIVER.search(report.nodeid)
            if found and "tests/contract/" in report.nodeid:
                name, tls, what = found.groups()
                row = f"{name}{'+TLS' if tls else ''} {what.lower()}"
                counts.setdefault(row, Counter())[outcome] += 1
    if not counts:
        return
    terminalreporter.section("conformance of drivers")
    width = max(map(len, counts))
    terminalreporter.write_line(" " * width + "".join(f"{one:>9}" for one in _OUTCOMES))
    for row in sorted(counts):
        numbers = "".join(f"{counts[row][one]:>9}" for one in _OUTCOMES)
        terminalreporter.write_line(row.ljust(width) + numbers)
