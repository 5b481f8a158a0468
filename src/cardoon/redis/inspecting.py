"""What people look at: how deep queues are, what limits hold back, dead letters and the quarantine."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cardoon.broker import Kept, KeptMessage, LimitUse, QueueDepth
from cardoon.quarantine import Fill
from cardoon.redis.failures import understood
from cardoon.redis.packing import read_count
from cardoon.redis.store import Store
from cardoon.redis.subscribers import names

PLACES = {Kept.DEAD_LETTER: "D", Kept.QUARANTINE: "Q"}
"""As scripts name them."""

_MOST_AT_ONCE = 500
_QUEUES_AT_ONCE = 200
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
    ready: int = 0
    scheduled: int = 0
    dormant: int = 0
    leased: int = 0
    limited: int = 0
    ages: list[float] = field(default_factory=list)
    """Of the first of each kind of ready message."""

    @property
    def is_full(self) -> bool:
        return any((self.ready, self.scheduled, self.dormant, self.leased, self.limited))


def measure(store: Store) -> list[QueueDepth]:
    """The depth of every queue, by name."""
    told = names(store)
    live = Counter(told.broadcasts[queue] for queue in told.live if queue in told.broadcasts)
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    for now, row in _rows(store, told.queues):
        queue, ready, scheduled, dormant, leased, oldest, has_lines = row
        tally = tallies[told.broadcasts.get(queue, queue)]
        tally.ready += ready
        tally.scheduled += scheduled
        tally.dormant += dormant
        tally.leased += leased
        if oldest:
            tally.ages.append(now - float(oldest))
        for line, seen_at in _lines(store, queue) if has_lines else ():
            tally.scheduled += line.scheduled
            if not line.is_open:
                tally.limited += line.due
            elif line.due and line.earliest is not None:
                tally.ready += line.due
                tally.ages.append(seen_at - line.earliest)
    full = {queue for queue, tally in tallies.items() if tally.is_full}
    return [
        QueueDepth(
            queue=queue,
            ready=(tally := tallies[queue]).ready,
            scheduled=tally.scheduled,
            dormant=tally.dormant,
            leased=tally.leased,
            oldest=max(0.0, *tally.ages) if tally.ages else None,
            limited=tally.limited,
            paused=queue in told.resting,
            subscribers=live[queue],
        )
        for queue in sorted(full.union(told.declared, told.resting, live))
    ]


def show_limits(store: Store, *, limit: int) -> list[LimitUse]:
    """The keys that hold messages back, those with the most waiting first."""
    waiting: defaultdict[str, int] = defaultdict(int)
    closed: dict[str, tuple[Line, float]] = {}
    for _, (queue, *_, has_lines) in _rows(store, names(store).queues):
        for line, now in _lines(store, queue) if has_lines else ():
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
            found += map(read_kept, rows)
        after = found[-1].number
    return found


def fills(store: Store) -> list[Fill]:
    """How much lies in the quarantine for each reason."""
    [told] = store.ask_many([("HGETALL", store.key("quarantined"))])
    with understood(store.place):
        amounts = {name: int(amount) for name, amount in zip(told[::2], told[1::2], strict=True)}
        return [
            Fill(name[2:].decode(), count, amounts[b"b:" + name[2:]])
            for name, count in amounts.items()
            if name.startswith(b"n:")
        ]


def thin_out(store: Store, reason: str, *, messages: int, bytes: int) -> Fill:
    """Delete the oldest of a reason until at most so much is left, or many; return what is gone."""
    gone, freed = store.run("thin_out", (reason, messages, bytes, _MOST_AT_ONCE))
    return Fill(reason, int(gone), int(freed))


def purge(store: Store, queues: Sequence[str]) -> int:
    """Delete what waits in queues; return how many."""
    return sum(
        in_steps(store, "purge", queues[start : start + _QUEUES_AT_ONCE])
        for start in range(0, len(queues), _QUEUES_AT_ONCE)
    )


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


def _rows(store: Store, queues: Sequence[str]) -> Iterator[tuple[float, tuple[Any, ...]]]:
    """What lies in each of these queues but for what takes turns, and when it was looked at."""
    for start in range(0, len(queues), _QUEUES_AT_ONCE):
        now, rows = store.run("depths", queues[start : start + _QUEUES_AT_ONCE])
        for name, *counts in rows:
            yield float(now), (name.decode(), *counts)


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


def read_kept(row: Sequence[Any]) -> KeptMessage:
    """A kept message, as scripts tell of it."""
    queue, name, reason, detail, kept_at, attempt, crashes, retries, number, frame = row
    return KeptMessage(
        number=int(number),
        queue=_shown(queue),
        id=_shown(name),
        reason=_shown(reason),
        detail=_shown(detail),
        kept_at=float(kept_at),
        frame=frame,
        attempt=read_count(attempt),
        crashes=read_count(crashes),
        retries=read_count(retries),
    )


def _shown(text: bytes) -> str:
    """Text for people. What others have written may be none, and must not hide what lies beside it."""
    return text.decode(errors="backslashreplace")
