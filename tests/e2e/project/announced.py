"""An app with a broadcast queue, for the end-to-end tests."""

import os
import time
from pathlib import Path

from cardoon import Cardoon, Task
from cardoon.queues import Broadcast, Queue

app = Cardoon("announced")
app.conf.update(
    task_queues=[Queue("celery"), Broadcast("caches")],
    task_routes={"announced.reload": {"queue": "caches", "exchange": "caches"}},
)
if prefix := os.environ.get("RABBITMQ_TEST_PREFIX"):
    app.conf.broker_transport_options = {"global_keyprefix": prefix}


def write(path: str, line: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@app.task(bind=True, ignore_result=True)
def reload(self: Task, log: str, until: str = "") -> None:
    """Say which worker runs it, and end when there is a file."""
    write(log, f"{self.request.hostname} {self.request.delivery_info['routing_key']}")
    while until and not Path(until).exists():
        time.sleep(0.02)


@app.task(bind=True)
def announce(self: Task, log: str) -> str:
    """Have every worker reload, from within a task."""
    return reload.delay(log).id
