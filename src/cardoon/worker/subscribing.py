"""A worker's subscriptions: the queues of its own behind the broadcast queues that it consumes.

A worker that stops ends them, and what it has not begun of its copies goes with them. For one that dies
they stay for a minute: under the same name it finds its copies where they were.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from cardoon.audit import AuditLog
from cardoon.broker import Broker, Subscribing, Subscription
from cardoon.clock import Clock
from cardoon.exceptions import CardoonError, ImproperlyConfigured

logger = logging.getLogger(__name__)

SUBSCRIPTION_SECONDS = 60.0
"""How long a worker that died, or hangs, keeps its place; renewed three times as often."""


class Subscriptions:
    """Begins, renews and ends them; `broadcasts` names the broadcast queues by the worker's own queues.

    Raises `ImproperlyConfigured` where there are any and the broker has no such power.
    """

    def __init__(
        self, broadcasts: Mapping[str, str], *, broker: Broker, audit: AuditLog, clock: Clock
    ) -> None:
        self._wanted = [Subscription(broadcast, queue) for queue, broadcast in broadcasts.items()]
        self._broker: Subscribing | None = None
        if self._wanted:
            if not isinstance(broker, Subscribing):
                raise ImproperlyConfigured(
                    f"queue {self._wanted[0].broadcast!r} is a Broadcast, and this broker keeps no copies "
                    "for each worker; use sqlite:///, redis://, postgresql:// or amqp://, or leave it out "
                    "with -X"
                )
            self._broker = broker
        self._audit = audit
        self._clock = clock
        self._renewed: float | None = None

    def begin(self, *, seconds: float = SUBSCRIPTION_SECONDS) -> None:
        """Begin them, or take over those of a worker of the same name that died; again, it renews them."""
        if self._renewed is not None:
            self.renew()
            return
        for one in self._subscribe(seconds, found=True):
            logger.warning(
                "broadcast queue %r: there is a subscription for %r already. Its worker was killed a moment "
                "ago, or another one with this name is running: then they share what is sent; name each "
                "with -n",
                one.broadcast,
                one.queue,
            )

    def renew(self) -> None:
        """Renew them if it is time to."""
        if self._renewed is None:
            return
        if self._clock.monotonic() - self._renewed < SUBSCRIPTION_SECONDS / 3:
            return
        for one in self._subscribe(SUBSCRIPTION_SECONDS, found=False):
            logger.warning(
                "broadcast queue %r: the subscription had run out; what was sent meanwhile did not "
                "reach this worker",
                one.broadcast,
            )
            self._audit.record("worker.subscription_lost", queue=one.queue)

    def end(self) -> None:
        """End them, and drop the copies that were not begun; safe twice."""
        if self._broker is None or self._renewed is None:
            return
        self._renewed = None
        try:
            dropped = self._broker.unsubscribe(self._wanted)
        except CardoonError as error:
            logger.warning("the subscriptions will run out by themselves: %s", error)
            return
        if dropped:
            logger.warning("%d broadcast messages were dropped before they had begun", dropped)
            queues = ",".join(one.queue for one in self._wanted)
            self._audit.record("worker.unsubscribe", queues=queues, count=dropped)

    def _subscribe(self, seconds: float, *, found: bool) -> list[Subscription]:
        """Those of which there was one, or was none."""
        if self._broker is None:
            return []
        moment = self._clock.monotonic()
        there = self._broker.subscribe(self._wanted, seconds=seconds)
        self._renewed = moment
        return [one for one, was in zip(self._wanted, there, strict=True) if was is found]
