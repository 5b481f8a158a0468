"""What is posted and recorded beside RabbitMQ: all of it lies in the companion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cardoon.rabbitmq.companion import Companion
from cardoon.records import Record


class Beside:
    """A driver with a companion as one that is `Posting` and `Recording`."""

    _companion: Companion

    def post(self, channel: str, frames: Sequence[bytes], *, expires_at: float, keep: int) -> None:
        """Append frames; the channel keeps the newest `keep`."""
        self._companion.post(channel, frames, expires_at=expires_at, keep=keep)

    def posted(
        self, channel: str, after: int, *, limit: int, timeout: float
    ) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order; waits for the first."""
        return self._companion.posted(channel, after, limit=limit, timeout=timeout)

    def position(self, channel: str) -> int:
        """The number of the newest frame so far."""
        return self._companion.position(channel)

    def records(self, kind: str) -> Mapping[str, Record]:
        """All records of a kind, by name."""
        return self._companion.records(kind)

    def put_record(self, kind: str, name: str, frame: bytes, *, revision: int) -> bool:
        """Write if the record's revision is still this one."""
        return self._companion.put_record(kind, name, frame, revision=revision)

    def drop_record(self, kind: str, name: str, *, revision: int) -> bool:
        """Delete the record if its revision is still this one."""
        return self._companion.drop_record(kind, name, revision=revision)
