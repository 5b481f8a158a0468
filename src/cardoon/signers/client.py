"""Asks what signs for us, and gives up at the deadline. Safe from several threads, and after a fork."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path

from cardoon.clock import Clock
from cardoon.exceptions import IdentityError, MessageError, OperationalError, SecurityError
from cardoon.security import keys
from cardoon.security.identity import PrivateIdentity, load_identity_elsewhere
from cardoon.signers.exchange import (
    LENGTH,
    MAX_ANSWER,
    Answer,
    Ask,
    Status,
    read_answer,
    write_request,
)
from cardoon.signers.place import Line, Place
from cardoon.signers.trial import TRIAL_SECONDS, try_out

RENEWAL_SECONDS = 1.0
"""To try out a certificate that was renewed: somebody waits for a message to be signed meanwhile."""
_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between tries to connect; the first at once, for one that was restarted meanwhile."""


@dataclass(slots=True)
class _Connection:
    """What one process has; a child of it has none, or their answers would get mixed up."""

    process: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)  # protects the rest
    line: Line | None = None
    failures: int = 0
    next_try: float = 0.0


class SignerClient:
    """One connection to what signs, made when it is needed and again when it has broken.

    One request is under way at a time; messages that are sent at once are signed as one batch anyway.
    """

    def __init__(self, place: Place, *, clock: Clock) -> None:
        self.place = place
        self._clock = clock
        self._connection = _Connection()
        self._end = weakref.finalize(self, _hang_up, self._connection)
        _alive.add(self)

    def sign(self, ask: Ask, timeout: float) -> bytes:
        """Have `ask` signed.

        `OperationalError` if nobody does within `timeout` seconds, `IdentityError` if what answers
        has another key or does not sign what we send.
        """
        answer = self._ask(write_request(ask), timeout)
        match answer.status:
            case Status.SIGNED:
                return answer.signature
            case Status.NOT_HELD:
                raise IdentityError(
                    f"security_key {self.place}: has not the key of our certificate "
                    f"sha256:{ask.certificate.hex()[:16]}: {answer.told}"
                )
            case Status.REFUSED:
                raise IdentityError(f"security_key {self.place}: refuses: {answer.told}")
            case Status.FAILED:
                raise OperationalError(f"security_key {self.place}: could not sign: {answer.told}")

    def close(self) -> None:
        """Hang up; the next request connects again. Safe twice."""
        connection = self._connection
        with connection.lock:
            _hang_up(connection)

    def after_fork_in_child(self) -> None:
        """Start afresh: the connection is the parent's, and its lock may be held for ever."""
        _hang_up(self._connection)
        self._end.detach()
        self._connection = _Connection()
        self._end = weakref.finalize(self, _hang_up, self._connection)

    def _ask(self, request: bytes, timeout: float) -> Answer:
        deadline = self._clock.monotonic() + timeout
        connection = self._connection
        if not connection.lock.acquire(timeout=timeout):
            raise OperationalError(
                f"security_key {self.place}: others have waited for {timeout:g} seconds"
            )
        try:
            return self._insist(connection, request, deadline)
        finally:
            connection.lock.release()

    def _insist(self, connection: _Connection, request: bytes, deadline: float) -> Answer:
        """Ask until there is an answer. To ask twice is harmless: a signature is no use of anything."""
        trouble: Exception | None = None
        while True:
            now = self._clock.monotonic()
            if now >= deadline:
                raise OperationalError(
                    f"security_key {self.place}: nothing signed within the deadline"
                    f"{f' ({trouble})' if trouble else ''}; see whether it runs"
                ) from trouble
            if now < connection.next_try:
                time.sleep(min(connection.next_try, deadline) - now)
                continue
            try:
                if connection.line is None:
                    connection.line = self._connect(deadline - now)
                answer = self._exchange(connection.line.end, request, deadline)
            except (OSError, MessageError) as error:
                trouble = error
                _hang_up(connection)
                pause = _PAUSES[min(connection.failures, len(_PAUSES) - 1)]
                connection.failures += 1
                connection.next_try = self._clock.monotonic() + pause
            else:
                connection.failures = 0
                return answer

    def _connect(self, timeout: float) -> Line:
        try:
            return self.place.connect(timeout)
        except SecurityError as error:  # a program that others can change
            raise IdentityError(f"security_key: {error}") from error

    def _exchange(self, end: socket.socket, request: bytes, deadline: float) -> Answer:
        end.settimeout(self._left(deadline))
        end.sendall(request)
        [length] = LENGTH.unpack(self._read(end, LENGTH.size, deadline))
        if length > MAX_ANSWER:
            raise MessageError(f"signer: an answer of {length} bytes; at most {MAX_ANSWER}")
        return read_answer(self._read(end, length, deadline))

    def _read(self, end: socket.socket, size: int, deadline: float) -> bytes:
        content = b""
        while len(content) < size:
            end.settimeout(self._left(deadline))
            more = end.recv(size - len(content))
            if not more:
                raise ConnectionError("it hung up")
            content += more
        return content

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError("no answer")
        return left


def _hang_up(connection: _Connection) -> None:
    line, connection.line = connection.line, None
    if line is None:
        return
    line.end.close()
    if line.process is not None:
        if connection.process != os.getpid():
            line.process.returncode = 0  # its parent's to wait for
            return
        with contextlib.suppress(ProcessLookupError):
            line.process.kill()
        line.process.wait()


# Hooks cannot be taken back, so it is registered once, for whatever is alive when it runs.
_alive: weakref.WeakSet[SignerClient] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in list(_alive):
        client.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Key:
    """A `KeyElsewhere`: the key of one certificate, as a client asks for it."""

    def __init__(self, client: SignerClient, certificate: bytes, public: keys.PublicKey) -> None:
        self._client = client
        self._certificate = certificate
        self._public = public

    def public_key(self) -> keys.PublicKey:
        return self._public

    def sign(self, content: bytes, algorithm: keys.Algorithm, timeout: float) -> bytes:
        return self._client.sign(Ask(algorithm, self._certificate, content), timeout)


def load_identity_from(
    client: SignerClient,
    certificate: Path,
    *,
    domain: str,
    digest: str,
    timeout: float = TRIAL_SECONDS,
) -> PrivateIdentity:
    """Load a certificate whose key what `client` asks has, and try the two out within `timeout` seconds.

    `SecurityError` if they do not belong together or if `domain` is not signed for,
    `OperationalError` if nobody answers.
    """
    private = load_identity_elsewhere(
        certificate, lambda mark, public: _Key(client, mark, public), digest=digest
    )
    try:
        try_out(private, domain, timeout=timeout)
    except SecurityError as error:
        raise SecurityError(f"{certificate}: {error}") from error
    return private
