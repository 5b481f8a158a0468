"""Where time comes from. Nothing else in Cardoon asks the operating system for it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that people share, one that only measures."""

    def now(self) -> float:
        """Seconds since the epoch, as signed into messages."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never set back; for durations and deadlines."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()
