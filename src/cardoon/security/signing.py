"""Signing: from a draft to a frame that a broker may carry.

One message is signed by itself. Several at once become a Merkle batch: one signature over the root
of a tree of their claims, and in each message the path from it to the root. A batch never couples
fates: each message is verified, run and lost by itself.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from cardoon.clock import Clock
from cardoon.exceptions import IdentityError, RefusedError, SecurityError
from cardoon.message import cbor, envelope, merkle
from cardoon.message.claims import encode_claims
from cardoon.message.headers import asked_task
from cardoon.message.protocol import (
    MAX_SECONDS,
    MAX_SEQUENCE,
    SESSION_BYTES,
    Claims,
    Compose,
    Encryption,
    GroupMember,
    Kind,
    Take,
    longest_lifetime,
)
from cardoon.message.requests import bind_name
from cardoon.security import keys
from cardoon.security.identity import Identity, PrivateIdentity
from cardoon.security.sealing import CLEAR, Seal, Sealer, SealingBatch

DEFAULT_MAX_AGE = 86_400.0
"""Seconds for which a message may be acted on; Celery's default for results, too."""
WAITING_AGES = 7
"""How many times as long a message may be acted on that waits for others: a week by default."""
SIGN_SECONDS = 10.0
"""For a signature by a key that lies elsewhere, where the caller has no deadline of its own."""
SESSION_SECONDS = 600.0
"""Seconds until a new session: two clones of a machine share one no longer than that."""


class Draft(NamedTuple):
    """What is to be signed; the signer adds who, when and for how long."""

    kind: Kind
    task: str
    id: str
    audience: tuple[str, ...]
    codec: str
    body: bytes
    root: str | None = None
    parent: str | None = None
    group: GroupMember | None = None
    eta: int | None = None
    """Milliseconds since the epoch, like `expires`."""
    expires: int | None = None
    retries: int | None = None
    """A task without it is a first attempt."""
    max_retries: int | None = None
    headers: bytes = b""
    """A JSON object."""
    request: bytes | None = None
    """SHA-256 of the claims that this answers, or whose place it takes."""
    lifetime: float | None = None
    """Seconds for which it may be acted on, if not as long as the signer's messages usually are."""
    take: Take = Take.RESULT
    after: tuple[int | bytes, ...] = ()
    """What it waits for, to take something of it: places of earlier drafts, or request digests."""
    reply: str | None = None
    """A task only: where its result is waited for."""
    session: bytes | None = None
    """Instead of a nonce of the signer's: what is signed with one of these is carried out once."""
    sequence: int = 0
    """With `session`: which of its messages."""
    until: float | None = None
    """Instead of a lifetime: seconds since the epoch."""
    seal: Seal | None = None
    """Who alone is to be able to read the body. `CLEAR` leaves it in the clear; so does None, but in tasks
    of a signer that seals."""


class Signed(NamedTuple):
    """A message that is ready to be sent."""

    frame: bytes
    request: bytes
    """What an answer is held against: `requests.bind_name`."""


class Signer(Protocol):
    """Turns drafts into frames."""

    @property
    def identity(self) -> Identity | None:
        """Who signs; None for a signer that does not."""
        ...

    def sign(self, drafts: Sequence[Draft], *, timeout: float = SIGN_SECONDS) -> list[Signed]:
        """Return a frame for each draft, in order.

        `EncodeError` for a draft that breaks a bound of the protocol, `SecurityError` for one that
        nobody would accept: `IdentityError` if that is for who we are. `OperationalError` if the key
        lies elsewhere and nothing was signed there within `timeout` seconds.
        """
        ...


def _leave_clear() -> Seal | None:
    return None


