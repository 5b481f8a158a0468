"""Procrastinate: two processes, ten jobs at a time in each. It keeps no results."""

from __future__ import annotations

import contextlib
import sys

import procrastinate  # type: ignore[import-not-found]

from benchmarks.counter import tick
from benchmarks.peers import broker_url, wait_until_ran

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=broker_url()))


@app.task(name="noop", queue="bench")
async def noop() -> int:
    tick()
    return 1


class _Client:
    """The task with a connector that needs no event loop; opened once, closed with the process."""

    stack = contextlib.ExitStack()
    task = None
    sent = 0


def _task():
    if _Client.task is None:
        client = _Client.stack.enter_context(_opened())
        _Client.task = client.tasks["noop"]
    return _Client.task


@contextlib.contextmanager
def _opened():
    connector = procrastinate.SyncPsycopgConnector(conninfo=broker_url())
    with app.replace_connector(connector) as client, client.open():
        yield client


def prepare() -> None:
    """Make its tables."""
    with _opened() as client:
        client.schema_manager.apply_schema()


def send(count: int) -> None:
    defer = _task().defer
    for _ in range(count):
        defer()


def send_bulk(count: int) -> None:
    _task().batch_defer(*({} for _ in range(count)))


def call_and_wait() -> None:
    send(1)
    _Client.sent += 1
    wait_until_ran(_Client.sent)


def worker() -> list[list[str]]:
    name = "benchmarks.peers.procrastinate_peer.app"
    program = [sys.executable, "-m", "procrastinate", "--log-level", "error", "-a", name, "worker"]
    return [[*program, "-q", "bench", "-c", "10", "--delete-jobs", "always"]] * 2
