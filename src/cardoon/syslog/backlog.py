"""The backlog of one server: messages that wait, and the latest that were sent and may not have arrived.

Syslog has no acknowledgement, and what TCP has acknowledged lies in the receiver's buffers. So the latest messages
are kept and sent again when a connection breaks; `seq` tells the receiver which came twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from cardoon.syslog.messages import Frame

REPLAY_BYTES = 16 << 20
"""More than the buffers of a connection and the queue of a receiver hold together."""
ROOM = 1000
"""Messages in memory that wait here; more than those stay in the queue, which is bounded by a setting."""
TOGETHER_SECONDS = 1.0
"""In which what was sent counts as sent together, so that it is kept in few pieces."""


class Backlog(Protocol):
    """Where messages are between the queue and the wire. For one thread."""

    def has_room(self) -> bool:
        """Whether more may be added."""
        ...

    def add(self, frames: Sequence[Frame]) -> None:
        """Keep these behind all others; never raises for a full or broken disk, but counts."""
        ...

    def take(self, most: int, now: float) -> list[bytes]:
        """The next messages, of about so many bytes, noted as sent now. Empty if all are."""
        ...

    def rewind(self, since: float | None) -> None:
        """Send again what was sent after this moment; None for all that is still kept."""
        ...

    def is_sent(self) -> bool:
        """Whether nothing waits."""
        ...

    def close(self) -> None:
        """Let go of it; what waits on disk stays there for the next run."""
        ...


class _Piece(NamedTuple):
    """Messages that were sent together."""

    moment: float
    """When the first of them was sent; the last, at most `TOGETHER_SECONDS` later."""
    size: int
    messages: tuple[bytes, ...]


class MemoryBacklog:
    """A backlog in memory.

    What was sent is kept in pieces, so that a few steps put 16 MiB of it back. The interpreter runs one
    thread at a time: whoever logs meanwhile would wait for a step that takes long.
    """

    def __init__(self, *, replay_bytes: int = REPLAY_BYTES, room: int = ROOM) -> None:
        self._waiting: deque[bytes] = deque()
        self._again: deque[_Piece] = deque()
        """What is sent before all that waits."""
        self._sent: deque[_Piece] = deque()
        self._sent_bytes = 0
        self._replay_bytes = replay_bytes
        self._room = room

    def has_room(self) -> bool:
        """Whether more may be added."""
        return len(self._waiting) < self._room

    def add(self, frames: Sequence[Frame]) -> None:
        """Keep these behind all others."""
        self._waiting.extend(frame.octets for frame in frames)

    def take(self, most: int, now: float) -> list[bytes]:
        """The next messages, of about so many bytes, noted as sent now."""
        found: list[bytes] = []
        size = 0
        while self._again and size < most:
            piece = self._again.popleft()
            found += piece.messages
            size += piece.size
        while self._waiting and size < most:
            found.append(self._waiting.popleft())
            size += len(found[-1])
        if found:
            self._keep(_Piece(now, size, tuple(found)), most)
        return found

    def rewind(self, since: float | None) -> None:
        """Send again what was sent after this moment; None for all that is still kept."""
        while self._sent and (since is None or self._sent[-1].moment + TOGETHER_SECONDS >= since):
            self._again.appendleft(self._sent.pop())
        self._forget_all()

    def is_sent(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting and not self._again

    def close(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._again.clear()
        self._forget_all()

    def _keep(self, piece: _Piece, most: int) -> None:
        """Note a piece as sent: as one with the piece before it, where both are small and of about the same time."""
        self._sent_bytes += piece.size
        if self._sent and self._sent[-1].size + piece.size <= most:
            moment, size, messages = self._sent[-1]
            if piece.moment - moment <= TOGETHER_SECONDS:
                self._sent.pop()
                piece = _Piece(moment, size + piece.size, messages + piece.messages)
        self._sent.append(piece)
        while self._sent_bytes > self._replay_bytes and len(self._sent) > 1:
            self._sent_bytes -= self._sent.popleft().size

    def _forget_all(self) -> None:
        while self._sent:  # one by one: to free 16 MiB at once takes milliseconds
            self._sent.popleft()
        self._sent_bytes = 0
