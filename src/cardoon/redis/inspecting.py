"""What people look at: how deep queues are, what limits hold back, dead letters and the quarantine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cardoon.broker import Kept, KeptMessage, LimitUse, QueueDepth
from cardoon.redis.failures import understood
from cardoon.redis.store import Store

PLACES = {Kept.DEAD_LETTER: "D", Kept.QUARANTINE: "Q"}
"""As scripts name them."""

_MOST_AT_ONCE = 500
_MOST_BYTES_AT_ONCE = 32 * 2**20


class Line(NamedTuple):
    """What waits in one queue with one limit."""

    key: str
    due: int
    scheduled: int
    is_open: bool
    earliest: float | None
    most: int
    gap: float
    running: int
    next_at: float


@dataclass(slots=True)
class _Tally:
    ready: int
    scheduled: int
    dormant: int
    leased: int
    limited: int = 0
    due: list[float] = field(default_factory=list)
    """When the first of each kind of ready message was due."""


def measure(store: Store) -> list[QueueDepth]:
    """The depth of every queue, by name."""
    depths = []
    now, rows = store.run("depths", ())
    for name, ready, scheduled, dormant, leased, oldest, is_declared in rows:
        queue = name.decode()
        tally = _Tally(ready, scheduled, dormant, leased)
        if oldest:
            tally.due.append(float(oldest))
        for line, _ in _lines(store, queue):
            tally.scheduled += line.scheduled
            if not line.is_open:
                tally.limited += line.due
            elif line.due and line.earliest is not None:
                tally.ready += line.due
                tally.due.append(line.earliest)
        if is_declared or any((tally.ready, tally.scheduled, dormant, leased, tally.limited)):
            age = max(0.0, float(now) - min(tally.due)) if tally.due else None
            depths.append(
                QueueDepth(
                    queue=queue,
                    ready=tally.ready,
                    scheduled=tally.scheduled,
                    dormant=dormant,
                    leased=leased,
                    oldest=age,
                    limited=tally.limited,
                )
            )
    return sorted(depths, key=lambda depth: depth.queue)


def show_limits(store: Store, *, limit: int) -> list[LimitUse]:
    """The keys that hold messages back, those with the most waiting first."""
    waiting: defaultdict[str, int] = defaultdict(int)
    closed: dict[str, tuple[Line, float]] = {}
    _, rows = store.run("depths", ())
    for name, *_ in rows:
        for line, now in _lines(store, name.decode()):
            if not line.is_open and line.due:
                waiting[line.key] += line.due
                closed[line.key] = line, now
    uses = [
        LimitUse(
            key=key,
            most=line.most,
            gap=line.gap,
            running=line.running if line.most else 0,
            waiting=waiting[key],
            opens_in=line.next_at - now if line.next_at > now else None,
        )
        for key, (line, now) in closed.items()
    ]
    return sorted(uses, key=lambda use: (-use.waiting, use.key))[:limit]


def show(store: Store, where: Kept, *, limit: int, after: int) -> list[KeptMessage]:
    """Kept messages by number, from the one behind `after`."""
    found: list[KeptMessage] = []
    while len(found) < limit:
        most = min(limit - len(found), _MOST_AT_ONCE)
        rows = store.run("kept", (PLACES[where], after, most, _MOST_BYTES_AT_ONCE))
        if not rows:
            break
        with understood(store.place):
            found += map(_kept, rows)
        after = found[-1].number
    return found


def in_steps(
    store: Store, script: str, arguments: Sequence[str], *, at_once: int = _MOST_AT_ONCE
) -> int:
    """Have a script delete so many at a time, until it finds no more; return how many."""
    deleted = 0
    while True:
        count: int = store.run(script, (*arguments, at_once))
        deleted += count
        if count < at_once:
            return deleted


def _lines(store: Store, queue: str) -> Iterator[tuple[Line, float]]:
    """What takes turns in a queue, each with the time at which it was looked at."""
    cursor = b"0"
    seen = set()
    while True:
        cursor, now, rows = store.run("lines", (queue, cursor))
        for key, due, scheduled, is_open, earliest, most, gap, running, next_at in rows:
            if key in seen:
                continue  # a scan may tell something twice
            seen.add(key)
            line = Line(
                key.decode(),
                due,
                scheduled,
                bool(is_open),
                float(earliest) if earliest else None,
                most,
                float(gap),
                running,
                float(next_at),
            )
            yield line, float(now)
        if cursor == b"0":
            return


def _kept(row: Sequence[Any]) -> KeptMessage:
    queue, name, reason, detail, kept_at, attempt, crashes, retries, number, frame = row
    return KeptMessage(
        number=int(number),
        queue=queue.decode(),
        id=name.decode(),
        reason=reason.decode(),
        detail=detail.decode(),
        kept_at=float(kept_at),
        frame=frame,
        attempt=int(attempt or 0),
        crashes=int(crashes or 0),
        retries=int(retries or 0),
    )
