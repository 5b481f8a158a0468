"""Results that have arrived in this process and lie here until somebody reads them: bounded, and in memory.

What was read goes first when there is too much, then what has lain here for longest.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

from cardoon.backend import SealedResult
from cardoon.clock import Clock

logger = logging.getLogger(__name__)

MAX_RESULTS = 100_000
MAX_BYTES = 64 * 2**20
"""Of frames. A single one that is larger is kept alone."""

_OVERHEAD = 512
"""Bytes that a result costs beside its frame, about."""

_MOST_NEWS = 10_000
"""Ends that are remembered for those who wait; whoever has missed more looks at everything."""


class Mailbox:
    """Keeps the first final result of each task; a state before it is replaced. Safe from threads."""

    def __init__(
        self, clock: Clock, *, max_results: int = MAX_RESULTS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._clock = clock
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # guards all below
        self._unread: OrderedDict[str, SealedResult] = OrderedDict()
        self._read: OrderedDict[str, SealedResult] = OrderedDict()
        self._bytes = 0
        self._news: deque[str] = deque(maxlen=_MOST_NEWS)
        self._count = 0
        self._ears: set[threading.Event] = set()
        self._has_warned = False

    def put(self, result: SealedResult) -> None:
        """Take in what has arrived."""
        with self._lock:
            before = self._find(result.task_id)
            if before is not None and before.final:
                return
            self._remove(result.task_id)
            self._unread[result.task_id] = result
            self._bytes += _size(result)
            self._shrink()
            if result.final:
                self._news.append(result.task_id)
                self._count += 1
                for ear in self._ears:
                    ear.set()

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """What has arrived of those tasks."""
        found: dict[str, SealedResult] = {}
        with self._lock:
            for task_id in task_ids:
                result = self._find(task_id)
                if result is not None:
                    self._unread.pop(task_id, None)
                    self._read[task_id] = found[task_id] = result
        return found

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete what has arrived of those tasks."""
        with self._lock:
            for task_id in task_ids:
                self._remove(task_id)

    def horizon(self) -> int:
        """What is new from now on; see `arrivals`."""
        with self._lock:
            return self._count

    def final_since(self, seen: int) -> tuple[Collection[str] | None, int]:
        """Tasks that may have a new final result, None for any; and the next horizon."""
        with self._lock:
            missed = self._count - seen
            if missed > len(self._news):
                return None, self._count
            newest = islice(self._news, len(self._news) - missed, None)
            return set(newest), self._count

    @contextmanager
    def listen(self) -> Iterator[Ear]:
        """Hear of every final result that arrives from now on."""
        heard = threading.Event()
        with self._lock:
            self._ears.add(heard)
        try:
            yield Ear(heard)
        finally:
            with self._lock:
                self._ears.discard(heard)

    def _find(self, task_id: str) -> SealedResult | None:
        """Called with the lock held."""
        result = self._unread.get(task_id) or self._read.get(task_id)
        if result is None or result.expires_at is None or result.expires_at > self._clock.now():
            return result
        self._remove(task_id)
        return None

    def _remove(self, task_id: str) -> None:
        """Called with the lock held."""
        result = self._unread.pop(task_id, None) or self._read.pop(task_id, None)
        if result is not None:
            self._bytes -= _size(result)

    def _shrink(self) -> None:
        """Called with the lock held. What has come last stays, whatever its size."""
        while (count := len(self._unread) + len(self._read)) > 1:
            if count <= self._max_results and self._bytes <= self._max_bytes:
                return
            task_id = next(iter(self._read or self._unread))
            if task_id in self._unread and not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "rpc: %d results have arrived here that nobody has read; the oldest are dropped from now "
                    "on; set ignore_result where nobody wants them, or use a backend that keeps results",
                    count,
                )
            self._remove(task_id)


class Ear:
    """Waits for the next final result."""

    def __init__(self, heard: threading.Event) -> None:
        self._heard = heard

    def wait(self, seconds: float) -> None:
        """Until one has arrived since the last time, or for so many seconds."""
        self._heard.wait(seconds)
        self._heard.clear()


def _size(result: SealedResult) -> int:
    return len(result.frame) + _OVERHEAD
