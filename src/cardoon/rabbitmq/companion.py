"""The store beside RabbitMQ: all that AMQP cannot do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cardoon.broker import (
    Adopting,
    Broadcaster,
    Broker,
    Inspectable,
    Limiting,
    Maintained,
    Subscribing,
    Transactional,
)
from cardoon.exceptions import OperationalError
from cardoon.pausing import Pausable
from cardoon.posting import Posting
from cardoon.quarantine import Quarantining
from cardoon.recalling import Recalling
from cardoon.records import Recording
from cardoon.security.replay import NonceClaim, ReplayGuard


@runtime_checkable
class Companion(
    Broker,
    Adopting,
    Transactional,
    Maintained,
    Limiting,
    Subscribing,
    Broadcaster,
    Posting,
    Recording,
    Pausable,
    Inspectable,
    Quarantining,
    ReplayGuard,
    Protocol,
):
    """A broker that can do all that AMQP cannot."""


class Epochs:
    """When the marks beside RabbitMQ's messages begin, which lie in another store than these.

    A file is one host's. A host that is added begins with an empty one, and what others carried out it never
    knew; so there the epoch says nothing of a message, and is left out.
    """

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self._is_shared = isinstance(companion, Recalling)
        self._has_begun = not self._is_shared

    def ensure(self) -> None:
        """Have the epoch begin, if nobody has come before, as soon as the first message is sent.

        Within the second that signatures are rounded to. Once, and what may not be done or cannot be is left to
        a worker: that must keep nobody from sending.
        """
        if not self._has_begun:
            self._has_begun = True
            try:
                self._companion.memory()
            except OperationalError:
                return

    def judged(self, claims: Sequence[NonceClaim]) -> Sequence[NonceClaim]:
        """Claims as the companion is to judge them."""
        if self._is_shared:
            return claims
        return [one._replace(nonce=one.nonce._replace(signed_by=math.inf)) for one in claims]
