"""What becomes of messages of the memory broker that wait for one that is dropped unread, or is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from cardoon.broker import STRAY_GRACE_SECONDS
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


def wake_strays(messages: Iterable[Message], there: AbstractSet[str], now: float) -> None:
    """Wake those that wait for one that is not `there`, once it is late enough for it to have come."""
    for message in messages:
        dormant = message.dormant
        if dormant is None or dormant.since + STRAY_GRACE_SECONDS > now:
            continue
        if not dormant.missing <= there:
            message.due, message.dormant = now, None
