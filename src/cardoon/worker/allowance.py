"""Allowance: how much one job may tell the worker besides its outcome, so that no task can flood it.

A task may send for as long as it runs, so what it may send grows with time; and what the worker has not
answered yet is bounded by itself, for that is what takes memory.
"""

from __future__ import annotations

from cardoon.worker.ipc import MIB, IpcError

FRAMES, FRAMES_A_SECOND = 20_000, 5_000
BYTES, BYTES_A_SECOND = 256 * MIB, 32 * MIB
UNANSWERED = 256
"""Requests that wait for an answer at once: each blocks a thread of the task."""
UNANSWERED_BYTES = 128 * MIB
"""Bytes of those, beyond the largest."""


class Allowance:
    """Counts frames of one job. `began` is when, by the monotonic clock."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._frames = 0
        self._bytes = 0
        self._unanswered: dict[int, int] = {}

    def take(self, size: int, now: float) -> None:
        """Count a frame of so many bytes; `IpcError` if it is one too many."""
        self._frames += 1
        self._bytes += size
        seconds = max(0.0, now - self._began)
        if self._frames > FRAMES + FRAMES_A_SECOND * seconds:
            raise IpcError(f"it has sent {self._frames} frames in {seconds:.1f} seconds")
        if self._bytes > BYTES + BYTES_A_SECOND * seconds:
            raise IpcError(f"it has sent {self._bytes} bytes in {seconds:.1f} seconds")

    def ask(self, number: int, size: int) -> None:
        """Count a request as unanswered; `IpcError` if too many are."""
        waiting = sum(self._unanswered.values())
        if len(self._unanswered) >= UNANSWERED or waiting > UNANSWERED_BYTES:
            raise IpcError(f"{len(self._unanswered)} requests of {waiting} bytes are unanswered")
        if number in self._unanswered:
            raise IpcError(f"request {number} has not been answered yet")
        self._unanswered[number] = size

    def answered(self, number: int) -> None:
        """A request has got its answer."""
        self._unanswered.pop(number, None)
