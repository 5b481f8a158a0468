"""taskiq on a Redis stream, which it acknowledges after the task ran; two worker processes."""

from __future__ import annotations

import asyncio
import sys

from taskiq_redis import (  # type: ignore[import-not-found]
    RedisAsyncResultBackend,
    RedisStreamBroker,
)

from benchmarks.counter import tick
from benchmarks.peers import broker_url, keeps_results, results_url

# From the beginning: by default a group that is new sees only what is sent after it.
queue = RedisStreamBroker(broker_url(), consumer_id="0")
if keeps_results():
    results = RedisAsyncResultBackend(results_url(), result_ex_time=600)
    queue = queue.with_result_backend(results)


@queue.task(task_name="noop")
async def noop() -> int:
    tick()
    return 1


class _Loop:
    """One event loop for all calls of a client."""

    runner: asyncio.Runner | None = None


def _run(coroutine):
    if _Loop.runner is None:
        _Loop.runner = asyncio.Runner()
        _Loop.runner.run(queue.startup())
    return _Loop.runner.run(coroutine)


async def _send(count: int) -> None:
    kiq = noop.kiq
    for _ in range(count):
        await kiq()


async def _call_and_wait() -> None:
    sent = await noop.kiq()
    await sent.wait_result(check_interval=0.001, timeout=20)


def send(count: int) -> None:
    _run(_send(count))


send_bulk = None


def call_and_wait() -> None:
    _run(_call_and_wait())


def worker() -> list[list[str]]:
    module = "benchmarks.peers.taskiq_peer:queue"
    program = [sys.executable, "-m", "taskiq", "worker", "--workers", "2"]
    return [[*program, "--log-level", "ERROR", module]]
