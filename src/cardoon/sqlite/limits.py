"""Messages of which only so many may be leased at a time, or so often one.

What comes to the head of its queue while its key is closed is blocked: set to a state in which no
claim meets it. The step that makes room, or the moment that does, lets as many go as there is room
for. So a claim passes each message that has to wait once, and not each time.

`let_go` looks at what there is and not at what has just happened, so it may be called once too often.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from cardoon.broker import RATE_SLACK_SECONDS, LimitUse, Outgoing
from cardoon.exceptions import OperationalError
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import document
from cardoon.sqlite.wakeups import Bell

_EVERYTHING = -1
"""As SQLite's LIMIT says it."""


class Place:
    """What room a key has."""

    __slots__ = ("gap", "key", "most", "next_at", "running")

    def __init__(self, key: str, most: int, gap: float, next_at: float, running: int) -> None:
        self.key = key
        self.most = most
        self.gap = gap
        self.next_at = next_at
        self.running = running

    def is_too_early(self, now: float) -> bool:
        """Whether the rate allows no lease yet."""
        return self.gap > 0 and self.next_at > now

    def is_open(self, now: float) -> bool:
        """Whether one more may be leased."""
        return not self.is_too_early(now) and not 0 < self.most <= self.running

    def enter(self, now: float) -> None:
        """One more is leased."""
        self.running += 1
        if self.gap > 0:
            self.next_at = max(self.next_at, now - RATE_SLACK_SECONDS) + self.gap

    def room(self, now: float) -> int:
        """How many more may be leased, or a few more than that; negative for any number."""
        rooms = []
        if self.most > 0:
            rooms.append(max(0, self.most - self.running))
        if self.gap > 0:
            late = now - max(self.next_at, now - RATE_SLACK_SECONDS)
            rooms.append(0 if late < 0 else 2 + int(late / self.gap))
        return min(rooms, default=_EVERYTHING)


class Places:
    """The keys that one claim meets."""

    def __init__(self, transaction: Transaction, *, now: float) -> None:
        self._transaction = transaction
        self._now = now
        self._places: dict[str, Place] = {}
        self._entered: set[str] = set()

    def look_at(self, keys: Collection[str]) -> None:
        """Learn of keys what there is to know."""
        new = [key for key in keys if key not in self._places]
        if new:
            found = self._transaction.rows("limits.places", keys=document(new))
            self._places.update((row[0], Place(*row)) for row in found)

    def enter(self, key: str) -> bool:
        """Take a place for a message that is leased; False where there is none."""
        place = self._places.get(key)
        if place is None:
            raise OperationalError(f"the database has lost the limit {key[:40]!r} of messages")
        if not place.is_open(self._now):
            return False
        place.enter(self._now)
        self._entered.add(key)
        return True

    def write(self) -> None:
        """Store when the next of each key may go, and see to it that it does."""
        rated = [place for place in self._places.values() if place.gap > 0]
        for place in rated:
            if place.key in self._entered:
                self._transaction.run("limits.advance", key=place.key, next_at=place.next_at)
        let_go(self._transaction, [place.key for place in rated], now=self._now)


def note(transaction: Transaction, sent: Sequence[tuple[int, Outgoing]]) -> set[str]:
    """Limit messages that were inserted under these numbers; return the keys whose limit changed."""
    rows = [
        (number, limit.key, limit.most, limit.gap)
        for number, message in sent
        if (limit := message.limit) is not None
    ]
    if not rows:
        return set()
    transaction.run("limits.mark", rows=document(rows))
    changed = transaction.run("limits.set", rows=document(rows))
    return {key for _, key, *_ in rows} if changed else set()


def block(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Put ready messages out of the way."""
    transaction.run("limits.block", numbers=document(numbers))


def let_go(transaction: Transaction, keys: Collection[str], *, now: float) -> None:
    """Make ready what there is room for, or set the time at which there will be."""
    if not keys:
        return
    found = transaction.rows("limits.lines", keys=document([*dict.fromkeys(keys)]))
    ready: list[int] = []
    closed: list[str] = []
    for *told, queue in found:
        place = Place(*told)
        if place.is_too_early(now):
            closed.append(place.key)
        elif room := place.room(now):
            (first,) = transaction.row("limits.first", key=place.key, queue=queue, limit=room)
            ready += json.loads(first)
    if ready:
        transaction.run("limits.unblock", numbers=document(ready))
        transaction.bells.add(Bell.MESSAGES)
    if closed:
        transaction.run("limits.set_timers", keys=document(closed))


def let_go_on_time(transaction: Transaction, *, now: float) -> None:
    """Make ready what had to wait for this moment."""
    (due,) = transaction.row("limits.due", now=now)
    if keys := json.loads(due):
        transaction.run("limits.stop_timers", keys=document(keys))
        let_go(transaction, keys, now=now)


def measure(
    database: Database, ready: Counter[str], due: dict[str, float], *, now: float
) -> Counter[str]:
    """How many messages are held back in each queue; corrects what was counted as ready."""
    limited: Counter[str] = Counter()
    waiting = database.rows("limits.waiting", now=now)
    if not waiting:
        return limited
    closed = {place.key for place in _closed(database, {row[1] for row in waiting}, now=now)}
    touched = set()
    for queue, key, state, count in waiting:
        if key in closed:
            limited[queue] += count
            ready[queue] -= 0 if state == 4 else count
            touched.add(queue)
        elif state == 4:
            ready[queue] += count
            touched.add(queue)
    for queue in touched:
        keys = document([*closed])
        (oldest,) = database.row("limits.oldest", queue=queue, keys=keys, now=now)
        due[queue] = now if oldest is None else oldest
    return limited


def show(database: Database, *, now: float) -> list[LimitUse]:
    """The keys that hold messages back, those with the most waiting first."""
    waiting: defaultdict[str, int] = defaultdict(int)
    for _, key, _, count in database.rows("limits.waiting", now=now):
        waiting[key] += count
    uses = [
        LimitUse(
            key=place.key,
            most=place.most,
            gap=place.gap,
            running=place.running,
            waiting=waiting[place.key],
            opens_in=place.next_at - now if place.is_too_early(now) else None,
        )
        for place in _closed(database, waiting, now=now)
    ]
    return sorted(uses, key=lambda use: (-use.waiting, use.key))


def _closed(database: Database, keys: Collection[str], *, now: float) -> list[Place]:
    places = [Place(*row) for row in database.rows("limits.places", keys=document([*keys]))]
    return [place for place in places if not place.is_open(now)]
