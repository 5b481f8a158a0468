"""huey on SQLite, durable as by default: write-ahead log, synchronous=FULL."""

from __future__ import annotations

import sys

from huey import SqliteHuey  # type: ignore[import-untyped]

from benchmarks.counter import tick
from benchmarks.peers import folder, keeps_results

huey = SqliteHuey("bench", filename=str(folder() / "huey.db"), results=keeps_results())


@huey.task()  # type: ignore[untyped-decorator]
def noop() -> int:
    tick()
    return 1


send = noop
send_bulk = None


def call_and_wait() -> None:
    # By default it looks for a result after 100 ms and ever more rarely.
    noop().get(blocking=True, timeout=20, backoff=1.0, max_delay=0.001)


def worker() -> list[str]:
    polling = ["-d", "0.005", "-m", "0.005"]
    module = "benchmarks.peers.huey_peer.huey"
    program = [sys.executable, "-m", "huey.bin.huey_consumer", module]
    return [*program, "-k", "process", "-w", "2", "-q", *polling]
