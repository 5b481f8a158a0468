"""Connects to signals for the length of a test, and remembers what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from cardoon.dispatch import Signal


class Told(NamedTuple):
    """What a signal said once."""

    signal: str
    sender: Any
    payload: dict[str, Any]


class Hearing:
    """What was heard, in order."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._undo: list[Callable[[], object]] = []

    def listen(self, *signals: Signal, sender: Any = None) -> None:
        """Remember what these say."""
        for one in signals:
            self.connect(one, self._take, sender=sender)

    def connect(self, signal: Signal, receiver: Callable[..., Any], **options: Any) -> None:
        """Connect a receiver till the end of the test."""
        signal.connect(receiver, weak=False, **options)
        self._undo.append(lambda: signal.disconnect(receiver, sender=options.get("sender")))

    def names(self) -> list[str]:
        """The signals that were heard."""
        return [one.signal for one in self.told]

    def of(self, signal: Signal) -> list[Told]:
        """What one signal said."""
        return [one for one in self.told if one.signal == signal.name]

    def close(self) -> None:
        """Disconnect."""
        for undo in self._undo:
            undo()

    def _take(self, signal: Signal, sender: Any, **payload: Any) -> None:
        assert signal.name is not None
        self.told.append(Told(signal.name, sender, payload))


@contextmanager
def listening() -> Iterator[Hearing]:
    """A hearing that ends with the block."""
    hearing = Hearing()
    try:
        yield hearing
    finally:
        hearing.close()
