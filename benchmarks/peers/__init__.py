"""The task queues that are measured. Each module has the same task and the same five names.

    send()           send one message; durable on return
    send_bulk(n)     send n at once, or None where the peer cannot
    call_and_wait()  send one message and wait for its result
    worker()         the command that starts a worker with two processes
    noop             the task: counts itself and returns 1

A module reads its folder and whether results are kept from the environment, because the peer's own
worker imports it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

FOLDER_VARIABLE = "BENCH_FOLDER"
RESULTS_VARIABLE = "BENCH_RESULTS"
SIGNED_VARIABLE = "BENCH_SIGNED"


class Peer(NamedTuple):
    """One contestant."""

    name: str
    module: str
    share: float = 1.0
    """Of the tasks: a slow peer is given fewer, so that the run ends."""
    has_bulk: bool = False
    is_ours: bool = False
    is_signed: bool = False


PEERS = (
    Peer("cardoon-signed", "cardoon_peer", has_bulk=True, is_ours=True, is_signed=True),
    Peer("cardoon-plain", "cardoon_peer", has_bulk=True, is_ours=True),
    Peer("huey", "huey_peer"),
    Peer("celery", "celery_peer", share=0.1),
)


def folder() -> Path:
    """Where this peer keeps its files."""
    return Path(os.environ[FOLDER_VARIABLE])


def keeps_results() -> bool:
    """Whether results are stored."""
    return os.environ[RESULTS_VARIABLE] == "1"
