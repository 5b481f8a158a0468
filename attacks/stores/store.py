"""What an attacker can do who has the store's own rights to read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Store(Protocol):
    """The messages of a deployment, to somebody who owns the place where they lie."""

    def offer(self, id: str, frame: bytes, *, queue: str, priority: int = 0) -> None:
        """Put a message into a queue."""
        ...

    def waiting(self, id: str) -> bytes | None:
        """The frame of a message that waits; None where there is none."""
        ...

    def alter(self, id: str, frame: bytes) -> None:
        """Replace the frame of a message that waits."""
        ...

    def remove(self, id: str) -> None:
        """Make a message disappear; one that is not there, too."""
        ...

    def close(self) -> None:
        """Let go of the store; safe twice."""
        ...


class Answers(Protocol):
    """The results, the commands to workers, and what workflows wait for."""

    def result(self, id: str) -> bytes | None:
        """What is stored of a task's end."""
        ...

    def lay_result(self, id: str, frame: bytes) -> None:
        """Store something as the final result of a task, in the place of any other."""
        ...

    def command(self, frame: bytes) -> None:
        """Say something to all workers."""
        ...

    def inputs(self, id: str) -> list[tuple[str, bytes]]:
        """What a message waits for: ids, and the digests of requests."""
        ...

    def set_inputs(self, id: str, inputs: Sequence[tuple[str, bytes]]) -> None:
        """Have a message wait for others instead."""
        ...

    def lay_outcome(self, predecessor: str, frame: bytes) -> None:
        """Say how a task ended for which others wait."""
        ...