class MessageSigner:
    """Signs as one identity. Safe from several threads, and after a fork.

    `domain` is the security domain: a signature made for one is worth nothing in another.
    `send_chain` puts the certificates into every message, for receivers that know only the anchor.
    `seal` says to whom tasks are sealed whose drafts do not say it.
    """

    def __init__(
        self,
        private: PrivateIdentity,
        *,
        domain: str,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        max_age: float = DEFAULT_MAX_AGE,
        send_chain: bool = False,
        seal: Callable[[], Seal | None] = _leave_clear,
    ) -> None:
        identity, algorithm = private.identity, private.algorithm
        self.identity: Identity | None = identity
        self._sign = keys.make_sign_within(private.key, algorithm)
        self._domain = domain.encode()
        self._chain = (private.certificate, *private.chain) if send_chain else ()
        self._single = envelope.protected_header(algorithm, identity.fingerprint, batch=False)
        self._batch = envelope.protected_header(algorithm, identity.fingerprint, batch=True)
        self._single_start = envelope.begin_single(self._single, chain=self._chain)
        self._single_to_sign = envelope.begin_to_sign(self._single, self._domain)
        self._writer = _ClaimsWriter(clock, random, max_age, identity, seal)

    def sign(self, drafts: Sequence[Draft], *, timeout: float = SIGN_SECONDS) -> list[Signed]:
        """Sign one draft by itself, and several in batches of up to 256."""
        bodies, claims = self._writer.write(drafts)
        signed: list[Signed] = []
        for start in range(0, len(drafts), merkle.MAX_LEAVES):
            stop = start + merkle.MAX_LEAVES
            some = claims[start:stop]
            if len(some) == 1:
                frame = self._sign_one(some[0], bodies[start], timeout)
                signed.append(Signed(frame, _request_of(drafts[start], some[0])))
            else:
                frames = self._sign_together(some, bodies[start:stop], timeout)
                requests = map(_request_of, drafts[start:stop], some)
                signed += map(Signed, frames, requests)
        return signed

    def _sign_one(self, encoded: bytes, body: bytes, timeout: float) -> bytes:
        signature = self._sign(self._single_to_sign + cbor.byte_string(encoded), timeout)
        return envelope.build_signed(self._single_start, encoded, signature, body)

    def _sign_together(
        self, claims: list[bytes], bodies: list[bytes], timeout: float
    ) -> Iterator[bytes]:
        tree = merkle.build_tree(claims)
        to_sign = envelope.bytes_to_sign(self._batch, self._domain, tree.root, size=len(claims))
        starts = envelope.begin_batch(self._batch, chain=self._chain, paths=tree.proofs)
        signature = self._sign(to_sign, timeout)
        for start, encoded, body in zip(starts, claims, bodies, strict=True):
            yield envelope.build_signed(start, encoded, signature, body)


