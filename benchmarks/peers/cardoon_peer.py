"""Cardoon, signed (its default) or plain."""

from __future__ import annotations

import os
import sys

from benchmarks.counter import tick
from benchmarks.peers import SIGNED_VARIABLE, folder, keeps_results
from cardoon import Cardoon, Signature, chain, chord, group

app = Cardoon("bench")
app.conf.update(state_directory=str(folder()), task_ignore_result=not keeps_results())
if os.environ[SIGNED_VARIABLE] != "1":
    app.conf.update(task_serializer="json", accept_content=["json"])


@app.task
def noop() -> int:
    tick()
    return 1


@app.task
def total(results: list[int]) -> int:
    return sum(results)


send = noop.delay


def send_bulk(count: int) -> None:
    noop.send_many([()] * count)


def call_and_wait() -> None:
    noop.delay().get(timeout=20)


def make_canvas(kind: str, count: int) -> Signature:
    members = [noop.si() for _ in range(count)]
    if kind == "chord":
        return chord(members, total.s())
    return chain(members) if kind == "chain" else group(members)


def worker() -> list[str]:
    module = "benchmarks.peers.cardoon_peer"
    return [sys.executable, "-m", "cardoon", "-A", module, "worker", "-P", "prefork", "-c", "2"]
