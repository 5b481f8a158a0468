"""The Redis driver of the Broker contract, with all optional powers; Valkey is one to it.

Messages, results, replay marks and what is kept lie in one database of one server, under one hash tag.
Time is the server's: leases, schedules and expiry do not depend on any worker's clock. See
docs/redis.md for what stored means there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cardoon.broker import (
    Completion,
    Delivery,
    Kept,
    KeptMessage,
    LimitUse,
    Outgoing,
    QueueDepth,
    Settlement,
    Subscription,
)
from cardoon.clock import Clock, SystemClock
from cardoon.endpoints import PLAIN_ACCESS, Access
from cardoon.exceptions import ImproperlyConfigured
from cardoon.lookup import Place, Whereabouts
from cardoon.quarantine import Fill
from cardoon.security.replay import Memory, Nonce, NonceClaim, NonceState

try:
    from cardoon.redis import inspecting, messages, packing, subscribers, tracing
    from cardoon.redis.posting import Posts, Records
    from cardoon.redis.store import Store, open_store
except ModuleNotFoundError as error:
    if error.name != "hiredis":
        raise
    raise ImproperlyConfigured(
        "broker_url: redis needs the redis library; pip install 'cardoon[redis]'"
    ) from error

_MOST_AT_ONCE = 1000
"""Ids that one script looks for."""

_STATES = {
    b"C": NonceState.CLAIMED,
    b"H": NonceState.HELD,
    b"D": NonceState.DONE,
    b"B": NonceState.BEFORE_EPOCH,
}
_REAL_TIME = SystemClock()
_MARGIN = 1.0
"""Seconds for an answer's way, and for clocks that do not go equally fast."""


def connect(
    url: str,
    *,
    clock: Clock,
    timeout: float,
    access: Access = PLAIN_ACCESS,
    transport: Mapping[str, Any] | None = None,
) -> RedisBroker:
    """The broker on the servers that a URL means; nothing is opened before it is needed.

    `transport` is `broker_transport_options`: `global_keyprefix`, `master_name` and
    `durability` count here, as they do behind the URL's `?`. Raises `ImproperlyConfigured`.
    """
    store = open_store(
        url,
        setting="broker_url",
        clock=clock,
        timeout=timeout,
        access=access,
        transport=transport or {},
    )
    return RedisBroker(store)


