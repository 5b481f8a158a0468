"""Celery, in its default pool. On SQLite through SQLAlchemy, which flushes every commit by default."""

from __future__ import annotations

import sys

from celery import Celery  # type: ignore[import-untyped]

from benchmarks.counter import tick
from benchmarks.peers import broker, broker_url, keeps_results, results_url

if broker() == "sqlite":
    from kombu.transport.sqlalchemy import Transport  # type: ignore[import-untyped]

    # Instead of once a second, so that latency is not the polling's. No setting reaches it.
    Transport.polling_interval = 0.005
    urls = (f"sqla+{broker_url()}", f"db+{results_url()}")
else:
    urls = (broker_url(), results_url())

app = Celery("bench", broker=urls[0])
app.conf.update(
    result_backend=urls[1] if keeps_results() else None,
    task_ignore_result=not keeps_results(),
    broker_connection_retry_on_startup=True,
)


@app.task
def noop() -> int:
    tick()
    return 1


def send(count: int) -> None:
    delay = noop.delay
    for _ in range(count):
        delay()


send_bulk = None


def call_and_wait() -> None:
    noop.delay().get(timeout=20, interval=0.001)


def worker() -> list[list[str]]:
    program = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_peer", "worker"]
    quiet = ["-l", "ERROR", "--without-gossip", "--without-mingle"]
    return [[*program, "-P", "prefork", "-c", "2", *quiet]]
