"""The memory driver of the ResultBackend contract: the reference, and for tests."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cardoon.backend import SealedResult
from cardoon.clock import Clock, SystemClock
from cardoon.memory import MemoryResults, SharesResults

_REAL_TIME = SystemClock()


def connect(*, clock: Clock, beside: object) -> MemoryBackend:
    """A result backend that shares the results of a memory broker, or has its own."""
    shared = beside.results if isinstance(beside, SharesResults) else MemoryResults(clock)
    return MemoryBackend(shared)


class MemoryBackend:
    """Results of this process, gone with it."""

    def __init__(self, results: MemoryResults) -> None:
        self._results = results

    def store(self, results: Sequence[SealedResult]) -> None:
        """Keep results. The first final one of a task stays."""
        self._results.store(results)

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """The stored results of those tasks that have one."""
        found = map(self._results.load, task_ids)
        return {result.task_id: result for result in found if result is not None}

    def wait(self, task_ids: Collection[str], *, timeout: float | None) -> Iterator[SealedResult]:
        """Yield each final result as it arrives; see the contract for collections that grow."""
        deadline = None if timeout is None else _REAL_TIME.monotonic() + timeout
        pending = dict.fromkeys(task_ids)
        may_grow = not isinstance(task_ids, (list, tuple, set, frozenset))
        while pending:
            with self._results.changed:
                while not (final := self._take_final(pending)):
                    remaining = None if deadline is None else deadline - _REAL_TIME.monotonic()
                    if remaining is not None and remaining <= 0:
                        return
                    self._results.changed.wait(remaining)
                    if may_grow:
                        pending = dict.fromkeys(task_ids)
            yield from final

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the results of those tasks."""
        self._results.forget(task_ids)

    def close(self) -> None:
        """Nothing to let go of."""

    def _take_final(self, pending: dict[str, None]) -> list[SealedResult]:
        final = [result for result in self.load(list(pending)).values() if result.final]
        for result in final:
            del pending[result.task_id]
        return final
