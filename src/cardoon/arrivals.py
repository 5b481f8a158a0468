"""Waiting for results in a database that hints at news: one loop for all databases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from cardoon.backend import SealedResult
from cardoon.clock import SystemClock

LOOK_AGAIN_SECONDS = 0.5
"""Hints may be lost, so whoever waits looks at the database this often."""

FEW = 16
"""Tasks whose results are looked for by name; for more it is asked first what is new."""

_REAL_TIME = SystemClock()


class ResultNews(Protocol):
    """A store of results that can say what is new."""

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """The stored results of those tasks that have one."""
        ...

    def horizon(self) -> int:
        """What `final_since` needs to know, to tell of all that comes from now on."""
        ...

    def final_since(self, seen: int) -> tuple[Collection[str] | None, int]:
        """Tasks that may have a new final result, None for any, and the next horizon."""
        ...


def wait_for_results(
    store: ResultNews,
    task_ids: Collection[str],
    *,
    timeout: float | None,
    rest: Callable[[float], object],
) -> Iterator[SealedResult]:
    """Yield each final result as it arrives; `rest` waits for a hint, for so many seconds at the most.

    What is to be heard must be listened for before this begins. See `ResultBackend.wait` for collections
    that grow.
    """
    deadline = None if timeout is None else _REAL_TIME.monotonic() + timeout
    pending = set(task_ids)
    may_grow = not isinstance(task_ids, (list, tuple, set, frozenset))
    arrived: Collection[str] = pending
    # Read before the first look, so that nothing falls between it and the second.
    asks_for_news = may_grow or len(pending) > FEW
    seen = store.horizon() if asks_for_news else 0
    while True:
        for result in store.load(list(arrived)).values():
            if result.final and result.task_id in pending:
                pending.discard(result.task_id)
                yield result
        if not pending:
            return
        pause = LOOK_AGAIN_SECONDS
        if deadline is not None:
            pause = min(pause, deadline - _REAL_TIME.monotonic())
        if pause <= 0:
            return
        rest(pause)
        if may_grow:
            pending = set(task_ids)
        arrived = pending
        if asks_for_news and len(pending) > FEW:
            newer, seen = store.final_since(seen)
            arrived = pending if newer is None else pending.intersection(newer)
