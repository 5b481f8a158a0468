"""Celery on SQLite, through SQLAlchemy; durable, since SQLite flushes every commit by default."""

from __future__ import annotations

import sys

from celery import Celery  # type: ignore[import-untyped]
from kombu.transport.sqlalchemy import Transport  # type: ignore[import-untyped]

from benchmarks.counter import tick
from benchmarks.peers import folder, keeps_results

# Instead of once a second, so that latency is not the polling's. No setting reaches it.
Transport.polling_interval = 0.005

app = Celery("bench", broker=f"sqla+sqlite:///{folder() / 'broker.db'}")
app.conf.update(
    result_backend=f"db+sqlite:///{folder() / 'results.db'}" if keeps_results() else None,
    task_ignore_result=not keeps_results(),
    broker_connection_retry_on_startup=True,
)


@app.task
def noop() -> int:
    tick()
    return 1


send = noop.delay
send_bulk = None


def call_and_wait() -> None:
    noop.delay().get(timeout=20, interval=0.001)


def worker() -> list[str]:
    program = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_peer", "worker"]
    quiet = ["-l", "ERROR", "--without-gossip", "--without-mingle"]
    return [*program, "-P", "prefork", "-c", "2", *quiet]
