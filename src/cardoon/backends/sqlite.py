"""The SQLite driver of the ResultBackend contract."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cardoon.backend import SealedResult
from cardoon.clock import Clock, SystemClock
from cardoon.sqlite import results
from cardoon.sqlite.database import Database, SharesDatabase
from cardoon.sqlite.location import parse_database_url
from cardoon.sqlite.wakeups import Bell

_LOOK_AGAIN_SECONDS = 0.5
"""Hints may be lost, so whoever waits looks at the database this often."""

_FEW = 16
"""Tasks whose results are looked for by name; for more it is asked first what is new."""

_REAL_TIME = SystemClock()


def connect(url: str, *, clock: Clock, beside: object, timeout: float) -> SqliteBackend:
    """The result backend in the file that a `sqlite:` URL means, which may be a broker's."""
    path = parse_database_url(url, setting="result_backend")
    if isinstance(beside, SharesDatabase) and beside.database.path == path:
        return SqliteBackend(beside.database)
    return SqliteBackend(Database(path, clock=clock, timeout=timeout))


class SqliteBackend:
    """Results in a database, which may be the broker's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def store(self, results_: Sequence[SealedResult]) -> None:
        """Keep results durably. The first final one of a task stays."""
        if not results_:
            return
        with self._database.write(durable=True) as transaction:
            results.store(transaction, results_, now=self._database.clock.now())
            if any(result.final for result in results_):
                transaction.bells.add(Bell.RESULTS)

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """The stored results of those tasks that have one."""
        found = results.load(self._database, task_ids, now=self._database.clock.now())
        return {result.task_id: result for result in found}

    def wait(self, task_ids: Collection[str], *, timeout: float | None) -> Iterator[SealedResult]:
        """Yield each final result as it arrives; see the contract for collections that grow."""
        deadline = None if timeout is None else _REAL_TIME.monotonic() + timeout
        pending = set(task_ids)
        may_grow = not isinstance(task_ids, (list, tuple, set, frozenset))
        arrived: Collection[str] = pending
        with self._database.listen(Bell.RESULTS) as listener:
            # Read before the first look, so that nothing falls between it and the second.
            asks_for_news = may_grow or len(pending) > _FEW
            seen = results.last_number(self._database) if asks_for_news else 0
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
                listener.wait(pause)
                listener.drain()
                if may_grow:
                    pending = set(task_ids)
                arrived = pending
                if asks_for_news and len(pending) > _FEW:
                    newer, seen = results.final_since(self._database, seen)
                    arrived = pending.intersection(newer)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the results of those tasks."""
        if not task_ids:
            return
        with self._database.write(durable=True) as transaction:
            results.forget(transaction, task_ids)

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._database.close()
