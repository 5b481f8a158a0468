"""The SQLite driver of the ResultBackend contract."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cardoon.arrivals import wait_for_results
from cardoon.backend import SealedResult
from cardoon.clock import Clock
from cardoon.sqlite import results
from cardoon.sqlite.database import Database, SharesDatabase
from cardoon.sqlite.location import parse_database_url
from cardoon.sqlite.posting import Records
from cardoon.sqlite.wakeups import Bell


def connect(url: str, *, clock: Clock, beside: object, timeout: float) -> SqliteBackend:
    """The result backend in the file that a `sqlite:` URL means, which may be a broker's."""
    path = parse_database_url(url, setting="result_backend")
    if isinstance(beside, SharesDatabase) and beside.database.path == path:
        return SqliteBackend(beside.database)
    return SqliteBackend(Database(path, clock=clock, timeout=timeout))


class SqliteBackend(Records):
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
        with self._database.listen(Bell.RESULTS) as listener:

            def rest(seconds: float) -> None:
                listener.wait(seconds)
                listener.drain()

            yield from wait_for_results(self, task_ids, timeout=timeout, rest=rest)

    def horizon(self) -> int:
        """What is new from now on; see `arrivals`."""
        return results.last_number(self._database)

    def final_since(self, seen: int) -> tuple[Collection[str] | None, int]:
        """Tasks with a new final result."""
        return results.final_since(self._database, seen)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the results of those tasks."""
        if not task_ids:
            return
        with self._database.write(durable=True) as transaction:
            results.forget(transaction, task_ids)

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._database.close()
