"""One client process: `python -m benchmarks.client MODULE ACTION COUNT`.

Prints one JSON object. A first message, sent before the clock starts, connects and makes the tables.
"""

from __future__ import annotations

import functools
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from types import ModuleType

BULK = 1000
"""Messages in one call of `send_bulk`."""
_WARM_UP = 20
_CANVAS_SECONDS = 250.0


def send(peer: ModuleType, count: int) -> dict[str, float]:
    """Send `count` messages, the first one apart; seconds of wall clock and processor for the rest."""
    peer.send(1)
    wall, cpu = time.perf_counter(), time.process_time()
    peer.send(count - 1)
    return _elapsed(count - 1, wall, cpu)


def bulk(peer: ModuleType, count: int) -> dict[str, float]:
    """As `send`, by the thousand."""
    peer.send(1)
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


def canvas(peer: ModuleType, count: int, *, kind: str, is_awaited: bool) -> dict[str, float]:
    """Seconds until a canvas of `count` tasks is sent, and until its result is here."""
    made = peer.make_canvas(kind, count)
    begun = time.perf_counter()
    result = made.apply_async()
    sent = time.perf_counter() - begun
    if is_awaited:
        result.get(timeout=_CANVAS_SECONDS)
    return {"sent": sent, "done": time.perf_counter() - begun}


def prepare(peer: ModuleType, _count: int) -> dict[str, float]:
    """Make what the peer needs before the first message."""
    if hasattr(peer, "prepare"):
        peer.prepare()
    return {}


def _elapsed(count: int, wall: float, cpu: float) -> dict[str, float]:
    used = time.process_time() - cpu
    return {"count": count, "wall": time.perf_counter() - wall, "cpu": used}


if __name__ == "__main__":
    actions: dict[str, Callable[[ModuleType, int], dict[str, float]]] = {
        "prepare": prepare,
        "send": send,
        "bulk": bulk,
        "latency": latency,
    }
    for name in ("chain", "chord", "group"):
        actions[f"canvas-{name}"] = functools.partial(canvas, kind=name, is_awaited=True)
        actions[f"sent-{name}"] = functools.partial(canvas, kind=name, is_awaited=False)
    module, action, number = sys.argv[1:]
    chosen = importlib.import_module(f"benchmarks.peers.{module}")
    sys.stdout.write(json.dumps(actions[action](chosen, int(number))))
