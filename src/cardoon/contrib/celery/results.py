"""Results on their way back: a verified result of ours becomes one of Celery's, under the same id."""

from __future__ import annotations

import logging
import threading
from typing import Any

from cardoon import states
from cardoon.app import Cardoon
from cardoon.contrib.celery.journal import Journal, Owed
from cardoon.contrib.celery.source import import_real
from cardoon.exceptions import OperationalError, RemoteError
from cardoon.producer import Producer
from cardoon.result import AsyncResult
from cardoon.sender import Handle, Report

logger = logging.getLogger(__name__)

_WINDOW = 5_000
"""Results that are waited for at a time; where more are owed, they take turns."""
_ROUND = 0.5
"""Seconds until those that were added meanwhile are waited for as well."""
_PAUSE = 1.0
_MOST_FAILURES = 10
"""In one round; then the backend itself is away."""
_STATES = {states.REJECTED: states.FAILURE}
"""Ends that Celery's clients do not take for one."""


class Returner:
    """Waits for what the journal says is owed, and tells Celery's result backend; a thread."""

    def __init__(self, app: Cardoon, producer: Producer, journal: Journal, celery: Any) -> None:
        self._app = app
        self._producer = producer
        self._journal = journal
        self._celery = celery
        self._context: Any = import_real("celery.app.task").Context
        self._encode_error: type[Exception] = import_real("kombu.exceptions").EncodeError
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="returner", daemon=True)
        self.returned = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End; what is still owed is told after the next start. Safe twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        behind = ""
        while not self._stop.is_set():
            try:
                owed = self._journal.some(behind=behind, limit=_WINDOW)
                behind = owed[-1].id if len(owed) == _WINDOW else ""
                if owed:
                    self._tell({one.id: one for one in owed})
                else:
                    self._stop.wait(_ROUND)
            except Exception as error:  # noqa: BLE001  # whatever Celery's backends raise, it is owed still
                logger.warning(
                    "results for Celery: %s: %s; trying again", type(error).__name__, error
                )
                self._stop.wait(_PAUSE)

    def _tell(self, owed: dict[str, Owed]) -> None:
        """One round: tell those that have come, and then cross them out together."""
        told: list[str] = []
        failures: list[Exception] = []
        try:
            # By id alone: a message that was signed anew has an answer to its earlier self.
            handles = [Handle(one) for one in owed]
            for report in self._producer.wait(handles, timeout=_ROUND):
                try:
                    self._store(report, owed[report.task_id])
                    told.append(report.task_id)
                except Exception as error:  # noqa: BLE001  # one that cannot be told must not stop the others
                    failures.append(error)
                if self._stop.is_set() or len(failures) >= _MOST_FAILURES:
                    break
        finally:
            self._journal.remove(told)
            self.returned += len(told)
        if failures:
            raise failures[0]

    def _store(self, report: Report, owed: Owed) -> None:
        result: AsyncResult[Any] = AsyncResult(report.task_id, source=self._app)
        result.accept(report)
        state = _STATES.get(report.state, report.state)
        value = result.result
        if state in states.EXCEPTION_STATES and isinstance(value, BaseException):
            value = _as_celery_names_it(value)
        try:
            self._write(owed, value, state, result.traceback)
        except self._encode_error as error:
            said = TypeError(f"Celery's JSON cannot carry the result: {error}")
            self._write(owed, said, states.FAILURE, None)

    def _write(self, owed: Owed, value: Any, state: str, traceback: str | None) -> None:
        request = self._context(
            id=owed.id,
            reply_to=owed.reply_to,
            correlation_id=owed.correlation_id or owed.id,
            delivery_info={},
        )
        try:
            self._celery.backend.store_result(
                owed.id, value, state, traceback=traceback, request=request
            )
        except OSError as error:
            raise OperationalError(f"celery's result backend: {error}") from error


def _as_celery_names_it(error: BaseException) -> BaseException:
    """An exception whose class has the name that the task's own had."""
    if not isinstance(error, RemoteError):
        return error
    name = error.type_name if error.type_name.isidentifier() else "RemoteError"
    kind = type(name, (Exception,), {"__module__": error.module or __name__})
    return kind(error.message)  # type: ignore[no-any-return]  # a class of exceptions, made here
