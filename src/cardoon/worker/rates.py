"""Rate limits of tasks in one worker: arithmetic only."""

from __future__ import annotations

from collections.abc import Mapping


class Rates:
    """A bucket of one token for each limited task: starts are spread evenly.

    One thread takes tokens; any may change a limit.
    """

    def __init__(self, limits: Mapping[str, float]) -> None:
        self._interval = {task: 1.0 / limit for task, limit in limits.items()}
        self._next: dict[str, float] = {}

    def limit(self, task: str, limit: float | None) -> None:
        """Let a task begin so often in a second from now on; None is as often as it comes."""
        if limit is None:
            self._interval.pop(task, None)
        else:
            self._interval[task] = 1.0 / limit
        self._next.pop(task, None)

    def wait_for(self, task: str, now: float) -> float:
        """Take a token and return 0.0, or return the seconds until there may be one."""
        interval = self._interval.get(task)
        if interval is None:
            return 0.0
        due = self._next.get(task, now)
        if due > now:
            return due - now
        self._next[task] = max(due, now - interval) + interval
        return 0.0
