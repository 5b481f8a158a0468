"""When something that failed is tried again: a task, or a publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from cardoon.clock import Clock
from cardoon.exceptions import OperationalError

R = TypeVar("R")

NO_LIMIT = (1 << 31) - 1
"""Signed as `max_retries` for a task that may retry for ever: the largest that claims can say."""


def backoff_delay(
    factor: float, retries: int, *, maximum: float, jitter: Callable[[], float] | None
) -> float:
    """Seconds until retry number `retries` (from 0): `factor * 2**retries`, at most `maximum`.

    With `jitter`, a source of numbers in [0, 1), the delay is spread evenly from 0 to that value
    ("full jitter"), so that tasks that failed together do not come back together.
    """
    exponent = min(retries, 62)
    delay = min(maximum, factor * 2.0**exponent)
    return delay * jitter() if jitter is not None else delay


def retry_limit(*limits: int | None) -> int:
    """The smallest limit given; `NO_LIMIT` where there is none.

    The sender's signed limit is one of them, so that no worker can run a task more often than the
    client allowed (message-security 4.4).
    """
    return min((limit for limit in limits if limit is not None), default=NO_LIMIT)


def publish_delays(policy: Mapping[str, Any]) -> Iterator[float]:
    """Seconds between the tries of a publish, by Celery's `task_publish_retry_policy`."""
    delay = float(policy.get("interval_start", 0.0))
    for _ in range(int(policy.get("max_retries", 3))):
        yield min(delay, float(policy.get("interval_max", 1.0)))
        delay += float(policy.get("interval_step", 0.2))


def publish_until(
    publish: Callable[[float], R],
    *,
    timeout: float,
    delays: Iterator[float],
    clock: Clock,
    sleep: Callable[[float], None] = time.sleep,
) -> R:
    """Call `publish(seconds left)` until it succeeds; raise its last `OperationalError`.

    The deadline is one for all tries: a caller that named ten seconds gets its answer in ten.
    """
    deadline = clock.monotonic() + timeout
    left = timeout
    while True:
        try:
            return publish(left)
        except OperationalError:
            delay = next(delays, None)
            if delay is None or clock.monotonic() + delay >= deadline:
                raise
            sleep(delay)
            left = max(0.001, deadline - clock.monotonic())
