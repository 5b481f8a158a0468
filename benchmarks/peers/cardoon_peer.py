"""Cardoon, signed (its default) or plain."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.counter import tick
from benchmarks.peers import (
    SIGNED_VARIABLE,
    broker,
    broker_url,
    folder,
    keeps_results,
    results_url,
)
from cardoon import Cardoon, Signature, chain, chord, group

app = Cardoon("bench")
app.conf.update(state_directory=str(folder() / ".cardoon"), task_ignore_result=not keeps_results())
if os.environ[SIGNED_VARIABLE] != "1":
    app.conf.update(task_serializer="json", accept_content=["json"])
if broker() != "sqlite":
    # Where it can, it keeps results beside messages: then both are one step.
    apart = broker() == "rabbitmq"
    app.conf.update(
        broker_url=broker_url(),
        result_backend=results_url() if apart else broker_url(),
    )


@app.task
def noop() -> int:
    tick()
    return 1


@app.task
def total(results: list[int]) -> int:
    return sum(results)


def prepare() -> None:
    """What a project does once: make an authority, identities and, where there are any, tables."""
    program = [sys.executable, "-m", "cardoon", "--quiet"]
    subprocess.run([*program, "init", str(folder())], check=True)
    if broker() == "postgres":
        command = [*program, "--broker", broker_url(), "db", "upgrade"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def send(count: int) -> None:
    delay = noop.delay
    for _ in range(count):
        delay()


def send_bulk(count: int) -> None:
    noop.send_many([()] * count)


def call_and_wait() -> None:
    noop.delay().get(timeout=20)


def make_canvas(kind: str, count: int) -> Signature:
    members = [noop.si() for _ in range(count)]
    if kind == "chord":
        return chord(members, total.s())
    return chain(members) if kind == "chain" else group(members)


def worker() -> list[list[str]]:
    module = "benchmarks.peers.cardoon_peer"
    return [[sys.executable, "-m", "cardoon", "-A", module, "worker", "-P", "prefork", "-c", "2"]]
