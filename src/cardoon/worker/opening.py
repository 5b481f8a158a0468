"""Opens what a claim brought at the gate, in several threads where that is faster.

Verifying a signature lets go of the interpreter lock and takes longer than all else that is done for
a message, so messages that were signed one by one are opened in threads. Those of a batch share one
signature; what is left to do for them is Python, which threads would only make slower.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

from cardoon.broker import Delivery
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.protocol import Claims, Kind
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.worker.held import Held


class Opened(NamedTuple):
    """A verified task, and the results that it waited for; None for one that is not there."""

    message: VerifiedMessage
    inputs: tuple[VerifiedMessage | None, ...]


NO_BROADCASTS: Mapping[str, str] = MappingProxyType({})

SECOND_LOOK = 1.5
"""Seconds until an unknown signer is looked up once more."""
LOOKS_AT_THE_FUTURE = 9
"""Deliveries before a message is refused that was issued in the future, as this host's clock has it. The
clock may be the wrong one, and then it is another worker's to carry out."""
LONGEST_LOOK = 60.0
"""Seconds between two of them; the first is as long as for an unknown signer."""
_MAX_THREADS = 4
_WORTH_THREADS = 8
"""Signatures in the claim before this one, from which on threads are faster."""


class Opener:
    """Opens task messages that are meant for the queue that they lie in. For one thread at a time.

    A message for one of `queues` may lie in any of them. What lies in a queue behind a broadcast queue
    must have been sent to just that one: `broadcasts` names it by the other.
    """

    def __init__(
        self, gate: Gate, queues: Sequence[str], broadcasts: Mapping[str, str] = NO_BROADCASTS
    ) -> None:
        self._gate = gate
        self.accept_queues(queues)
        self._broadcasts = broadcasts
        self._signatures = 0
        self._threads = min(_MAX_THREADS, os.cpu_count() or 1)
        self._executor: ThreadPoolExecutor | None = None

    def accept_queues(self, queues: Sequence[str]) -> None:
        """Open what is meant for one of these queues, and nothing else, from now on."""
        self._audience = frozenset("q:" + queue for queue in queues)

    def open_all(self, deliveries: Sequence[Delivery]) -> list[Opened | RefusedError]:
        """The verified message of each delivery, or why there is none."""
        seen = self._gate.signatures
        if self._signatures < _WORTH_THREADS or len(deliveries) < _WORTH_THREADS:
            opened = [self._open(delivery) for delivery in deliveries]
        else:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="opener")
            size = -(-len(deliveries) // self._threads)
            parts = [deliveries[at : at + size] for at in range(0, len(deliveries), size)]
            opened = [one for part in self._executor.map(self._open_part, parts) for one in part]
        self._signatures = self._gate.signatures - seen
        return opened

    def close(self) -> None:
        """Let the threads end; safe twice."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    def _open_part(self, deliveries: Sequence[Delivery]) -> list[Opened | RefusedError]:
        return [self._open(delivery) for delivery in deliveries]

    def open(self, delivery: Delivery) -> VerifiedMessage:
        """The verified message of one delivery, without what it waited for; raises `RefusedError`."""
        broadcast = self._broadcasts.get(delivery.queue)
        return self._gate.open(
            delivery.frame,
            kind=Kind.TASK,
            audience=self._audience if broadcast is None else frozenset({f"q:{broadcast}"}),
            queue=broadcast or delivery.queue,
            reader="" if broadcast is None else delivery.queue,
        )

    def open_sealed(self, delivery: Delivery) -> VerifiedMessage:
        """The same, with its body in the clear."""
        return self._gate.unseal(self.open(delivery))

    def unseal(self, held: Held) -> RefusedError | None:
        """Have what is held, and what it waited for, in the clear; returns why that cannot be."""
        inputs = held.inputs
        try:
            held.message = self._gate.unseal(held.message)
            if inputs is not None and inputs.results:
                opened = [self._gate.unseal(one) for one in inputs.results]
                failure = inputs.failure and opened[inputs.results.index(inputs.failure)]
                held.inputs = inputs._replace(results=opened, failure=failure)
        except RefusedError as error:
            return error
        return None

    def _open(self, delivery: Delivery) -> Opened | RefusedError:
        try:
            message = self.open(delivery)
            self._gate.check_readable(message)
        except RefusedError as error:
            return error
        try:
            inputs = self._gate.open_inputs(message, delivery.inputs)
            for one in inputs:
                if one is not None:
                    self._gate.check_readable(one)
            return Opened(message, inputs)
        except RefusedError as error:
            # Plain, for what is denied is a result beside it: whoever sent this one asked for nothing wrong.
            return RefusedError(error.reason, error.detail)


def check_id(delivery: Delivery, claims: Claims, headers: Mapping[str, Any]) -> None:
    """Raise `RefusedError` for a message that lies under another id than it was signed with.

    What waits for a task waits for the end of its id. So if a copy under another id ran, its end would
    wake nobody, and the task itself would be refused as a replay.
    """
    if delivery.id == claims.id:
        return
    # A worker's copy of a broadcast, and what takes its place, has the name of its queue behind the id.
    if delivery.id.startswith(f"{claims.id}>") and not headers.get("links"):
        return
    raise RefusedError(Refusal.WRONG_ID, f"signed as {claims.id}")


def until_next_look(reason: Refusal, attempt: int) -> float | None:
    """Seconds until a message may be found acceptable that is not now; None where it never will."""
    match reason:
        case Refusal.UNKNOWN_SIGNER | Refusal.UNKNOWN_KEY if attempt == 1:
            return SECOND_LOOK  # its certificate or its key may be on its way
        case Refusal.ISSUED_IN_FUTURE if attempt < LOOKS_AT_THE_FUTURE:
            return min(LONGEST_LOOK, SECOND_LOOK * 2.0 ** (attempt - 1))
        case _:
            return None
