"""One client process: `python -m benchmarks.client MODULE send|bulk|latency COUNT`.

Prints one JSON object. A first message, sent before the clock starts, connects and makes the tables.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from types import ModuleType

BULK = 1000
"""Messages in one call of `send_bulk`."""
_WARM_UP = 20


def send(peer: ModuleType, count: int) -> dict[str, float]:
    """Send `count` messages, the first one apart; seconds of wall clock and processor for the rest."""
    peer.send()
    send_one = peer.send
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count - 1):
        send_one()
    return _elapsed(count - 1, wall, cpu)


def bulk(peer: ModuleType, count: int) -> dict[str, float]:
    """As `send`, by the thousand."""
    peer.send()
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(1, count, BULK):
        peer.send_bulk(min(BULK, count - start))
    return _elapsed(count - 1, wall, cpu)


def latency(peer: ModuleType, count: int) -> dict[str, float]:
    """Milliseconds from sending to having the result, one message after the other."""
    for _ in range(_WARM_UP):
        peer.call_and_wait()
    times = []
    cpu = time.process_time()
    for _ in range(count):
        start = time.perf_counter()
        peer.call_and_wait()
        times.append((time.perf_counter() - start) * 1000)
    cpu = time.process_time() - cpu
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"count": count, "p50": cuts[49], "p99": cuts[98], "cpu": cpu}


def _elapsed(count: int, wall: float, cpu: float) -> dict[str, float]:
    used = time.process_time() - cpu
    return {"count": count, "wall": time.perf_counter() - wall, "cpu": used}


if __name__ == "__main__":
    actions = {"send": send, "bulk": bulk, "latency": latency}
    module, action, number = sys.argv[1:]
    chosen = importlib.import_module(f"benchmarks.peers.{module}")
    sys.stdout.write(json.dumps(actions[action](chosen, int(number))))
