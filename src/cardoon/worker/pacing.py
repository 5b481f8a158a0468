"""How many jobs to hand to a process before it asks: arithmetic only."""

from __future__ import annotations

HORIZON = 0.02
"""Seconds of work that may wait in a process. More than a claim and a commit take, so that a process
with short tasks never idles; little enough that a job is never far from another free process."""
MAX_DEPTH = 128
_WEIGHT = 0.1
_LONGEST = 3600.0
"""Seconds; run times are told by processes that are not trusted, and may be infinite."""


class Pace:
    """Moving average of run times, and the depth of the pipeline that follows from it."""

    def __init__(self, limit: int = MAX_DEPTH, *, horizon: float = HORIZON) -> None:
        self._average: float | None = None
        self._limit = limit
        self._horizon = horizon
        self.depth = 1
        """Jobs for each slot: the running one, and those that may wait behind it."""

    def observe(self, runtime: float) -> None:
        """A job took `runtime` seconds. Slowness is believed at once, speed by and by."""
        runtime = min(_LONGEST, max(1e-6, runtime))
        if self._average is None or runtime > 8 * self._average:
            self._average = runtime
        else:
            self._average += _WEIGHT * (runtime - self._average)
        self.depth = max(1, min(self._limit, int(self._horizon / self._average)))
