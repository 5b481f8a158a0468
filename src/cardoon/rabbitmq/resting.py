"""From which queues nothing is taken: those that rest, as the companion keeps it, and those it serves alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cardoon.clock import SystemClock
from cardoon.pausing import Pausable

LOOK_AGAIN_SECONDS = 1.0
"""How long what the companion said is believed: so much later than elsewhere a worker notices."""

_TIME = SystemClock()


class Resting:
    """Knows it for one process. Safe from threads."""

    def __init__(self, companion: Pausable) -> None:
        self._companion = companion
        self._known: tuple[float, frozenset[str]] | None = None
        """When that was asked, by the monotonic clock, and what was said."""
        self._private: frozenset[str] = frozenset()

    def look_anew(self) -> None:
        """Believe nothing that was said before."""
        self._known = None

    def leave_to_companion(self, queues: Iterable[str]) -> None:
        """These are queues of subscribers, of which RabbitMQ has none."""
        self._private = self._private.union(queues)

    def part(self, queues: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those to take from, in their order, and those that rest.

        Raises `OperationalError` when the companion does not answer, for then nobody knows.
        """
        resting = self._look()
        awake = [queue for queue in queues if queue not in resting and queue not in self._private]
        return awake, [queue for queue in queues if queue in resting]

    def _look(self) -> frozenset[str]:
        now = _TIME.monotonic()
        known = self._known
        if known is not None and now < known[0] + LOOK_AGAIN_SECONDS:
            return known[1]
        said = frozenset(self._companion.resting())
        self._known = (now, said)
        return said
