"""Commands workers, and takes in what they answer. The client's side; `worker.clerk` is the other.

An answer comes on a channel of its own, whose name the command signs. It is opened at the gate like all that
others may have written: it must be signed by somebody who may answer, for this very command, and each worker
is heard once. Whatever is not so is counted, told and passed over; nothing that comes can end the asking.
"""

from __future__ import annotations

import json
import logging
import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from cardoon.audit import REFUSAL_EVENTS, AuditLog
from cardoon.broker import Broadcaster, Broker
from cardoon.clock import Clock
from cardoon.commands import COMMANDS, INSPECT
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, Refusal, RefusedError
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import (
    EVERY_WORKER,
    MAX_AUDIENCE,
    MAX_AUDIENCE_NAME,
    STANDING_COMMANDS,
    Kind,
    longest_lifetime,
)
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.posting import Posting
from cardoon.security.gate import Gate
from cardoon.security.signing import Draft, Signed, Signer
from cardoon.sender import Answer, Order, Refused

logger = logging.getLogger(__name__)

MAX_ANSWERS = 1000
"""To one command: what a channel keeps."""
MAX_ANSWER_BYTES = 256 * 1024
"""Of one answer as carried."""
MAX_REFUSED = 1000
"""Answers that are not taken, before nothing more is read: somebody floods the channel."""
_AT_A_TIME = 100
_HEARD_WITHIN = 5.0
"""Seconds beyond the timeout for which a question may still be carried out."""


def channel_of(order_id: str) -> str:
    """The channel on which a command is answered."""
    return f"reply.{order_id}"


class Commander:
    """Signs commands, has the broker carry them to workers, and opens the answers.

    `max_age` is for how many seconds a standing command holds.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        signer: Signer,
        gate: Gate,
        audit: AuditLog,
        clock: Clock,
        max_age: float,
    ) -> None:
        self._broker = broker
        self._signer = signer
        self._gate = gate
        self._audit = audit
        self._clock = clock
        self._max_age = max_age

    def tell(self, order: Order) -> None:
        """Have workers carry out a command; see `Commanding.command`."""
        self._send(order, reply=False, lifetime=self._lifetime_of(order))

    def ask(self, order: Order, *, timeout: float, limit: int | None) -> Iterator[Answer | Refused]:
        """Have workers carry out a command, and yield what they answer; see `Commanding.ask`."""
        posting = self._broker
        if not isinstance(posting, Posting):
            raise ImproperlyConfigured(
                "workers cannot answer over this broker; use sqlite:///, redis:// or postgresql://, or "
                "give the command without a reply"
            )
        command = COMMANDS.get(order.command)
        lifetime = self._lifetime_of(order)
        if command is not None and command.type == INSPECT:
            lifetime = min(lifetime, math.ceil(timeout + _HEARD_WITHIN))
        deadline = self._clock.monotonic() + timeout
        name, signed = self._send(order, reply=True, lifetime=lifetime)
        yield from self._hear(posting, order, name, signed.request, deadline, limit)

    def _hear(
        self,
        posting: Posting,
        order: Order,
        name: str,
        request: bytes,
        deadline: float,
        limit: int | None,
    ) -> Iterator[Answer | Refused]:
        most = MAX_ANSWERS if limit is None else min(limit, MAX_ANSWERS)
        heard: set[str] = set()
        after = refused = 0
        while len(heard) < most and refused < MAX_REFUSED:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return
            for number, frame in posting.posted(
                channel_of(name), after, limit=_AT_A_TIME, timeout=left
            ):
                after = number
                try:
                    answer = self._open(frame, order, name, request, heard)
                except RefusedError as error:
                    refused += 1
                    self._refuse(order, error)
                    yield Refused(error.reason.value, error.detail)
                    continue
                heard.add(answer.worker)
                yield answer
                if len(heard) >= most:
                    return
            if order.destination and heard.issuperset(order.destination):
                return

    def _open(
        self, frame: bytes, order: Order, name: str, request: bytes, heard: set[str]
    ) -> Answer:
        """What a worker says; `RefusedError` unless it is a worker's first answer to this command."""
        if len(frame) > MAX_ANSWER_BYTES:
            detail = f"{len(frame)} bytes; an answer has at most {MAX_ANSWER_BYTES}"
            raise RefusedError(Refusal.TOO_LARGE, detail)
        message = self._gate.open(frame, kind=Kind.CONTROL_REPLY, id=name, request=request)
        told = parse_headers(message.claims.headers)
        worker = told.get("worker")
        if not isinstance(worker, str) or not worker.isprintable() or not _fits(worker):
            raise RefusedError(Refusal.BAD_CLAIMS, "an answer that does not say whose it is")
        if order.destination and worker not in order.destination:
            raise RefusedError(Refusal.WRONG_REQUEST, f"{worker} was not asked")
        if worker in heard:
            raise RefusedError(Refusal.REPLAYED, f"{worker} has answered before")
        content = decode_body(message.claims.codec, message.body, max_bytes=MAX_ANSWER_BYTES)
        left_out = told.get("left_out", 0)
        return Answer(worker, content, left_out if isinstance(left_out, int) else 0)

    def _refuse(self, order: Order, error: RefusedError) -> None:
        logger.warning("an answer to %s was refused: %s", order.command, error)
        self._audit.record(
            REFUSAL_EVENTS[error.reason],
            kind="reply",
            command=order.command,
            reason=error.reason.value,
            detail=error.detail,
        )

    def _lifetime_of(self, order: Order) -> float:
        return min(self._max_age, longest_lifetime(Kind.CONTROL, order.command))

    def _send(self, order: Order, *, reply: bool, lifetime: float) -> tuple[str, Signed]:
        broker = self._broker
        if not isinstance(broker, Broadcaster):
            raise ImproperlyConfigured(f"{order.command}: this broker cannot reach every worker")
        draft = order_draft(order, reply=reply, lifetime=lifetime)
        [signed] = self._signer.sign([draft])
        broker.broadcast(signed.frame, expires_at=self._clock.now() + lifetime)
        if order.command in STANDING_COMMANDS or not self._only_looks(order):
            told = ",".join(order.destination[:5]) or order.pattern or None
            self._audit.record("operator.command", command=order.command, destination=told)
        return draft.id, signed

    def _only_looks(self, order: Order) -> bool:
        command = COMMANDS.get(order.command)
        return command is not None and command.type == INSPECT


def _fits(name: str) -> bool:
    return 0 < len(name.encode()) <= MAX_AUDIENCE_NAME


def order_draft(order: Order, *, reply: bool, lifetime: float) -> Draft:
    """What is signed of a command. Its id names the channel of the answers, if any are wanted."""
    if len(order.destination) > MAX_AUDIENCE:
        raise InvalidTaskError(
            f"{order.command}: {len(order.destination)} destinations; name at most {MAX_AUDIENCE}, or "
            "use pattern="
        )
    told: Mapping[str, Any] = {
        **({"reply": True} if reply else {}),
        **({"pattern": order.pattern} if order.pattern else {}),
    }
    return Draft(
        kind=Kind.CONTROL,
        task=order.command,
        id=uuid.uuid4().hex,
        audience=order.destination or (EVERY_WORKER,),
        codec=JSON,
        body=encode_body(dict(order.arguments), JSON),
        headers=json.dumps(told).encode() if told else b"",
        lifetime=lifetime,
    )
