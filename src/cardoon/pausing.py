"""Pausing: queues that rest. What lies in them is kept, and nobody takes it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Pausable(Protocol):
    """A broker whose queues can rest: kept durably, for all workers, until somebody says otherwise.

    Nothing is lent from a queue that rests, nor from the queues behind a broadcast queue that does. What is
    on loan runs to its end, and sends are stored as ever. A queue need not exist to rest.
    """

    def pause(self, queues: Sequence[str]) -> None:
        """Let these rest from now on; twice is once."""
        ...

    def resume(self, queues: Sequence[str]) -> None:
        """Let these go on."""
        ...

    def resting(self) -> Collection[str]:
        """The queues that rest, as they were named. Cheap enough to be asked every second."""
        ...
