"""`app.backend`: what is stored of tasks, asked for by id and in bulk.

Every answer was opened at the gate, as `AsyncResult`'s are. There is no way to write: a result is signed
by the worker that ran the task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cardoon import states
from cardoon.exceptions import TimeoutError  # noqa: A004  # Celery's name
from cardoon.result import AsyncResult, ResultSource
from cardoon.sender import Handle, Report

_BY_WORKERS = "a result is signed by the worker that ran the task, and by nobody else"
_NOT_HERE = {
    **dict.fromkeys(("store_result", "mark_as_done", "mark_as_failure"), _BY_WORKERS),
    **dict.fromkeys(("mark_as_started", "mark_as_retry", "mark_as_revoked"), _BY_WORKERS),
    **dict.fromkeys(
        ("mget", "get", "set", "delete", "client", "ResultSession", "get_key_for_task"),
        "the store's own format is not for others to read; use get_metas(ids)",
    ),
    "cleanup": "results that have expired go by themselves",
    "process_cleanup": "app.close() lets go of connections",
}


class ResultStore:
    """Reads results by id."""

    def __init__(self, source: ResultSource) -> None:
        self.source = source

    def get_metas(self, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The present meta of each task, in one look at the store; PENDING where there is nothing."""
        ids = list(dict.fromkeys(task_ids))
        reports = self.source.sender.load([Handle(one) for one in ids])
        return {one: self._meta(one, reports.get(one)) for one in ids}

    def get_many(
        self, task_ids: Iterable[str], timeout: float | None = None, **_: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (id, meta) of each task as it ends; `TimeoutError` after `timeout` seconds for all.

        Celery's further arguments (`interval`, `no_ack`, ...) change nothing: results are pushed.
        """
        waited_for = set(task_ids)
        if not waited_for:
            return
        handles = [Handle(one) for one in waited_for]
        for report in self.source.sender.wait(handles, timeout=timeout):
            waited_for.discard(report.task_id)
            yield report.task_id, self._meta(report.task_id, report)
        if waited_for:
            raise TimeoutError(f"{len(waited_for)} results did not come in time")

    def get_task_meta(self, task_id: str) -> dict[str, Any]:
        """State, result, traceback and more of one task."""
        return self.get_metas([task_id])[task_id]

    def get_state(self, task_id: str) -> str:
        """The state of a task."""
        return str(self.get_task_meta(task_id)["status"])

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        """What a task returned or raised, or the meta of a state on the way."""
        return self.get_task_meta(task_id)["result"]

    def get_traceback(self, task_id: str) -> str | None:
        """How a task failed, as text."""
        found: str | None = self.get_task_meta(task_id)["traceback"]
        return found

    def wait_for(self, task_id: str, timeout: float | None = None, **_: Any) -> dict[str, Any]:
        """The meta of a task when it has ended; `TimeoutError` after `timeout` seconds."""
        return next(meta for _, meta in self.get_many([task_id], timeout=timeout))

    def forget(self, task_id: str | Sequence[str]) -> None:
        """Delete what is stored of a task, or of several."""
        self.source.sender.forget([task_id] if isinstance(task_id, str) else list(task_id))

    if not TYPE_CHECKING:  # or a type checker would take any name for one that is here

        def __getattr__(self, name: str) -> Any:
            why = _NOT_HERE.get(name, "see docs/porting.md for what app.backend has")
            raise AttributeError(f"app.backend has no {name!r}: {why}")

    def __repr__(self) -> str:
        return f"<ResultStore of {self.source!r}>"

    def _meta(self, task_id: str, report: Report | None) -> dict[str, Any]:
        """As Celery's backends describe a task, `status` being its state."""
        found: AsyncResult[Any] = AsyncResult(task_id, source=self.source)
        meta: dict[str, Any] = {
            "task_id": task_id,
            "status": states.PENDING,
            "result": None,
            "traceback": None,
            "children": [],
            "date_done": None,
        }
        if report is not None:
            found.accept(report)
            done = found.date_done
            meta |= {
                "status": report.state,
                "result": found.result,
                "traceback": found.traceback,
                "date_done": None if done is None else done.isoformat(),
                "name": found.name,
                "worker": found.worker,
                "retries": found.retries,
                "children": found.children or [],
            }
        return meta
