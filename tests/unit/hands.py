"""A worker done by hand, on real stores: takes messages, runs nothing, and signs how they end.

For tests of what people and clients see, on files that another process may have open as well.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cardoon import states
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, DeadLetter, Delivery, Quarantine, Settlement
from cardoon.clock import Clock, SystemClock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.result import describe_exception
from cardoon.security.gate import VerifiedMessage
from cardoon.security.signing import Draft
from cardoon.worker.concluding import answer_seal

QUEUE = "celery"
NAME = "hands@here"


class Hands:
    """One pair of hands, with a worker's identity and connections of its own."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.deployment = Deployment(settings, clock=self.clock, role="worker")
        self.broker: Any = self.deployment.open_broker()
        self.backend: Any = self.deployment.open_backend(self.broker)
        self.gate = self.deployment.make_gate(settings.accept_content)
        self.signer = self.deployment.make_signer(settings.result_serializer)
        self.broker.declare([QUEUE])

    def close(self) -> None:
        """Let go of everything; safe twice."""
        if self.backend is not None:
            self.backend.close()
        self.broker.close()
        self.deployment.audit().close()

    def take(self, *, limit: int = 1, timeout: float = 0.0) -> list[Delivery]:
        """Lease messages."""
        return list(self.broker.receive([QUEUE], limit=limit, lease=30.0, timeout=timeout))

    def open(self, delivery: Delivery) -> VerifiedMessage:
        """What a message says, if it is worth anything."""
        return self.gate.open(delivery.frame, kind=Kind.TASK, audience=frozenset({f"q:{QUEUE}"}))

    def arguments(self, delivery: Delivery) -> list[Any]:
        """The positional arguments of a call."""
        message = self.gate.unseal(self.open(delivery))
        found: Any = decode_body(message.claims.codec, message.body, max_bytes=1 << 20)
        return found[0]

    def seal(self, content: object, state: str = states.SUCCESS, **claims: Any) -> SealedResult:
        """A signed result; `claims` name the task and the request that it answers."""
        told = {"state": state, "worker": NAME}
        if states.is_final(state):
            told["done"] = self.clock.now()
        given = {"task": "shop.pay", "headers": json.dumps(told).encode(), **claims}
        draft = Draft(
            Kind.RESULT, audience=(), codec=JSON, body=encode_body(content, JSON), **given
        )
        [signed] = self.signer.sign([draft])
        return SealedResult(draft.id, signed.frame, states.is_final(state), None)

    def seal_for(
        self, delivery: Delivery, content: object, state: str = states.SUCCESS
    ) -> SealedResult:
        """A signed result of this message."""
        message = self.open(delivery)
        claims = message.claims
        return self.seal(
            content,
            state,
            id=claims.id,
            task=claims.task,
            request=message.digest,
            seal=answer_seal(message),
        )

    def succeed(self, delivery: Delivery, value: object = None) -> None:
        """It returned a value."""
        self._end(Ack(delivery), self.seal_for(delivery, {"result": value}))

    def fail(self, delivery: Delivery, error: BaseException, *, dead: str = "") -> None:
        """It raised; with `dead`, it is a dead letter for this reason."""
        content = {"error": describe_exception(error), "traceback": "Traceback of\n  hands"}
        sealed = self.seal_for(delivery, content, states.FAILURE)
        self._end(DeadLetter(delivery, dead) if dead else Ack(delivery), sealed)

    def tell(self, delivery: Delivery, state: str, content: object) -> None:
        """It goes on, in a state of this name."""
        self.backend.store([self.seal_for(delivery, content, state)])

    def refuse(self, delivery: Delivery, reason: str, detail: str = "") -> None:
        """It is not what it says it is."""
        self._end(Quarantine(delivery, reason, detail), None)

    def _end(self, settlement: Settlement, result: SealedResult | None) -> None:
        assert self.broker.complete([Completion(settlement, result)]) == [True]

    @contextmanager
    def answering(self, answer: Callable[..., object]) -> Iterator[None]:
        """Meanwhile, a thread answers every call with what `answer` makes of its arguments."""
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                for delivery in self.take(limit=100, timeout=0.05):
                    self.succeed(delivery, answer(*self.arguments(delivery)))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
