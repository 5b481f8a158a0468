"""Time that moves when it is told to."""

from __future__ import annotations

import math
import threading

START = 1_700_000_000.0
"""An arbitrary moment, in whole seconds so that sums of whole seconds are exact."""


class FakeClock:
    """Both clocks of `cardoon.clock.Clock`, moved by `advance`. Safe from threads."""

    def __init__(self, now: float = START) -> None:
        self._start = now
        self._passed = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass; raises `ValueError` for less than nothing."""
        if seconds < 0:
            raise ValueError(f"time cannot pass backwards, by {seconds} seconds")
        with self._lock:
            self._passed += seconds

    def advance_to(self, moment: float) -> None:
        """Let time pass until `moment`, in seconds since the epoch; nothing if that has passed."""
        with self._lock:
            self._passed = max(self._passed, moment - self._start)
            while self.now() < moment:  # the difference was rounded
                self._passed = math.nextafter(self._passed, math.inf)
