"""What lies in each queue of the memory broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from cardoon.broker import QueueDepth
from cardoon.brokers.limits import Limits, held_back
from cardoon.brokers.stored import Message
from cardoon.brokers.subscribers import Shown


def measure(
    messages: Collection[Message],
    declared: set[str],
    limits: Limits,
    shown: Shown,
    paused: set[str],
    *,
    now: float,
) -> list[QueueDepth]:
    """The depth of every queue, by name; a subscriber's queue is counted with its broadcast queue."""

    def name(message: Message) -> str:
        return shown.names.get(message.queue, message.queue)

    waiting = [m for m in messages if m.lease_until is None and m.dormant is None]
    dormant = Counter(name(m) for m in messages if m.dormant is not None)
    leased = Counter(name(m) for m in messages if m.lease_until is not None)
    scheduled = Counter(name(m) for m in waiting if m.due > now)
    back = held_back(messages, limits, now)
    limited = Counter(name(message) for message in back)
    passed = {message.number for message in back}
    ready: dict[str, list[float]] = {}
    for message in waiting:
        if message.due <= now and message.number not in passed:
            ready.setdefault(name(message), []).append(now - message.due)
    subscribed = shown.subscribers
    return [
        QueueDepth(
            queue=queue,
            ready=len(ready.get(queue, [])),
            scheduled=scheduled[queue],
            dormant=dormant[queue],
            leased=leased[queue],
            oldest=max(ready.get(queue, []), default=None),
            limited=limited[queue],
            paused=queue in paused,
            subscribers=subscribed[queue],
        )
        for queue in sorted(declared.union(paused, subscribed, (name(m) for m in messages)))
    ]
