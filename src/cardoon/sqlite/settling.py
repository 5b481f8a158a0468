"""End loans: settle, store results, mark nonces, publish and hand on outcomes in one transaction.

A batch takes a fixed number of statements. It has the effect of its completions one after the
other, each of which is nothing at all when its lease was lost; only outcomes arrive last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from cardoon.backend import SealedResult
from cardoon.broker import (
    Ack,
    Cause,
    Completion,
    DeadLetter,
    Kept,
    Outcome,
    Outgoing,
    Quarantine,
    Requeue,
)
from cardoon.security.replay import Nonce
from cardoon.sqlite import dormant, limits, messages, replay, results
from cardoon.sqlite.database import Transaction
from cardoon.sqlite.statements import document
from cardoon.sqlite.wakeups import Bell


def complete(
    transaction: Transaction, completions: Sequence[Completion], *, now: float, monotonic: float
) -> list[bool]:
    """End each loan that is still held, with all that belongs to it; False for the others."""
    held = messages.hold(transaction, (each.settlement.delivery for each in completions))
    ids = {name for _, name, _ in held.values()}
    batch = _Batch(now, monotonic)
    taken = []
    for completion in completions:
        delivery = completion.settlement.delivery
        number = delivery.receipt
        loan = held.get(number) if isinstance(number, int) else None
        is_held = loan is not None and loan[0] == delivery.attempt and loan[1] == delivery.id
        taken.append(is_held)
        if isinstance(number, int) and loan is not None and is_held:
            del held[number]
            ids.discard(delivery.id)
            batch.add(number, completion)
            if loan[2] is not None:
                batch.freed.append(loan[2])
            # What a later completion ends is still stored now, so a send of its id is dropped.
            batch.publish += [message for message in completion.publish if message.id not in ids]
    batch.write(transaction)
    return taken


@dataclass(slots=True)
class _Batch:
    """What the completions of one call change, sorted by statement."""

    now: float
    monotonic: float
    ended: list[int] = field(default_factory=list)
    kept: list[tuple[int, str, str, str, str | None, int | None]] = field(default_factory=list)
    requeued: list[tuple[int, float | None, bool, bool]] = field(default_factory=list)
    results: list[SealedResult] = field(default_factory=list)
    done: list[Nonce] = field(default_factory=list)
    publish: list[Outgoing] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    freed: list[str] = field(default_factory=list)
    """Keys that may have room."""

    def add(self, number: int, completion: Completion) -> None:
        nonce = completion.nonce
        match completion.settlement:
            case Ack():
                self._end(number, nonce)
            case Requeue(cause=cause, delay=delay):
                due = self.now + delay if delay > 0 else None
                crashed, retried = cause is Cause.CRASHED, cause is Cause.RETRIED
                self.requeued.append((number, due, crashed, retried))
            case DeadLetter(reason=reason):
                self._keep(number, Kept.DEAD_LETTER, reason, "", nonce)
            case Quarantine(reason=reason, detail=detail):
                self._keep(number, Kept.QUARANTINE, reason, detail, nonce)
            case _:
                assert_never(completion.settlement)
        if completion.result is not None:
            self.results.append(completion.result)
        if completion.outcome is not None and not isinstance(completion.settlement, Requeue):
            self.outcomes.setdefault(completion.settlement.delivery.id, completion.outcome)

    def write(self, transaction: Transaction) -> None:
        self._write_ends(transaction)
        if self.results:
            results.complete(transaction, self.results, now=self.now)
        if self.done:
            replay.finish(transaction, self.done)
        if self.publish:
            messages.replace(transaction, self.publish, now=self.now, monotonic=self.monotonic)
        if self.outcomes:
            dormant.hand_on(transaction, self.outcomes, now=self.now)
        if self.requeued or self.publish:
            transaction.bells.add(Bell.MESSAGES)
        if any(result.final for result in self.results):
            transaction.bells.add(Bell.RESULTS)

    def _write_ends(self, transaction: Transaction) -> None:
        if self.kept:
            transaction.run("messages.keep", rows=document(self.kept), now=self.now)
        if self.ended:
            transaction.run("messages.delete", numbers=document(self.ended))
        if self.requeued:
            transaction.run("messages.requeue", rows=document(self.requeued))
        if self.freed:
            limits.let_go(transaction, self.freed, now=self.now)

    def _end(self, number: int, nonce: Nonce | None) -> None:
        self.ended.append(number)
        if nonce is not None:
            self.done.append(nonce)

    def _keep(
        self, number: int, place: Kept, reason: str, detail: str, nonce: Nonce | None
    ) -> None:
        session = None if nonce is None else nonce.session.hex()
        sequence = None if nonce is None else nonce.sequence
        self.kept.append(
            (number, place.value, printable(reason), printable(detail), session, sequence)
        )
        self._end(number, nonce)


def printable(text: str) -> str:
    """Text that the store can keep: what came from a refused message may hold anything."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
