"""huey. On SQLite durable as by default: write-ahead log, synchronous=FULL."""

from __future__ import annotations

import sys

from huey import RedisHuey, SqliteHuey  # type: ignore[import-untyped]

from benchmarks.counter import tick
from benchmarks.peers import broker, broker_url, folder, keeps_results

if broker() == "redis":
    huey = RedisHuey("bench", url=broker_url(), results=keeps_results())
else:
    huey = SqliteHuey("bench", filename=str(folder() / "huey.db"), results=keeps_results())


@huey.task()  # type: ignore[untyped-decorator]
def noop() -> int:
    tick()
    return 1


def send(count: int) -> None:
    for _ in range(count):
        noop()


send_bulk = None


def call_and_wait() -> None:
    # By default it looks for a result after 100 ms and ever more rarely.
    noop().get(blocking=True, timeout=20, backoff=1.0, max_delay=0.001)


def worker() -> list[list[str]]:
    polling = ["-d", "0.005", "-m", "0.005"]
    module = "benchmarks.peers.huey_peer.huey"
    program = [sys.executable, "-m", "huey.bin.huey_consumer", module]
    return [[*program, "-k", "process", "-w", "2", "-q", *polling]]
