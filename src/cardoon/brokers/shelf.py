"""What the memory broker keeps for people: dead letters and the quarantine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from cardoon.broker import Kept, KeptMessage
from cardoon.brokers.stored import Put
from cardoon.quarantine import Fill


class Shelf:
    """Kept messages by number. Not safe from threads."""

    def __init__(self) -> None:
        self._puts: dict[int, Put] = {}

    def __iter__(self) -> Iterator[Put]:
        return iter(self._puts.values())

    def add(self, put: Put) -> None:
        """Keep one, under a number that is higher than all before."""
        self._puts[put.shown.number] = put

    def find(self, where: Kept, numbers: Collection[int]) -> list[Put]:
        """Those of them that are kept there, in this order, each once."""
        found = [self._puts[one] for one in dict.fromkeys(numbers) if one in self._puts]
        return [put for put in found if put.place is where]

    def take(self, where: Kept, numbers: Collection[int] | None) -> list[Put]:
        """Remove those that are kept there, all of them for None."""
        found = [put for put in self if put.place is where]
        doomed = [put for put in found if numbers is None or put.shown.number in numbers]
        for put in doomed:
            del self._puts[put.shown.number]
        return doomed

    def show(self, where: Kept, *, limit: int, after: int) -> list[KeptMessage]:
        """As they are told, from the one behind `after`."""
        shown = (put.shown for put in self if put.place is where and put.shown.number > after)
        return [*shown][:limit]

    def fills(self) -> Sequence[Fill]:
        """How much lies in the quarantine for each reason."""
        found: dict[str, Fill] = {}
        for put in self:
            if put.place is Kept.QUARANTINE:
                _, messages, size = found.get(put.shown.reason, Fill("", 0, 0))
                one = put.shown
                found[one.reason] = Fill(one.reason, messages + 1, size + len(one.frame))
        return [*found.values()]

    def excess(self, reason: str, *, messages: int, bytes: int) -> list[KeptMessage]:
        """The oldest in the quarantine for a reason, without which no more than that would be left."""
        there = [
            put.shown for put in self if put.place is Kept.QUARANTINE and put.shown.reason == reason
        ]
        size = sum(len(each.frame) for each in there)
        doomed = []
        for index, each in enumerate(there):
            if len(there) - index <= messages and size <= bytes:
                break
            size -= len(each.frame)
            doomed.append(each)
        return doomed
