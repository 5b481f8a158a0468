"""An app whose receivers do what receivers should not; the environment says which."""

import os
import sys
import time

from cardoon import Cardoon, signals

app = Cardoon("stubborn")
MANNER = os.environ["MANNER"]


@app.task(name="work.add")
def add(x: int, y: int) -> int:
    return x + y


def refuse(**_: object) -> None:
    sys.exit("the license is missing")


def hang(**_: object) -> None:
    time.sleep(600)


def crash(**_: object) -> None:
    os._exit(9)


if MANNER == "refuse":
    signals.worker_init.connect(refuse)
elif MANNER == "crash":
    signals.task_received.connect(crash)
else:
    for one in (
        signals.task_received,
        signals.worker_ready,
        signals.worker_shutdown,
        signals.worker_process_shutdown,
    ):
        one.connect(hang)
