"""The clerk: carries out commands, one after the other, and answers those who wait.

A thread of its own, that hears of commands several times a second. What it carries out was verified and allowed
before it came here; its arguments are checked here. An answer is signed, bound to its command, bounded in size,
and put on the channel that the command's signed id names.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from cardoon.audit import AuditLog
from cardoon.broker import Broker
from cardoon.clock import Clock
from cardoon.commanding import MAX_ANSWER_BYTES, MAX_ANSWERS, channel_of
from cardoon.commands import COMMANDS, INSPECT
from cardoon.exceptions import CardoonError, InvalidTaskError, RefusedError
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.posting import Posting
from cardoon.security.gate import VerifiedMessage
from cardoon.security.signing import Draft, Signer
from cardoon.worker.orders import wants_reply

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[..., Any]
"""Given the checked arguments as keywords, what is answered. Returns soon; raises `CardoonError`."""

LISTENING_SECONDS = 0.25
"""Between two looks at what was broadcast: well within the second for which a client waits by default."""
MAX_WAITING = 1000
"""Commands that are not carried out yet; more are dropped, and that is told."""
ANSWER_SECONDS = 60.0
"""For which an answer is kept: its client has long gone by then."""
MOST_ANSWERED = MAX_ANSWER_BYTES - 32 * 1024
"""Bytes of what is answered: the rest is for the envelope, and perhaps certificates."""
_CHANNEL_ID = re.compile(r"[0-9a-f]{32}")


class Others(Protocol):
    """Runs the commands of somebody's own, where the app is."""

    @property
    def names(self) -> frozenset[str]:
        """Which there are."""
        ...

    def run(self, name: str, arguments: Mapping[str, Any], answer: Callable[[Any], None]) -> None:
        """Have one run, and `answer` called with what it returns, from any thread, within bounded time."""
        ...


class Clerk:
    """Carries out commands; `handlers` by name, and `others` for those of the app. None, unless `is_on`."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        listen: Callable[[], None],
        broker: Broker,
        signer: Signer,
        audit: AuditLog,
        clock: Clock,
        worker: str,
        others: Others | None = None,
        is_on: bool = True,
    ) -> None:
        self._handlers = handlers
        self._is_on = is_on
        self._listen = listen
        self._broker = broker
        self._signer = signer
        self._audit = audit
        self._clock = clock
        self._worker = worker
        self._others = others
        self._waiting: queue.Queue[VerifiedMessage] = queue.Queue(MAX_WAITING)
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)
        self.carried_out = 0

    def start(self) -> None:
        """Begin; again, nothing happens."""
        if self._is_on and not self._thread.is_alive():
            self._thread.start()

    def stop(self, timeout: float) -> None:
        """End, after the command that is being carried out; safe twice."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def take(self, message: VerifiedMessage) -> None:
        """Take a verified command; dropped while too many wait, and where there is no remote control."""
        if not self._is_on:
            return
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1:
                logger.warning("%d commands wait already; more of them are dropped", MAX_WAITING)
                self._audit.record("control.dropped", worker=self._worker)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                message = self._waiting.get(timeout=LISTENING_SECONDS)
            except queue.Empty:
                self._dropped = 0
                self._hear()
            else:
                self.carry_out(message)

    def _hear(self) -> None:
        try:
            self._listen()
        except CardoonError as error:
            logger.debug("commands: %s", error)  # the keeper says so
            self._stop.wait(1.0)
        except Exception:  # the thread must outlive any one look
            logger.exception("commands")
            self._stop.wait(1.0)

    def carry_out(self, message: VerifiedMessage) -> None:
        """Carry out one command, and answer it; nothing is raised."""
        claims = message.claims
        name = claims.task
        self.carried_out += 1
        command = COMMANDS.get(name)
        if command is None or command.type != INSPECT:
            signer = None if message.signer is None else message.signer.name
            self._audit.record("control.command", command=name, signer=signer, worker=self._worker)
        try:
            arguments = _read(message)
            if command is None and self._others is not None and name in self._others.names:
                self._others.run(name, arguments, lambda told: self.answer(message, told))
                return
            told = self._call(name, arguments)
        except CardoonError as error:
            told = {"error": str(error)}
        except Exception as error:  # the thread must outlive any one command
            logger.exception("command %s", name)
            told = {"error": f"{type(error).__name__}; see the worker's log"}
        self.answer(message, told)

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        handler = self._handlers.get(name)
        command = COMMANDS.get(name)
        if handler is None or command is None:
            raise InvalidTaskError(f"this worker knows no command {name!r}")
        return handler(**command.check(arguments))

    def answer(self, message: VerifiedMessage, told: Any) -> None:
        """Post an answer, if somebody waits for one. From any thread; nothing is raised."""
        claims = message.claims
        if not wants_reply(message) or _CHANNEL_ID.fullmatch(claims.id) is None:
            return
        broker = self._broker
        if not isinstance(broker, Posting):
            return
        try:
            body, left_out = fit(told)
            head = {"worker": self._worker, **({"left_out": left_out} if left_out else {})}
            draft = Draft(
                kind=Kind.CONTROL_REPLY,
                task=claims.task,
                id=claims.id,
                audience=(),
                codec=JSON,
                body=body,
                headers=json.dumps(head).encode(),
                request=message.digest,
                lifetime=ANSWER_SECONDS,
            )
            [signed] = self._signer.sign([draft])
            expires_at = self._clock.now() + ANSWER_SECONDS
            broker.post(
                channel_of(claims.id), [signed.frame], expires_at=expires_at, keep=MAX_ANSWERS
            )
        except CardoonError as error:
            logger.warning("the answer to %s is lost: %s", claims.task, error)
        except Exception:  # the thread must outlive any one answer
            logger.exception("the answer to %s is lost", claims.task)


def _read(message: VerifiedMessage) -> dict[str, Any]:
    try:
        found = decode_body(message.claims.codec, message.body, max_bytes=MAX_ANSWER_BYTES)
    except RefusedError as error:
        raise InvalidTaskError(f"its arguments cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InvalidTaskError("its arguments are no JSON object")
    return found


def fit(told: Any) -> tuple[bytes, int]:
    """An answer as bytes, and how many members of a list were left out of it so that it is short enough."""
    body = encode_body(told, JSON)
    if len(body) <= MOST_ANSWERED:
        return body, 0
    if isinstance(told, (list, tuple)) and told:
        room = max(1, len(told) * MOST_ANSWERED // len(body))
        while room:
            body = encode_body(told[:room], JSON)
            if len(body) <= MOST_ANSWERED:
                return body, len(told) - room
            room //= 2
    told = {"error": f"the answer has {len(body)} bytes; at most {MOST_ANSWERED} are sent"}
    return encode_body(told, JSON), 0
