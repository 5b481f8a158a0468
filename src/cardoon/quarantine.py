"""The quarantine within bounds: how full it is, and what goes when it is too full.

Anybody who reaches a queue can have as much refused as he likes. So of what is kept for people the oldest
goes, and of several reasons the one of which there is the most: a flood of one kind pushes out itself, and not
the few of another kind that tell what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from cardoon.exceptions import Refusal

SPARED = frozenset({Refusal.BEFORE_EPOCH.value})
"""Reasons whose messages are genuine, each there once, and may be needed: they go only when somebody says so."""


_MOST_STEPS = 1000
"""Calls for one reason; more than enough, unless others put away as fast as this deletes."""


class Bounds(NamedTuple):
    """How much may lie in the quarantine, without what is spared."""

    messages: int
    bytes: int
    """Of their frames together."""


class Fill(NamedTuple):
    """Some of what lies, or lay, in the quarantine."""

    reason: str
    messages: int
    bytes: int


@runtime_checkable
class Quarantining(Protocol):
    """A broker whose quarantine can be measured and thinned out."""

    def quarantined(self) -> Sequence[Fill]:
        """How much lies in the quarantine for each reason, in no order; cheap, however much that is."""
        ...

    def thin_out(self, reason: str, *, messages: int, bytes: int) -> Fill:
        """Delete the oldest of a reason until at most so much of it is left, or many; return what is gone.

        Nothing is gone when no more than that is left.
        """
        ...


def total(fills: Sequence[Fill]) -> Fill:
    """All together, without what is spared."""
    counted = [fill for fill in fills if fill.reason not in SPARED]
    return Fill("", sum(fill.messages for fill in counted), sum(fill.bytes for fill in counted))


def find_excess(fills: Sequence[Fill], bounds: Bounds) -> list[Fill]:
    """The reasons of which there is too much, each with how much of it may stay."""
    counted = [fill for fill in fills if fill.reason not in SPARED]
    messages = _level([fill.messages for fill in counted], bounds.messages)
    size = _level([fill.bytes for fill in counted], bounds.bytes)
    return [
        Fill(fill.reason, min(fill.messages, messages), min(fill.bytes, size))
        for fill in counted
        if fill.messages > messages or fill.bytes > size
    ]


def thin_out(broker: Quarantining, excess: Sequence[Fill]) -> list[Fill]:
    """Leave no more of some reasons than that; return what is gone.

    Others may do so at the same time, and together they delete no more than one alone would.
    """
    gone = []
    for stays in excess:
        messages = size = 0
        for _ in range(_MOST_STEPS):
            step = broker.thin_out(stays.reason, messages=stays.messages, bytes=stays.bytes)
            if not step.messages:
                break
            messages += step.messages
            size += step.bytes
        if messages:
            gone.append(Fill(stays.reason, messages, size))
    return gone


def _level(amounts: Sequence[int], most: int) -> int:
    """The level at which to cut all amounts off so that they come to at most `most`."""
    left = most
    for index, amount in enumerate(sorted(amounts)):
        share = left // (len(amounts) - index)
        if amount > share:
            return share
        left -= amount
    return max(amounts, default=0)
