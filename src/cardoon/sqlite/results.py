"""The statements on results: the first final one of a task stays, but for a completion's."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

from cardoon.backend import SealedResult
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import batches, cut, document


def complete(transaction: Transaction, results: Iterable[SealedResult], *, now: float) -> None:
    """Keep results of completions, which decide: the latest final one replaces what lies there."""
    decided = {result.task_id: result for result in results if result.final}
    forget(transaction, decided)
    store(transaction, [*decided.values(), *results], now=now)


def store(transaction: Transaction, results: Iterable[SealedResult], *, now: float) -> None:
    """Keep results: of one task the first that is final, else the latest."""
    chosen: dict[str, SealedResult] = {}
    for result in results:
        before = chosen.get(result.task_id)
        if before is None or not before.final:
            chosen[result.task_id] = result
    kept = list(chosen.values())
    for batch, blob in batches(kept, [result.frame for result in kept]):
        ids = document([result.task_id for result in batch])
        transaction.run("results.delete_replaceable", tasks=ids, now=now)
        packed = document(
            [
                (result.task_id, result.final, result.expires_at, offset, size)
                for result, (offset, size) in zip(
                    batch, cut(result.frame for result in batch), strict=True
                )
            ]
        )
        transaction.run("results.insert", rows=packed, frames=blob)


def load(database: Database, task_ids: Collection[str], *, now: float) -> list[SealedResult]:
    """The results of those tasks that have one."""
    return [
        SealedResult(task_id, frame, bool(final), expires_at)
        for task_id, frame, final, expires_at in database.rows(
            "results.load", tasks=document(list(task_ids)), now=now
        )
    ]


def last_number(database: Database) -> int:
    """The number of the newest result."""
    (number,) = database.row("results.last")
    return int(number)


def final_since(database: Database, number: int) -> tuple[Sequence[str], int]:
    """Tasks with a final result newer than a number, and the newest number seen."""
    ids, newest = database.row("results.news", after=number)
    return json.loads(ids), number if newest is None else newest


def forget(transaction: Transaction, task_ids: Collection[str]) -> None:
    """Delete the results of those tasks."""
    transaction.run("results.forget", tasks=document(list(task_ids)))
