"""Take back what the dead and the silent held, wake strays, and delete what has expired."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cardoon.sqlite import dormant, limits, subscribers
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.presence import Life, Presence
from cardoon.sqlite.statements import document
from cardoon.sqlite.wakeups import Bell

FIRST_PAUSE_SECONDS = 1.0
LATER_PAUSE_SECONDS = 10.0
"""How long a message rests after the first crash of its process, and after later ones."""

MAX_EXPIRED_AT_ONCE = 1000
"""How many expired rows of a kind one call deletes, so that nobody waits long for its end."""


class Owner(NamedTuple):
    """Who may hold leases."""

    number: int
    name: str
    boot: str


def is_anything_overdue(database: Database, *, now: float, monotonic: float) -> bool:
    """Whether a lease has run out, something has expired or is to be looked at; one look, no lock."""
    (found,) = database.row("upkeep.overdue", monotonic=monotonic, now=now)
    return bool(found)


def find_dead(database: Database, presence: Presence, *, boot: str) -> list[Owner]:
    """Owners whose process is gone, or whose host has been restarted since."""
    owners = [Owner._make(row) for row in database.rows("upkeep.owners")]
    return [
        owner for owner in owners if owner.boot != boot or presence.look(owner.name) is Life.DEAD
    ]


def tidy(database: Database, dead: Sequence[Owner], *, now: float, monotonic: float) -> int:
    """Do all that is due, and return how many messages were taken back."""
    looked_at, strays = dormant.look_for_strays(database, now=now)
    with database.write(durable=False) as transaction:
        dormant.wake_strays(transaction, looked_at, strays, now=now)
        return _tidy(transaction, dead, now=now, monotonic=monotonic)


def load_boot_id() -> str:
    """What names the time since the host was started; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _tidy(transaction: Transaction, dead: Sequence[Owner], *, now: float, monotonic: float) -> int:
    pauses = {"first_pause": FIRST_PAUSE_SECONDS, "later_pause": LATER_PAUSE_SECONDS}
    numbers = document([owner.number for owner in dead])
    (freed,) = transaction.row("limits.of_lost", monotonic=monotonic, owners=numbers)
    taken_back = transaction.run("upkeep.take_back_dead", owners=numbers, now=now, **pauses)
    taken_back += transaction.run("upkeep.take_back_silent", monotonic=monotonic, now=now, **pauses)
    limits.let_go(transaction, json.loads(freed), now=now)
    transaction.run("upkeep.bury", owners=numbers)
    transaction.run("upkeep.purge_results", now=now, limit=MAX_EXPIRED_AT_ONCE)
    transaction.run("upkeep.purge_replay", now=now, limit=MAX_EXPIRED_AT_ONCE)
    transaction.run("upkeep.purge_broadcasts", now=now)
    transaction.run("upkeep.purge_posts", now=now, limit=MAX_EXPIRED_AT_ONCE)
    transaction.run("posting.forget", now=now)
    transaction.run("upkeep.purge_bounds", now=now, limit=MAX_EXPIRED_AT_ONCE)
    transaction.run("upkeep.purge_recent", now=now, limit=MAX_EXPIRED_AT_ONCE)
    if queues := subscribers.over(transaction, now=monotonic):
        subscribers.tidy_up(transaction, queues, now=monotonic, limit=MAX_EXPIRED_AT_ONCE)
    if taken_back:
        transaction.bells.add(Bell.MESSAGES)
    return taken_back
