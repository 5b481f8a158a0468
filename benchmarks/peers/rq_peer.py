"""RQ with two of its workers that do not fork for each task."""

from __future__ import annotations

import sys

import redis
from rq import Queue  # type: ignore[import-not-found]

from benchmarks.counter import tick
from benchmarks.peers import broker_url, keeps_results

queue = Queue("bench", connection=redis.Redis.from_url(broker_url()))
_OPTIONS = {"result_ttl": 600 if keeps_results() else 0}


def noop() -> int:
    tick()
    return 1


# By its name, since the client runs as another module than the worker imports.
_NAME = "benchmarks.peers.rq_peer.noop"


def send(count: int) -> None:
    for _ in range(count):
        queue.enqueue(_NAME, **_OPTIONS)


def send_bulk(count: int) -> None:
    queue.enqueue_many([Queue.prepare_data(_NAME, **_OPTIONS) for _ in range(count)])


def call_and_wait() -> None:
    if queue.enqueue(_NAME, **_OPTIONS).latest_result(timeout=20) is None:
        raise TimeoutError("no result within 20 seconds")


def worker() -> list[list[str]]:
    program = [sys.executable, "-m", "rq.cli", "worker", "-w", "rq.worker.SimpleWorker"]
    return [[*program, "-q", "-u", broker_url(), "bench"]] * 2
