"""The PostgreSQL driver of the ResultBackend contract."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cardoon.arrivals import wait_for_results
from cardoon.backend import SealedResult
from cardoon.clock import Clock
from cardoon.endpoints import PLAIN_ACCESS, Access
from cardoon.postgres import results
from cardoon.postgres.database import Database, SharesPostgres
from cardoon.postgres.location import locate
from cardoon.postgres.posting import Records
from cardoon.postgres.wakeups import Bell, hints


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


class PostgresBackend(Records):
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
        with self._database.wakeups.listen(Bell.RESULTS) as ear:
            yield from wait_for_results(self, task_ids, timeout=timeout, rest=ear.wait)

    def horizon(self) -> int:
        """What is new from now on; see `arrivals`."""
        return results.horizon(self._database)

    def final_since(self, seen: int) -> tuple[Collection[str] | None, int]:
        """Tasks that may have a new final result."""
        return results.final_since(self._database, seen)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the results of those tasks."""
        if task_ids:
            results.forget(self._database, task_ids)

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._database.close()