class RedisBroker(Posts, Records):
    """Broker with all powers: Transactional, Maintained, Limiting, Subscribing and the others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = 0
        self._outlook: messages.Outlook | None = None
        self._server_ahead: float | None = None
        """The server's clock, compared with the monotonic one of this host, as it was last told."""

    @property
    def store(self) -> Store:
        """The store, for a result backend that shares it."""
        return self._store

    def declare(self, queues: Sequence[str]) -> None:
        """Make the queues; doing it again changes nothing."""
        if queues:
            self._store.ask_many([("SADD", self._store.key("queues"), *queues)])

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:
        """Store all or none before returning; say who stands in for whom."""
        if not outgoing:
            return {}
        alone = packing.pack_alone(outgoing)
        if alone is not None:
            self._store.run("send", alone, timeout=timeout, durably=True)
            return {}
        arguments = (len(outgoing), *packing.pack_messages(outgoing))
        told = self._store.run("publish", arguments, timeout=timeout, durably=True)
        names = [name.decode() for name in told]
        return dict(zip(names[::2], names[1::2], strict=True))

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        """Lease up to `limit` due messages, the most urgent first; the queues take turns."""
        if not queues or limit < 1:
            return []
        deadline = _REAL_TIME.monotonic() + timeout
        outlook, self._outlook = self._outlook, None
        if self._store.injected_now is not None:
            outlook = None  # a test may have set the clock meanwhile
        while True:
            self._turn += 1
            start = self._turn % len(queues)
            ordered = [*queues[start:], *queues[:start]]
            wait = outlook and outlook.wait_for(ordered, deadline)
            claimed = messages.claim(self._store, ordered, limit=limit, lease=lease, after=wait)
            outlook = self._look_out(ordered, claimed)
            if claimed.deliveries or _REAL_TIME.monotonic() >= deadline:
                self._outlook = outlook
                return claimed.deliveries

    def _look_out(
        self, queues: Sequence[str], claimed: messages.Claimed
    ) -> messages.Outlook | None:
        """What a claim left to wait for; None where the next one is to be made at once."""
        if claimed.has_more:
            return None
        # What is sent to a queue that rests wakes nobody; that it goes on does.
        bells = {
            queue: self._store.key("rest" if queue in claimed.resting else "bell", queue)
            for queue in queues
        }
        return messages.Outlook(bells, _REAL_TIME.monotonic() + claimed.pause)

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew the leases, and return those that are still held."""
        if not deliveries:
            return []
        arguments = (repr(float(lease)), *packing.pack_deliveries(deliveries))
        held = self._store.run("extend", arguments)
        return [each for each, is_held in zip(deliveries, held, strict=True) if is_held]

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        """End each loan; False where the lease was lost before."""
        return self.complete([Completion(settlement) for settlement in settlements])

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._store.close()

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Settle, store results, mark nonces, publish and wake successors, in one script."""
        if not completions:
            return []
        packed = packing.pack_completions(completions)
        with self._store.slot() as (name, serial):
            arguments = (name, str(serial), "0", *packed)
            taken = self._store.run("complete", arguments, again=2, durably=True)
        return [letter == ord("1") for letter in taken]

    def adopt(
        self, messages_: Sequence[Outgoing], *, lease: float, durable: bool
    ) -> Sequence[Delivery | None]:
        """Store messages as lent, in one script; None where the id is stored."""
        if not messages_:
            return []
        return messages.adopt(self._store, messages_, lease=lease, durable=durable)

    @property
    def claimant(self) -> str:
        """What the claims of this process go by."""
        return self._store.owner

    def recall(self, claimant: str) -> Sequence[Delivery]:
        """What a claimant took last and still has on loan, for a minute after it was lent."""
        return messages.recall(self._store, claimant)

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        """Claim each nonce for its delivery, all in one step."""
        if not claims:
            return []
        return [_STATES[state] for state in self._store.run("nonces", packing.pack_claims(claims))]

    def finish(self, nonces: Sequence[Nonce]) -> None:
        """Mark nonces as done."""
        if nonces:
            self._store.run("finish", packing.pack_nonces(nonces))

    def memory(self) -> Memory:
        """How far back it remembers."""
        return self._look_back(is_anew=False)

    def begin_anew(self) -> Memory:
        """Begin another epoch."""
        return self._look_back(is_anew=True)

    def _look_back(self, *, is_anew: bool) -> Memory:
        since, number = self._store.run("memory", (str(int(is_anew)),), durably=is_anew)
        return Memory(float(since), int(number))

    def maintain(self) -> int:
        """Take back what silent workers held, wake strays, and forget what is over; in small steps."""
        taken_back = 0
        has_more = 1
        while has_more:
            until = self._good_until()
            count, has_more, told = self._store.run("maintain", () if until is None else (until,))
            self._server_ahead = float(told) - _REAL_TIME.monotonic()
            taken_back += int(count)
        return taken_back

    def _good_until(self) -> str | None:
        """When, by the server's clock, a request that is made now has been given up here."""
        if self._server_ahead is None or self._store.injected_now is not None:
            return None
        now = _REAL_TIME.monotonic() + self._server_ahead
        return repr(now + self._store.timeout + _MARGIN)

    def subscribe(self, subscriptions: Sequence[Subscription], *, seconds: float) -> Sequence[bool]:
        """Begin them, or renew them, for so many seconds; whether each was there."""
        if not subscriptions:
            return []
        return subscribers.begin(self._store, subscriptions, seconds=seconds)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> int:
        """End them, and delete the copies that wait; return how many."""
        return subscribers.end(self._store, subscriptions) if subscriptions else 0

    def broadcast(self, frame: bytes, *, expires_at: float) -> None:
        """Keep a frame for every worker until it expires."""
        self._store.run("broadcast", (frame, repr(float(expires_at))))

    def heard(self, after: int) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order, each with its number."""
        return [(int(number), frame) for number, frame in self._store.run("heard", (after,))]

    def pause(self, queues: Sequence[str]) -> None:
        """Let queues rest."""
        if queues:
            self._store.run("pause", queues, durably=True)

    def resume(self, queues: Sequence[str]) -> None:
        """Let queues go on."""
        if queues:
            self._store.run("resume", queues, durably=True)

    def resting(self) -> Collection[str]:
        """The queues that rest."""
        (found,) = self._store.ask_many([("SMEMBERS", self._store.key("paused"))])
        return {queue.decode() for queue in found}

    def find(self, ids: Sequence[str]) -> Mapping[str, Place]:
        """Where each of these messages lies."""
        found: dict[str, Place] = {}
        for start in range(0, len(ids), _MOST_AT_ONCE):
            some = ids[start : start + _MOST_AT_ONCE]
            letters = self._store.run("find", some)
            found.update(
                (name, tracing.PLACES[letter])
                for name, letter in zip(some, letters, strict=True)
                if letter
            )
        return found

    def trace(self, id: str) -> Whereabouts | None:
        """All that is known of one message."""
        return tracing.trace(self._store, id)

    def were_done(self, nonces: Sequence[Nonce]) -> Sequence[bool]:
        """Whether what has these nonces was carried out."""
        return tracing.were_done(self._store, nonces)

    def depths(self) -> Sequence[QueueDepth]:
        """What lies in each queue, by name."""
        return inspecting.measure(self._store)

    def limits(self, *, limit: int) -> Sequence[LimitUse]:
        """The keys that hold messages back, those with the most waiting first."""
        return inspecting.show_limits(self._store, limit=limit)

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue: ready, limited, scheduled and dormant; return how many."""
        return inspecting.purge(self._store, [queue, *subscribers.behind(self._store, queue)])

    def kept(self, where: Kept, *, limit: int, after: int = 0) -> Sequence[KeptMessage]:
        """Kept messages by number, from the one behind `after`."""
        return inspecting.show(self._store, where, limit=limit, after=after)

    def restore(self, where: Kept, numbers: Sequence[int]) -> int:
        """Put kept messages back in their queues; return how many."""
        if not numbers:
            return 0
        restored: int = self._store.run("restore", (inspecting.PLACES[where], *numbers))
        return restored

    def discard(self, where: Kept, numbers: Sequence[int] | None) -> int:
        """Delete kept messages, all of them for None; return how many."""
        place = inspecting.PLACES[where]
        if numbers is None:
            return inspecting.in_steps(self._store, "discard", (place,))
        discarded: int = self._store.run("discard", (place, 0, *numbers))
        return discarded

    def quarantine(self, *, queue: str, id: str, frame: bytes, reason: str, detail: str) -> None:
        """Keep a frame that came by another way than a queue."""
        texts = (packing.printable(text) for text in (reason, detail))
        self._store.run(
            "quarantine", (packing.printable(queue), packing.printable(id), frame, *texts)
        )

    def quarantined(self) -> Sequence[Fill]:
        """How much lies in the quarantine for each reason."""
        return inspecting.fills(self._store)

    def thin_out(self, reason: str, *, messages: int, bytes: int) -> Fill:
        """Delete the oldest of a reason until at most so much is left; return what is gone."""
        return inspecting.thin_out(self._store, reason, messages=messages, bytes=bytes)
