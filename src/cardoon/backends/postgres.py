"""The PostgreSQL driver of the ResultBackend contract."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cardoon.backend import SealedResult
from cardoon.clock import Clock, SystemClock
from cardoon.endpoints import PLAIN_ACCESS, Access
from cardoon.postgres import results
from cardoon.postgres.database import Database, SharesPostgres
from cardoon.postgres.location import locate
from cardoon.postgres.wakeups import Bell, hints

_LOOK_AGAIN_SECONDS = 0.5
"""Hints may be lost, so whoever waits looks at the tables this often."""

_FEW = 16
"""Tasks whose results are looked for by name; for more it is asked first what is new."""

_REAL_TIME = SystemClock()


def connect(
    url: str,
    *,
    clock: Clock,
    beside: object,
    timeout: float,
    access: Access = PLAIN_ACCESS,
    transport: Mapping[str, object] | None = None,
) -> PostgresBackend:
    """The result backend in the database that a `postgresql:` URL means, which may be a broker's."""
    location = locate(url, setting="result_backend", access=access, transport=transport)
    if isinstance(beside, SharesPostgres) and beside.postgres.location == location:
        return PostgresBackend(beside.postgres)
    return PostgresBackend(Database(location, clock=clock, timeout=timeout))


class PostgresBackend:
    """Results in a database, which may be the broker's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def store(self, results_: Sequence[SealedResult]) -> None:
        """Keep results durably. The first final one of a task stays."""
        if results_:
            is_news = any(result.final for result in results_)
            bells = hints(self._database.location.schema, Bell.RESULTS) if is_news else ()
            results.store(self._database, results_, then=bells)

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """The stored results of those tasks that have one."""
        return {result.task_id: result for result in results.load(self._database, task_ids)}

    def wait(self, task_ids: Collection[str], *, timeout: float | None) -> Iterator[SealedResult]:
        """Yield each final result as it arrives; see the contract for collections that grow."""
        deadline = None if timeout is None else _REAL_TIME.monotonic() + timeout
        pending = set(task_ids)
        may_grow = not isinstance(task_ids, (list, tuple, set, frozenset))
        arrived: Collection[str] = pending
        with self._database.wakeups.listen(Bell.RESULTS) as ear:
            # Read before the first look, so that nothing falls between it and the second.
            asks_for_news = may_grow or len(pending) > _FEW
            seen = results.horizon(self._database) if asks_for_news else 0
            while True:
                for result in self.load(list(arrived)).values():
                    if result.final and result.task_id in pending:
                        pending.discard(result.task_id)
                        yield result
                if not pending:
                    return
                pause = _LOOK_AGAIN_SECONDS
                if deadline is not None:
                    pause = min(pause, deadline - _REAL_TIME.monotonic())
                if pause <= 0:
                    return
                ear.wait(pause)
                if may_grow:
                    pending = set(task_ids)
                arrived = pending
                if asks_for_news and len(pending) > _FEW:
                    newer, seen = results.final_since(self._database, seen)
                    arrived = pending if newer is None else pending.intersection(newer)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the results of those tasks."""
        if task_ids:
            results.forget(self._database, task_ids)

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._database.close()
