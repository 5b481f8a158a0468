"""The store, as the world sees it, and a host's way there: slow, cut, or with replies that are lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cardoon.broker import Ack, Completion, DeadLetter, Delivery, Outgoing, Settlement
from cardoon.brokers.memory import MemoryBroker
from cardoon.brokers.stored import Message
from cardoon.exceptions import OperationalError
from cardoon.security.replay import Nonce, NonceClaim, NonceState
from tests.simulation.switches import Off
from tests.simulation.world import Host, World, WorldClock

T = TypeVar("T")

TIMEOUT = 5.0
"""Seconds after which a call without an answer is given up."""


class Store(MemoryBroker):
    """The memory broker, which is what every driver is to do, with parts that can be switched off."""

    def __init__(self, world: World, off: Off) -> None:
        self.clock = WorldClock(world)
        super().__init__(clock=self.clock)
        self._off = off
        self.ends: Counter[bytes] = Counter()
        """By frame: completions that ended it, other than by refusing it, and took effect."""
        self.stale: list[str] = []
        """What was changed by an attempt that had lost its lease."""
        self.seen: list[Outgoing] = []
        """Everything that was ever sent."""
        self.stored: list[Outgoing] = []
        """What of it was stored, as whoever can read the store has it."""
        self.sent_again: Counter[str] = Counter()
        """By id: sends that came when the message of an earlier one was gone, as is not promised to help."""

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:
        known = {one.id for one in self.seen}
        self.sent_again.update(
            one.id for one in outgoing if one.id in known and one.id not in self._by_id
        )
        self.seen += outgoing
        self.stored += [one for one in outgoing if one.id not in self._by_id]
        if self._off is Off.IDEMPOTENCE:
            outgoing = [
                one._replace(id=f"{one.id}>{self._last_number}") if one.id in self._by_id else one
                for one in outgoing
            ]
        return super().publish(outgoing, timeout=timeout)

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        deliveries = [one.settlement.delivery for one in completions]
        held = {one.id: one.attempt for one in self._messages.values()}
        took = super().complete(completions)
        for one, effective in zip(deliveries, took, strict=True):
            if effective and held.get(one.id) != one.attempt:
                self.stale.append(f"stale: attempt {one.attempt} ended attempt {held.get(one.id)}")
        for one, effective in zip(completions, took, strict=True):
            if effective and isinstance(one.settlement, Ack | DeadLetter):
                self.ends[one.settlement.delivery.frame] += 1
        return took

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        if self._off is Off.REPLAY_GUARD:
            return [NonceState.CLAIMED for _ in claims]
        return super().claim(claims)

    def inject(self, copy: Outgoing) -> None:
        """What somebody does who can write the store."""
        super().publish([copy], timeout=0)

    def is_stored(self, task_id: str) -> bool:
        """Whether a message with this id has not ended."""
        return task_id in self._by_id

    def _held(self, delivery: Delivery) -> Message | None:
        if self._off is Off.FENCING:
            return self._by_id.get(delivery.id)
        return super()._held(delivery)


class Link:
    """A host's way to the store. Every call of a strand may take its time, or fail."""

    def __init__(self, host: Host, store: Store, off: Off) -> None:
        self._host = host
        self._store = store
        self._off = off
        self.trouble = 0.0
        """How likely a call goes wrong."""
        self.is_cut = False
        self.stalled = 0
        """Calls that wait for a slow store at this moment."""
        self.on_trouble: Callable[[], None] = lambda: None
        self.lent: set[str] = set()
        """Ids that this host has, or that were lost on the way to it."""

    def declare(self, queues: Sequence[str]) -> None:
        self._store.declare(queues)

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:
        return self._call(lambda: self._store.publish(outgoing, timeout=timeout))

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        def claim() -> Sequence[Delivery]:
            found = self._store.receive(queues, limit=limit, lease=lease, timeout=0)
            self.lent.update(one.id for one in found)
            return found

        deliveries = self._call(claim, repeats=False)
        if not deliveries:
            self._host.world.sleep(timeout)
        return deliveries

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        if self._off is Off.RENEWAL:
            return deliveries
        return self._call(lambda: self._store.extend(deliveries, lease=lease))

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        return self.complete([Completion(one) for one in settlements])

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        took = self._call(lambda: self._store.complete(completions))
        self.lent.difference_update(one.settlement.delivery.id for one in completions)
        return took

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        return self._call(lambda: self._store.claim(claims))

    def finish(self, nonces: Sequence[Nonce]) -> None:
        self._call(lambda: self._store.finish(nonces))

    def maintain(self) -> int:
        if self._off is Off.TAKING_BACK:
            return 0
        return self._call(self._maintain)

    def close(self) -> None:
        pass

    def _maintain(self) -> int:
        if self._off is not Off.CLOCK_OF_STORE:
            return self._store.maintain()
        # As if whether a lease is over were for the wall clock of whoever asks to say.
        for message in self._store._messages.values():
            if message.lease_until is not None:
                message.lease_until -= self._host.clock.skew
        taken = self._store.maintain()
        for message in self._store._messages.values():
            if message.lease_until is not None:
                message.lease_until += self._host.clock.skew
        return taken

    def _call(self, act: Callable[[], T], *, repeats: bool = True) -> T:
        chance = self._host.world.chance
        if not (self.is_cut or chance.random() < self.trouble):
            if chance.random() < 0.1:
                self._host.world.sleep(chance.random() * 0.02)
            return act()
        self.on_trouble()
        kinds = ["request lost", "reply lost", "slow", "slow reply"]
        # A claim is not repeated: what came of the first one is not known.
        kinds += ["twice"] if repeats else ["slow reply"] * 3
        match chance.choice(kinds[:2] if self.is_cut else kinds):
            case "request lost":
                self._host.world.sleep(TIMEOUT)
                raise OperationalError("the request was lost")
            case "reply lost":
                act()
                self._host.world.sleep(TIMEOUT)
                self.on_trouble()
                raise OperationalError("the reply was lost")
            case "slow":
                self._stall(chance.random() * 40)
                return self._with_trouble(act)
            case "slow reply":
                result = self._with_trouble(act)
                self._stall(chance.random() * 40)
                return result
            case _:
                act()  # a driver whose first try was not answered
                self._host.world.sleep(chance.random())
                return act()

    def _stall(self, seconds: float) -> None:
        self.stalled += 1
        self._host.world.sleep(seconds)
        self.stalled -= 1

    def _with_trouble(self, act: Callable[[], T]) -> T:
        result = act()
        self.on_trouble()  # for what it has brought
        return result
