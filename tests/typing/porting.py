"""Read by `make check`, never run: what a type checker knows of names by Celery's paths."""

from __future__ import annotations

from typing import Any, assert_type

from cardoon import Cardoon, Celery, Task, current_app, current_task, states, uuid
from cardoon.app import app_or_default
from cardoon.app.log import TaskFormatter
from cardoon.contrib.abortable import AbortableTask
from cardoon.result import AsyncResult

app = Celery("typed")


@app.on_after_configure.connect
def set_up(sender: Cardoon, **kwargs: object) -> None:
    sender.finalize()


@app.task(bind=True, base=AbortableTask)
def convert(self: AbortableTask[..., Any], pages: int) -> bool:
    return self.is_aborted()


assert_type(current_app, Cardoon)
assert_type(current_app.backend.get_state("x"), str)
assert_type(current_task, Task[..., Any])
assert_type(app_or_default(None), Cardoon)
assert_type(states.SUCCESS, str)
assert_type(uuid(), str)
assert_type(set_up(app), None)
AsyncResult[int]("x", app=app)
AsyncResult[int]("x")
TaskFormatter("%(task_name)s")

app.nonsense()  # type: ignore[attr-defined]
current_app.connection()  # type: ignore[attr-defined]
app.backend.mget([])  # type: ignore[attr-defined]
