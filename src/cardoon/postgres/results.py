"""The calls on results: the first final one of a task stays, but for a completion's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from cardoon.backend import SealedResult
from cardoon.postgres.connection import Call
from cardoon.postgres.database import Database
from cardoon.postgres.messages import MAX_BATCH_BYTES, MAX_BATCH_ROWS

MAX_NEWS = 20_000
"""How many ids one look takes in: more than that is slower than to ask for each."""


def store(
    database: Database, results: Iterable[SealedResult], *, then: Sequence[Call] = ()
) -> None:
    """Keep results: of one task the first that is final, else the latest."""
    chosen: dict[str, SealedResult] = {}
    for result in results:
        before = chosen.get(result.task_id)
        if before is None or not before.final:
            chosen[result.task_id] = result
    batches = list(_split(list(chosen.values())))
    calls = [Call("store_results", (database.now, *_pack(batch))) for batch in batches]
    database.attempt(lambda session: session.run(calls, then=then))


def load(database: Database, task_ids: Collection[str]) -> list[SealedResult]:
    """The results of those tasks that have one."""
    ids = list(task_ids)
    found = []
    for start in range(0, len(ids), MAX_BATCH_ROWS):
        asked = ids[start : start + MAX_BATCH_ROWS]
        found += [
            SealedResult(task_id, frame, final, expires_at)
            for task_id, frame, final, expires_at in database.call(
                "load_results", database.now, asked
            )
        ]
    return found


def horizon(database: Database) -> int:
    """What to remember of this moment: who looks from here on misses nothing."""
    number: int = database.call("horizon")[0][0]
    return number


def final_since(database: Database, seen: int) -> tuple[Sequence[str] | None, int]:
    """Tasks that may have a final result newer than a horizon, and the next horizon.

    None for the tasks where those are very many, since some transaction takes very long.
    """
    rows = database.attempt(
        lambda session: session.run(
            [
                Call("horizon"),
                Call("results_since", (seen, MAX_NEWS)),
            ]
        )
    )
    newest: int = rows[0][0][0]
    names = [name for (name,) in rows[1]]
    return (None if len(names) == MAX_NEWS else names), newest


def forget(database: Database, task_ids: Collection[str]) -> None:
    """Delete the results of those tasks."""
    database.call("forget_results", list(task_ids))


def _pack(results: Sequence[SealedResult]) -> tuple[list[object], ...]:
    return (
        [result.task_id for result in results],
        [result.final for result in results],
        [result.expires_at for result in results],
        [result.frame for result in results],
    )


def _split(results: Sequence[SealedResult]) -> Iterator[Sequence[SealedResult]]:
    start = 0
    while start < len(results):
        end, size = start, 0
        while end < min(len(results), start + MAX_BATCH_ROWS):
            size += len(results[end].frame)
            if size > MAX_BATCH_BYTES and end > start:
                break
            end += 1
        yield results[start:end]
        start = end