class PlainSigner:
    """Makes frames without signature, for receivers that accept those by an explicit setting."""

    def __init__(
        self,
        *,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
        max_age: float = DEFAULT_MAX_AGE,
    ) -> None:
        self.identity: Identity | None = None
        self._writer = _ClaimsWriter(clock, random, max_age, None)

    def sign(self, drafts: Sequence[Draft], *, timeout: float = SIGN_SECONDS) -> list[Signed]:  # noqa: ARG002
        """Frame each draft, with everything but a signature."""
        bodies, claims = self._writer.write(drafts)
        return [
            Signed(envelope.build_plain(encoded, body), _request_of(draft, encoded))
            for draft, encoded, body in zip(drafts, claims, bodies, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Session:
    id: bytes
    numbers: Iterator[int]
    ends_at: float
    """On the monotonic clock."""
    process: int


class _Said(NamedTuple):
    """What the signer adds to a draft."""

    issued_at: int
    session: bytes
    sequence: int
    compose: Compose | None
    encryption: Encryption | None


class _ClaimsWriter:
    """Adds to drafts what the signer says: nonce and times.

    Threads share it without a lock. `next` on `itertools.count` is one step, so no two of them draw
    one number, and a session is replaced, never changed. If two replace it at once, the number of
    the loser is still unique, in a session of its own.
    """

    def __init__(
        self,
        clock: Clock,
        random: Callable[[int], bytes],
        max_age: float,
        identity: Identity | None,
        seal: Callable[[], Seal | None] = _leave_clear,
    ) -> None:
        self._clock = clock
        self._random = random
        self._max_age = max_age
        self._identity = identity
        self._not_after = MAX_SECONDS if identity is None else int(identity.not_after)
        self._sealer = Sealer(random=random)
        self._seal_tasks = seal
        self._session = self._begin_session()

    def write(self, drafts: Sequence[Draft]) -> tuple[list[bytes], list[bytes]]:
        """Return the bodies of drafts as they are carried, and their encoded claims."""
        now = self._clock.now()
        if self._identity is not None:
            _check_validity(self._identity, now)
        session = self._session
        if session.process != os.getpid() or self._clock.monotonic() >= session.ends_at:
            self._session = self._begin_session()
        usual = self._seal_tasks()
        batch: SealingBatch | None = None
        bodies: list[bytes] = []
        written: list[bytes] = []
        for draft in drafts:
            nonce = self._draw_nonce() if draft.session is None else (draft.session, draft.sequence)
            seal = usual if draft.seal is None and draft.kind is Kind.TASK else draft.seal
            encryption, body = None, draft.body
            if seal is not None and seal is not CLEAR:
                batch = batch or self._begin_sealing(draft, len(drafts))
                encryption, body = batch.seal(seal, nonce, draft.kind, body)
            compose = _find_predecessors(draft, drafts, written) if draft.after else None
            said = _Said(int(now), *nonce, compose, encryption)
            written.append(self._write_one(draft, body, said))
            bodies.append(body)
        return bodies, written

    def _begin_sealing(self, draft: Draft, most: int) -> SealingBatch:
        if self._identity is None:
            raise SecurityError(
                f"task {draft.id}: it is to be encrypted, but is not signed; sign it (task_serializer = "
                "'auth'), since what nobody has signed anybody can have sealed"
            )
        return self._sealer.begin_batch(self._identity.fingerprint, most=most)

    def _write_one(self, draft: Draft, body: bytes, said: _Said) -> bytes:
        issued_at = said.issued_at
        start = issued_at if draft.eta is None else max(issued_at, draft.eta // 1000)
        if start > self._not_after:
            raise SecurityError(
                f"task {draft.id}: eta is behind the end of our certificate: {_moment(start)} instead of at "
                f"most {_moment(self._not_after)}; send it nearer to its time, or issue a certificate "
                "that lasts longer"
            )
        lifetime = draft.lifetime
        if lifetime is None:
            lifetime = min(self._max_age, longest_lifetime(draft.kind, draft.task))
        if draft.after:
            lifetime *= WAITING_AGES
        end = start + lifetime if draft.until is None else max(draft.until, start)
        retries = 0 if draft.retries is None and draft.kind == Kind.TASK else draft.retries
        return encode_claims(
            Claims(
                draft.kind,
                draft.task,
                draft.id,
                draft.audience,
                issued_at,
                min(int(end), self._not_after),
                said.session,
                said.sequence,
                hashlib.sha256(body).digest(),
                draft.codec,
                len(body),
                draft.root,
                draft.parent,
                draft.group,
                draft.eta,
                draft.expires,
                retries,
                draft.max_retries,
                draft.reply,
                draft.headers,
                draft.request,
                said.compose,
                said.encryption,
            )
        )

    def _draw_nonce(self) -> tuple[bytes, int]:
        while True:
            session = self._session
            number = next(session.numbers)
            if number < MAX_SEQUENCE:
                return session.id, number
            self._session = self._begin_session()

    def _begin_session(self) -> _Session:
        return _Session(
            id=self._random(SESSION_BYTES),
            numbers=itertools.count(),
            ends_at=self._clock.monotonic() + SESSION_SECONDS,
            process=os.getpid(),
        )


def digest_predecessors(requests: Iterable[bytes]) -> bytes:
    """What a task signs of those that it waits for: SHA-256 over their request digests."""
    return hashlib.sha256(b"".join(requests)).digest()


def _request_of(draft: Draft, encoded: bytes) -> bytes:
    """What its answer is held against: of what takes another's place, as that one's."""
    if draft.kind is Kind.TASK and draft.request is not None:
        try:
            asked = asked_task(draft.task, draft.headers)
        except RefusedError:
            asked = draft.task  # whoever receives it refuses it, whatever else it says
        return bind_name(draft.kind, asked, draft.request)
    return bind_name(draft.kind, draft.task, hashlib.sha256(encoded).digest())


def _find_predecessors(draft: Draft, drafts: Sequence[Draft], written: Sequence[bytes]) -> Compose:
    requests = (
        one if isinstance(one, bytes) else _request_of(drafts[one], written[one])
        for one in draft.after
    )
    return Compose(draft.take, len(draft.after), digest_predecessors(requests))


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, ValueError, OSError):  # of an ETA anything may have been said
        return str(seconds)


def _check_validity(identity: Identity, now: float) -> None:
    if now < identity.not_before:
        raise IdentityError(f"{identity!r}: not valid yet; check the clock, or sign later")
    if now > identity.not_after:
        raise IdentityError(f"{identity!r}: the certificate has expired; issue a new one")
