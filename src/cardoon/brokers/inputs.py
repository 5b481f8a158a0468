"""What messages of the memory broker wait for, and how that ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cardoon.broker import MAX_INPUT_BYTES, Input, Outcome, Predecessor


class Inputs:
    """Pairs of a message, by number, and the id of one that it waits or waited for.

    A message is in here from when it is sent until it is deleted for good, kept ones included; an
    outcome, for as long as a message is in here that names it. Not safe from threads.
    """

    def __init__(self) -> None:
        self._predecessors: dict[int, Sequence[Predecessor]] = {}
        self._successors: dict[str, list[int]] = {}
        self._outcomes: dict[str, Outcome] = {}

    def add(self, number: int, after: Sequence[Predecessor]) -> None:
        """Take note of what a message waits for."""
        self._predecessors[number] = after
        for predecessor in after:
            self._successors.setdefault(predecessor.id, []).append(number)

    def remove(self, number: int) -> None:
        """Forget a message, and the outcomes that nobody else waits or waited for."""
        for predecessor in self._predecessors.pop(number, ()):
            successors = self._successors[predecessor.id]
            successors.remove(number)
            if not successors:
                del self._successors[predecessor.id]
                self._outcomes.pop(predecessor.id, None)

    def rename(self, old: int, new: int) -> None:
        """Give a message another number."""
        after = self._predecessors.get(old)
        if after is not None:
            self.add(new, after)
            self.remove(old)

    def arrive(self, name: str, outcome: Outcome) -> Collection[int]:
        """Keep an outcome if it is the first; return who is to be told of it."""
        if name in self._outcomes or name not in self._successors:
            return ()
        self._outcomes[name] = outcome
        return list(dict.fromkeys(self._successors[name]))

    def successors(self, name: str) -> Collection[int]:
        """Who waits or waited for a message."""
        return list(self._successors.get(name, ()))

    def outcome(self, name: str) -> Outcome | None:
        """How a message ended, if that is kept."""
        return self._outcomes.get(name)

    def predecessors(self, number: int) -> Sequence[Predecessor]:
        """What a message waits or waited for."""
        return self._predecessors.get(number, ())

    def of(self, number: int) -> tuple[Input, ...]:
        """What a delivery of the message carries."""
        inputs = []
        room = MAX_INPUT_BYTES
        for predecessor in self.predecessors(number):
            outcome = self._outcomes.get(predecessor.id)
            frame = outcome.frame if outcome is not None and len(outcome.frame) <= room else None
            room -= len(frame or b"")
            inputs.append(Input(predecessor.id, predecessor.request, frame))
        return tuple(inputs)
