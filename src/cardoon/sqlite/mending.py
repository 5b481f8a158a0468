"""Rows that no driver writes: whoever can write the file can put anything into most of its columns.

One such row would stop every claim that meets it. So a claim that stumbles mends what it met and is made
again: an odd row gets values of the right types, and its message comes to the gate as any other, which
refuses what was not signed as it lies there. A frame that is not there is empty from then on.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from collections.abc import Iterable
from typing import Any

from cardoon.exceptions import OperationalError
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.failures import is_busy

_LOG = logging.getLogger("cardoon.sqlite")

_MOST_AT_ONCE = 1000
"""Rows of a queue that are looked at: more than any claim does at once."""


def check_row(*numbers: Any) -> None:
    """Raise `OperationalError` unless these columns of a message hold whole numbers."""
    for number in numbers:
        if type(number) is not int:
            raise OperationalError(
                f"the database holds {str(number)[:40]!r} where a number belongs; find who writes it"
            )


def may_mend(error: OperationalError) -> bool:
    """Whether odd rows may be why a claim failed: not where others were only in the way."""
    cause = error.__cause__
    return not (isinstance(cause, sqlite3.Error) and is_busy(cause))


def mend(database: Database, queues: Iterable[str]) -> int:
    """Give the odd rows at the heads of these queues values of the right types; return how many."""
    with database.write(durable=True) as transaction:
        mended = sum(_mend(transaction, queue) for queue in queues)
    if mended:
        _LOG.warning(
            "database %s: %d messages lay in rows that no driver writes; they go to the gate",
            database.path,
            mended,
        )
    return mended


def _mend(transaction: Transaction, queue: str) -> int:
    rows = transaction.rows("mending.heads", queue=queue, limit=_MOST_AT_ONCE)
    mended = 0
    for number, is_well_typed, name in rows:
        known = _read_id(name)
        if is_well_typed and known is not None:
            continue
        # Nobody was ever told the new name, so nothing can have been signed for it.
        told = f"row-{uuid.uuid4()}" if known is None else known
        transaction.run("mending.frame", number=number)
        transaction.run("mending.row", number=number, id=told)
        mended += 1
    return mended


def _read_id(name: Any) -> str | None:
    """An id as it lies there; None for one that is no text."""
    if not isinstance(name, bytes):
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
