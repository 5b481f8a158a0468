"""Autoscaling: a pool that follows its load, between two bounds.

It grows while every place is taken and something waits, here or in the queues, by half of what it is; it shrinks by
one a second, once a place has been free for half a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cardoon.clock import Clock
from cardoon.exceptions import InvalidTaskError
from cardoon.worker.sizing import Resizable

logger = logging.getLogger(__name__)

KEEPALIVE = 30.0
"""Seconds for which a place must have been free before the pool shrinks; as in Celery."""


class Autoscaler:
    """A chore of the keeper's: looks once a second. `backlog` says how much waits in the worker's queues."""

    def __init__(
        self,
        pool: object,
        *,
        backlog: Callable[[], int],
        clock: Clock,
        keepalive: float = KEEPALIVE,
    ) -> None:
        self._pool = pool
        self._backlog = backlog
        self._clock = clock
        self._keepalive = keepalive
        self.bounds: tuple[int, int] | None = None
        """The fewest and the most tasks at a time; None while the size stays as it is."""
        self._full_at = clock.monotonic()

    def follow(self, least: int, most: int) -> None:
        """Follow the load between these from now on; `InvalidTaskError` where that cannot be."""
        if not 1 <= least <= most:
            raise InvalidTaskError(
                f"autoscale: from {least} to {most} tasks at a time; give max >= min >= 1"
            )
        pool = self._resizable()
        self.bounds = (least, most)
        size = min(most, max(least, pool.size))
        if size != pool.size:
            pool.resize(size)

    def stay(self) -> None:
        """Leave the size as it is from now on."""
        self.bounds = None

    def look(self) -> None:
        """Grow or shrink, if it is time to."""
        bounds, pool, now = self.bounds, self._pool, self._clock.monotonic()
        if bounds is None or not isinstance(pool, Resizable):
            return
        least, most = bounds
        busy = sum(1 for one in pool.placements().values() if one.begun is not None)
        if busy >= pool.size:
            self._full_at = now
            if pool.size < most and (waiting := pool.waiting + self._backlog()):
                more = min(most - pool.size, max(1, pool.size // 2), waiting)
                logger.info("autoscale: %d more tasks at a time; %d wait", more, waiting)
                pool.resize(pool.size + more)
        elif pool.size > least and now - self._full_at >= self._keepalive:
            logger.info("autoscale: one task fewer at a time; %d run", busy)
            pool.resize(pool.size - 1)

    def end(self) -> None:
        """Nothing is left to do."""

    def _resizable(self) -> Resizable:
        if not isinstance(self._pool, Resizable):
            raise InvalidTaskError(NOT_RESIZABLE)
        return self._pool


NOT_RESIZABLE = "the pool solo runs one task at a time; start the worker with another -P"
