"""After the tests, a table: which driver passed the suites, and how many of their tests."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from tests.servers.ground import Authority, running
from tests.servers.postgres import postgres, postgres_tls
from tests.servers.redis import RedisCluster, RedisServer

THOROUGH = bool(os.environ.get("CARDOON_TEST_THOROUGH"))
"""Set by `make test-brokers`: what takes minutes, and `make test` tries with fewer examples."""

__all__ = ["postgres", "postgres_tls"]

_DRIVER = re.compile(r"::Test([A-Za-z]+?)(Tls)?(Broker|Backend|Machine|Turns|Copying)::")
_SAME_STORE = re.compile(
    r"::Test\w*(Tls|Cluster|Beside|Backend)\w*::test_there_is_a_bound_on_records$"
)
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


def pytest_collection_modifyitems(config, items) -> None:
    """Ten thousand records are written once for each store, unless all is to be tried."""
    if THOROUGH:
        return
    again = [one for one in items if _SAME_STORE.search(one.nodeid)]
    if again:
        config.hook.pytest_deselected(items=again)
        items[:] = [one for one in items if not _SAME_STORE.search(one.nodeid)]


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
