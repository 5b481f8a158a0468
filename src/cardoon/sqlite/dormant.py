"""Messages that wait for others to end: lay them down, tell them, wake them, hand over what came.

An outcome is stored once and only while somebody waits for it, so that each message is told of each
predecessor once, however often that is delivered. What has to be done for one that is told depends
on one small row, and never on how many others it waits for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cardoon.broker import MAX_INPUT_BYTES, STRAY_GRACE_SECONDS, Input, Outcome, Outgoing, Trigger
from cardoon.exceptions import OperationalError
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ROWS,
    batches,
    cut,
    document,
)
from cardoon.sqlite.wakeups import Bell

_LOOK_AGAIN_SECONDS = 50.0
"""How often to see whether a message waits for one that is nowhere; the contract gives a minute."""

MAX_LOOKS = 1000
MAX_INPUTS_LOOKED_AT = 20_000
"""Messages and their inputs that one look goes through: some ten milliseconds, without a lock."""


def lay_down(transaction: Transaction, sent: Sequence[tuple[int, Outgoing]], *, now: float) -> None:
    """Make messages dormant that were inserted under these numbers, and tell them what is known."""
    packed = document(
        [
            (
                number,
                len(message.after),
                message.trigger is Trigger.FAILURE,
                0.0 if message.run_at is None else message.run_at,
                message.delay,
            )
            for number, message in sent
        ]
    )
    inputs = [
        (number, position, predecessor.id, predecessor.request.hex())
        for number, message in sent
        for position, predecessor in enumerate(message.after)
    ]
    transaction.run("dormant.lay_down", rows=packed)
    transaction.run("dormant.insert", rows=packed, look_at=now + STRAY_GRACE_SECONDS)
    for start in range(0, len(inputs), MAX_BATCH_ROWS):
        rows = document(inputs[start : start + MAX_BATCH_ROWS])
        transaction.run("dormant.insert_inputs", rows=rows)
    (known,) = transaction.row("dormant.known", numbers=document([number for number, _ in sent]))
    if told := json.loads(known):
        changes = _Changes()
        for number, missing, on_failure, succeeded, skipped in told:
            changes.tell(
                number,
                missing=missing,
                on_failure=on_failure,
                succeeded=succeeded,
                skipped=skipped,
            )
        changes.write(transaction, now=now)


def hand_on(transaction: Transaction, outcomes: Mapping[str, Outcome], *, now: float) -> None:
    """Keep outcomes for those that wait for them, and wake who has waited for long enough."""
    ids = list(outcomes)
    (found,) = transaction.row("dormant.successors", ids=document(ids))
    if not (told := json.loads(found)):
        return
    changes = _Changes()
    for index, number, missing, on_failure in told:
        if missing is not None:
            outcome = outcomes[ids[index]]
            changes.tell(
                number,
                missing=missing,
                on_failure=on_failure,
                succeeded=outcome.succeeded,
                skipped=outcome.skipped,
            )
    wanted = dict.fromkeys(
        ids[index] for index, number, *_ in told if number not in changes.dropped
    )
    _keep(transaction, [(name, outcomes[name]) for name in wanted])
    changes.write(transaction, now=now)


def inputs_of(transaction: Transaction, numbers: Sequence[int]) -> Mapping[int, Sequence[Input]]:
    """What each of these messages has waited for, with the frames as far as there are any."""
    (found,) = transaction.row("dormant.inputs", numbers=document(numbers))
    rows: list[tuple[int, str, str, int | None]] = json.loads(found)
    carried: Counter[int] = Counter()
    sizes: list[int | None] = []
    for number, _, _, size in rows:
        fits = size is not None and carried[number] + size <= MAX_INPUT_BYTES
        sizes.append(size if fits else None)
        carried[number] += size if size is not None and fits else 0
    wanted = [(row[1], size) for row, size in zip(rows, sizes, strict=True) if size is not None]
    frames = _frames(transaction, wanted)
    inputs: dict[int, list[Input]] = {number: [] for number in numbers}
    for (number, name, request, _), size in zip(rows, sizes, strict=True):
        frame = None if size is None else next(frames)
        inputs[number].append(Input(name, bytes.fromhex(request), frame))
    return inputs


def look_for_strays(database: Database, *, now: float) -> tuple[Sequence[int], Sequence[int]]:
    """Dormant messages that were looked at, and those of them that wait for one that is nowhere."""
    (due,) = database.row("dormant.to_look_at", now=now, limit=MAX_LOOKS)
    looked_at: list[int] = []
    inputs = 0
    for number, count in json.loads(due):
        inputs += count
        if inputs > MAX_INPUTS_LOOKED_AT and looked_at:
            break
        looked_at.append(number)
    if not looked_at:
        return [], []
    (strays,) = database.row("dormant.strays", numbers=document(looked_at))
    return looked_at, json.loads(strays)


def wake_strays(
    transaction: Transaction, looked_at: Sequence[int], strays: Sequence[int], *, now: float
) -> None:
    """Wake those that still wait for one that is nowhere; look at the others again later."""
    if strays:
        # Since they were looked at, somebody may have sent what was missing.
        (found,) = transaction.row("dormant.strays", numbers=document(strays))
        changes = _Changes(closed=set(json.loads(found)))
        changes.write(transaction, now=now)
    if looked_at:
        later = now + _LOOK_AGAIN_SECONDS
        transaction.run("dormant.look_again", numbers=document(looked_at), look_at=later)


@dataclass(slots=True)
class _Changes:
    """What becomes of dormant messages that are told of outcomes, one after the other."""

    arrived: Counter[int] = field(default_factory=Counter)
    woken: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    """Woken although they cannot run, and so without delay."""
    dropped: set[int] = field(default_factory=set)

    def tell(
        self, number: int, *, missing: int, on_failure: bool, succeeded: bool, skipped: bool
    ) -> None:
        if number in self.woken or number in self.closed or number in self.dropped:
            return
        if on_failure:
            (self.dropped if succeeded or skipped else self.woken).add(number)
        elif not succeeded:
            self.closed.add(number)
        else:
            self.arrived[number] += 1
            if self.arrived[number] == missing:
                self.woken.add(number)

    def write(self, transaction: Transaction, *, now: float) -> None:
        up = self.woken | self.closed
        counted = [pair for pair in self.arrived.items() if pair[0] not in up]
        if counted:
            transaction.run("dormant.count_down", rows=document(counted))
        if self.woken:
            transaction.run("dormant.wake", numbers=document([*self.woken]), now=now)
        if self.closed:
            transaction.run("dormant.wake_at_once", numbers=document([*self.closed]), now=now)
        if up:
            transaction.run("dormant.forget", numbers=document([*up]))
            transaction.bells.add(Bell.MESSAGES)
        if self.dropped:
            (doomed,) = transaction.row("dormant.doomed", numbers=document([*self.dropped]))
            transaction.run("messages.delete", numbers=doomed)


def _keep(transaction: Transaction, outcomes: Sequence[tuple[str, Outcome]]) -> None:
    for batch, blob in batches(outcomes, [outcome.frame for _, outcome in outcomes]):
        parts = cut(outcome.frame for _, outcome in batch)
        rows = [
            (name, outcome.succeeded, outcome.skipped, offset, size)
            for (name, outcome), (offset, size) in zip(batch, parts, strict=True)
        ]
        transaction.run("dormant.insert_outcomes", rows=document(rows), frames=blob)


def _frames(transaction: Transaction, wanted: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """The frames of outcomes of known sizes, so many at once as one statement may carry."""
    start = 0
    while start < len(wanted):
        end, total = start, 0
        while end < len(wanted) and (end == start or total + wanted[end][1] <= MAX_BATCH_BYTES):
            total += wanted[end][1]
            end += 1
        names = document([name for name, _ in wanted[start:end]])
        (blob,) = transaction.row("dormant.frames", predecessors=names)
        if len(blob or b"") != total:
            raise OperationalError("the database has lost the frames of results; restore it")
        position = 0
        for _, size in wanted[start:end]:
            yield (blob or b"")[position : position + size]
            position += size
        start = end
