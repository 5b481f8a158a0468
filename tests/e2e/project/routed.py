"""An app with queues, routes and annotations, for the end-to-end tests."""

import os
import re

from cardoon import Cardoon, Task
from cardoon.queues import Exchange, Queue
from cardoon.utils.log import get_task_logger

logger = get_task_logger(__name__)
MEDIA = Exchange("media", type="topic")


def by_size(name, args, kwargs, options, task=None, **more):
    """Large things have a queue of their own."""
    return "large" if name == "routed.where" and args and args[0] == "large" else None


def on_failure(self, exc, task_id, args, kwargs, einfo):
    """Leaves a trace that the annotated hook ran in the task process."""
    with open("failed", "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{self.name} {exc}\n")


app = Cardoon("routed")
app.conf.update(
    task_queues=[
        Queue("celery"),
        Queue("videos", MEDIA, routing_key="media.video.#"),
        Queue("large"),
    ],
    task_routes=(by_size, {re.compile(r"routed\.film"): {"exchange": "media", "routing_key": "media.video"}}),
    task_annotations={"routed.fail": {"on_failure": on_failure, "max_retries": 0}},
    worker_direct=True,
)  # fmt: skip


@app.task(bind=True)
def where(self: Task, what: str = "") -> list:
    """Who ran it, and from which queue it came."""
    return [self.request.hostname, self.request.delivery_info["routing_key"]]


@app.task(bind=True)
def film(self: Task) -> list:
    return [self.request.hostname, self.request.delivery_info["routing_key"]]


@app.task
def ask_for(what: str) -> str:
    """Send a task from within a task: the id of what was sent."""
    return (film.delay() if what == "film" else where.delay(what)).id


@app.task(bind=True)
def again(self: Task, number: int = 0) -> str:
    """Retry with other arguments, and so as another message."""
    if number == 0:
        raise self.retry(args=(1,), countdown=0.01)
    return self.request.delivery_info["routing_key"]


@app.task
def fail() -> None:
    raise ValueError(os.fspath("no"))
