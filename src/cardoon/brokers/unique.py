"""Which messages of the memory broker are the only ones of their kind."""

from __future__ import annotations

from cardoon.brokers.stored import Message


class Holders:
    """Who holds each key, and who did so lately. Not safe from threads."""

    def __init__(self) -> None:
        self._holders: dict[str, Message] = {}
        self._recent: dict[str, tuple[str, float]] = {}

    def __contains__(self, key: str | None) -> bool:
        return key in self._holders

    def find(self, key: str, now: float) -> str | None:
        """The id of the message that stands in for others with a key."""
        if key in self._holders:
            return self._holders[key].id
        name, until = self._recent.get(key, ("", now))
        return name if until > now else None

    def give(self, message: Message, key: str, *, until: float | None = None) -> None:
        """Give a message the key, unless another one holds it; until then at least, if it says so."""
        if key not in self._holders:
            message.unique = key
            self._holders[key] = message
            if until is not None:
                self._recent[key] = (message.id, until)

    def release(self, message: Message) -> None:
        """A message has ended."""
        if message.unique is not None:
            del self._holders[message.unique]

    def purge(self, now: float) -> None:
        """Forget periods that are over."""
        self._recent = {key: was for key, was in self._recent.items() if was[1] > now}
