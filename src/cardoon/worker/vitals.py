"""Vitals: when each part of a worker last did something, and what follows for whoever asks whether it works.

A process that is up proves nothing. So every loop leaves a sign each time it turns, and every answer of the stores one
of its own; who judges looks at how old they are. To leave a sign costs one reading of the clock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cardoon.clock import Clock

LOOP_SECONDS = 30.0
"""Without a sign for so long, a loop is stuck."""
STORE_SECONDS = 20.0
"""Without an answer of the store for so long, the worker is not ready."""
WRITING_SECONDS = 20.0
"""So long outcomes may wait to be written."""


class Loop(enum.StrEnum):
    """What turns as long as the worker works, with a sign each time."""

    POOL = "pool"
    CONSUMER = "consumer"
    KEEPER = "keeper"
    SETTLER = "settler"


class Deed(enum.StrEnum):
    """What the stores have answered."""

    CLAIM = "claim"
    """Messages were asked for; there need not have been any."""
    SETTLEMENT = "settlement"
    RENEWAL = "renewal"
    KEEPING = "keeping"
    """The keeper's round, about once a second, of which each asks the broker something."""


class Verdict(NamedTuple):
    """Whether all is well, and if not, why not."""

    reasons: tuple[str, ...]
    details: Mapping[str, Any]

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to complain of."""
        return not self.reasons


class Vitals:
    """The signs of one worker. Each is written by one thread, and read by any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loops: dict[Loop, float] = {}
        self._deeds: dict[Deed, float] = {}
        self.turns: dict[Loop, int] = dict.fromkeys(Loop, 0)
        """How often each loop has turned."""
        self._resting: set[Loop] = set()
        self.began_at = clock.monotonic()

    def turn(self, loop: Loop) -> None:
        """A loop has turned."""
        self._loops[loop] = self._clock.monotonic()
        self.turns[loop] += 1
        self._resting.discard(loop)

    def rest(self, loop: Loop) -> None:
        """A loop has nothing to do, or runs something that may take as long as it likes; until its next turn."""
        self._resting.add(loop)

    def done(self, deed: Deed) -> None:
        """A store has answered."""
        self._deeds[deed] = self._clock.monotonic()

    def age(self, deed: Deed) -> float | None:
        """Seconds since the store's last answer; None before the first."""
        at = self._deeds.get(deed)
        return None if at is None else self._clock.monotonic() - at

    def store_age(self) -> float:
        """Seconds since the broker has answered anything, or since the beginning."""
        latest = max(self._deeds.values(), default=self.began_at)
        return self._clock.monotonic() - latest

    def stalled(self) -> Iterator[tuple[Loop, float]]:
        """The loops that are expected to turn, each with the seconds since they last did."""
        now = self._clock.monotonic()
        for loop, at in list(self._loops.items()):
            if loop not in self._resting:
                yield loop, now - at

    def ages(self) -> dict[str, float | None]:
        """Seconds since each deed, for people."""
        found = {deed.value: self.age(deed) for deed in Deed}
        return {name: None if age is None else round(age, 3) for name, age in found.items()}
