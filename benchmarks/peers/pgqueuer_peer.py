"""PgQueuer through psycopg: two processes, a hundred jobs in a batch. It keeps no results."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import psycopg
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import PsycopgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]

from benchmarks.counter import tick
from benchmarks.peers import broker_url, wait_until_ran

_BATCH = 100
_MODULE = "benchmarks.peers.pgqueuer_peer"


class _Client:
    """One event loop and connection for all calls of a client."""

    runner: asyncio.Runner | None = None
    queries: Queries
    sent = 0


async def _connect() -> PsycopgDriver:
    return PsycopgDriver(await psycopg.AsyncConnection.connect(broker_url(), autocommit=True))


async def noop(_job) -> int:
    tick()
    return 1


async def serve() -> None:
    """Run tasks until ended."""
    queue = PgQueuer(await _connect())
    queue.entrypoint("noop")(noop)
    await queue.run(batch_size=_BATCH)


def prepare() -> None:
    """Make its tables."""
    command = [sys.executable, "-m", "pgqueuer", "--pg-dsn", broker_url(), "install"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _run(coroutine):
    if _Client.runner is None:
        _Client.runner = asyncio.Runner()
        _Client.queries = Queries(_Client.runner.run(_connect()))
    return _Client.runner.run(coroutine)


async def _send(count: int) -> None:
    for _ in range(count):
        await _Client.queries.enqueue("noop", None)


async def _send_bulk(count: int) -> None:
    await _Client.queries.enqueue(["noop"] * count, [None] * count, [0] * count)


def send(count: int) -> None:
    _run(_send(count))


def send_bulk(count: int) -> None:
    _run(_send_bulk(count))


def call_and_wait() -> None:
    send(1)
    _Client.sent += 1
    wait_until_ran(_Client.sent)


def worker() -> list[list[str]]:
    # In code, for a batch of more than the ten that are its default.
    code = f"import asyncio; from {_MODULE} import serve; asyncio.run(serve())"
    return [[sys.executable, "-c", code]] * 2
