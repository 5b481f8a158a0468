"""Results in memory, which the memory broker and the memory result backend share."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from cardoon.backend import SealedResult
from cardoon.clock import Clock


class MemoryResults:
    """A mapping that keeps the first final result of each task, but for a completion's."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.changed = threading.Condition()
        """Guards the results, and the broker that shares them; notified when one becomes final."""
        self._by_task: dict[str, SealedResult] = {}

    def store(self, results: Iterable[SealedResult]) -> None:
        """Keep results; a state before the end is replaced."""
        with self.changed:
            for result in results:
                before = self.load(result.task_id)
                if before is None or not before.final:
                    self._by_task[result.task_id] = result
            self.changed.notify_all()

    def complete(self, result: SealedResult) -> None:
        """Keep the result of a completion; a final one replaces what lies there."""
        if result.final:
            self.forget([result.task_id])
        self.store([result])

    def load(self, task_id: str) -> SealedResult | None:
        """The result of a task, unless it has expired."""
        with self.changed:
            result = self._by_task.get(task_id)
            if result is not None and self._is_expired(result):
                return None
            return result

    def forget(self, task_ids: Iterable[str]) -> None:
        """Delete the results of those tasks."""
        with self.changed:
            for task_id in task_ids:
                self._by_task.pop(task_id, None)

    def purge(self) -> None:
        """Delete what has expired."""
        with self.changed:
            self.forget(
                [each for each, result in self._by_task.items() if self._is_expired(result)]
            )

    def _is_expired(self, result: SealedResult) -> bool:
        return result.expires_at is not None and result.expires_at <= self.clock.now()


@runtime_checkable
class SharesResults(Protocol):
    """A broker that keeps results as well."""

    @property
    def results(self) -> MemoryResults:
        """The results that its completions store."""
        ...
