"""Cardoon: signed (its default), plain, or with all that it has."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.counter import tick
from benchmarks.peers import (
    SEALED_VARIABLE,
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
is_sealed = os.environ[SEALED_VARIABLE] == "1"
if is_sealed:
    app.conf.update(
        security_policy=str(folder() / "policy.toml"),
        security_encrypt="body",
        security_require_encryption=True,
    )
if broker() != "sqlite":
    # Where it can, it keeps results beside messages: then both are one step.
    apart = broker() == "rabbitmq"
    app.conf.update(
        broker_url=broker_url(),
        result_backend=results_url() if apart else broker_url(),
    )


POLICY = """\
version = 1
[role.client]
ids = ["spiffe://cardoon.local/client"]
[role.worker]
ids = ["spiffe://cardoon.local/worker"]

[[allow]]
role = "client"
action = "keys"
[[allow]]
role = "client"
action = "send"
task = ["benchmarks.**"]
queue = ["celery"]
max_eta = "7d"
max_body = "256KiB"
encrypted = true
[[allow]]
role = "worker"
action = "result"
encrypted = true
"""


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
    if is_sealed:
        (folder() / "policy.toml").write_text(POLICY)
        (folder() / "policy.toml").chmod(0o600)
        make_keys = [*program, "keys", "init", "--folder", str(folder() / ".cardoon" / "keyset")]
        subprocess.run(make_keys, check=True, stdout=subprocess.DEVNULL, cwd=folder())
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
