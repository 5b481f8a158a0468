"""What becomes of messages of the memory broker that wait for one that is dropped unread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cardoon.brokers.inputs import Inputs
from cardoon.brokers.stored import Message


def take_dropped(
    dropped: list[Message], messages: Mapping[int, Message], inputs: Inputs
) -> Iterator[Message]:
    """Those that were dropped, and the dormant ones that wait for them, directly or not.

    Each is yielded once, for the caller to delete it before the next one is looked for.
    """
    while dropped:
        message = dropped.pop()
        for number in inputs.successors(message.id):
            successor = messages.get(number)
            if successor is not None and successor.dormant is not None:
                successor.dormant = None
                dropped.append(successor)
        yield message
