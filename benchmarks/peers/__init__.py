"""The task queues that are measured. Each module has the same task and the same five names.

    send(n)          send n messages, one after the other; stored on return as the broker's table says
    send_bulk(n)     send n at once, or None where the peer cannot
    call_and_wait()  send one message and wait for its result; where a peer keeps none, until it ran
    worker()         the commands that start workers with two processes together
    noop             the task: counts itself and returns 1

One that must make something before the first message has `prepare()` too. A module reads where its messages
lie from the environment, because the peer's own worker imports it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.counter import Counters

BROKER_VARIABLE = "BENCH_BROKER"
BROKER_URL_VARIABLE = "BENCH_BROKER_URL"
RESULTS_URL_VARIABLE = "BENCH_RESULTS_URL"
FOLDER_VARIABLE = "BENCH_FOLDER"
RESULTS_VARIABLE = "BENCH_RESULTS"
SIGNED_VARIABLE = "BENCH_SIGNED"
SEALED_VARIABLE = "BENCH_SEALED"

_WAIT_SECONDS = 20.0
_LOOK_SECONDS = 0.0002


class Peer(NamedTuple):
    """One contestant on one broker."""

    broker: str
    name: str
    module: str
    promise: str
    """What it does that matters for a comparison: when a task is lost, and how it is run."""
    share: float = 1.0
    """Of the tasks: a slow peer is given fewer, so that the run ends."""
    has_bulk: bool = False
    has_results: bool = True
    is_ours: bool = False
    is_signed: bool = False
    is_sealed: bool = False
    """Signed, under a policy, and every body encrypted."""
    is_slow: bool = False
    """Whether it is measured only with `--all`."""


def _ours(broker: str, promise: str) -> tuple[Peer, ...]:
    names = {"broker": broker, "module": "cardoon_peer", "has_bulk": True, "is_ours": True}
    plain = f"{promise}; not signed"
    signed = f"{promise}; every message and result signed and verified"
    sealed = f"{promise}; signed, verified, allowed by a policy, and every body encrypted"
    return (
        Peer(name="cardoon-signed", promise=signed, is_signed=True, **names),
        Peer(name="cardoon-sealed", promise=sealed, is_signed=True, is_sealed=True, **names),
        Peer(name="cardoon-plain", promise=plain, **names),
    )


_LATE = "late acknowledgement, leases"
_EARLY = "acknowledged before the task runs (its default), which a crash loses"
PEERS = (
    *_ours("sqlite", _LATE),
    Peer("sqlite", "huey", "huey_peer", "taken from the queue first: a crash loses the task"),
    Peer("sqlite", "celery", "celery_peer", _EARLY, share=0.1),
    *_ours("redis", _LATE),
    Peer("redis", "celery", "celery_peer", _EARLY, share=0.5),
    Peer("redis", "dramatiq", "dramatiq_peer", "late acknowledgement, heartbeats"),
    Peer("redis", "taskiq", "taskiq_peer", "a stream with late acknowledgement", share=0.5),
    Peer("redis", "huey", "huey_peer", "taken from the queue first: a crash loses the task"),
    Peer(
        "redis", "rq", "rq_peer", "two SimpleWorkers, which do not fork for each task",
        share=0.1, has_bulk=True, is_slow=True,
    ),
    *_ours("postgres", _LATE),
    Peer(
        "postgres", "pgqueuer", "pgqueuer_peer", "late acknowledgement, heartbeats; no results",
        share=0.5, has_bulk=True, has_results=False,
    ),
    Peer(
        "postgres", "procrastinate", "procrastinate_peer",
        "late acknowledgement; no results", share=0.1, has_bulk=True, has_results=False,
    ),
    *_ours("rabbitmq", f"{_LATE}; quorum queues, publisher confirms"),
    Peer("rabbitmq", "celery", "celery_peer", f"classic queue, no confirms; {_EARLY}", share=0.5),
    Peer(
        "rabbitmq", "dramatiq", "dramatiq_peer",
        "classic queue, no confirms (its default); late acknowledgement",
    ),
)  # fmt: skip


def broker() -> str:
    """Which broker is measured."""
    return os.environ[BROKER_VARIABLE]


def broker_url() -> str:
    """Where messages lie."""
    return os.environ[BROKER_URL_VARIABLE]


def results_url() -> str:
    """Where results lie, for those who keep them apart from messages."""
    return os.environ[RESULTS_URL_VARIABLE]


def folder() -> Path:
    """Where this peer keeps its files."""
    return Path(os.environ[FOLDER_VARIABLE])


def keeps_results() -> bool:
    """Whether results are stored."""
    return os.environ[RESULTS_VARIABLE] == "1"


def wait_until_ran(count: int) -> None:
    """Wait until so many tasks have run: all that can be seen where no results are kept."""
    global _counters
    _counters = _counters or Counters.of_environment()
    deadline = time.monotonic() + _WAIT_SECONDS
    while _counters.read().tasks < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} tasks did not run within {_WAIT_SECONDS:g} seconds")
        time.sleep(_LOOK_SECONDS)


_counters: Counters | None = None
