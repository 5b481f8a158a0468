"""Dramatiq with two processes of eight threads, its default; results in Redis, which is all it has."""

from __future__ import annotations

import sys

import dramatiq  # type: ignore[import-not-found]
from dramatiq.results import Results  # type: ignore[import-not-found]
from dramatiq.results.backends import RedisBackend  # type: ignore[import-not-found]

from benchmarks.counter import tick
from benchmarks.peers import broker, broker_url, keeps_results, results_url

if broker() == "redis":
    from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]

    queue = RedisBroker(url=broker_url())
else:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker  # type: ignore[import-not-found]

    queue = RabbitmqBroker(url=broker_url())
if keeps_results():
    queue.add_middleware(Results(backend=RedisBackend(url=results_url())))
dramatiq.set_broker(queue)


@dramatiq.actor(**({"store_results": True} if keeps_results() else {}))
def noop() -> int | None:
    tick()
    # It warns of a value that nobody keeps.
    return 1 if keeps_results() else None


def send(count: int) -> None:
    send_one = noop.send
    for _ in range(count):
        send_one()


send_bulk = None


def call_and_wait() -> None:
    noop.send().get_result(block=True, timeout=20_000)


def worker() -> list[list[str]]:
    module = "benchmarks.peers.dramatiq_peer"
    return [[sys.executable, "-m", "dramatiq", "-p", "2", "-t", "8", "--skip-logging", module]]
