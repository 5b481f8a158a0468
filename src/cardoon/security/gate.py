"""The one door: a frame that anybody may have written goes in, a verified message comes out.

The checks stand in `Gate.open`, numbered and in order. Before the signature is verified nothing is
decompressed, decoded or believed. Any bytes at all end in a `VerifiedMessage` or in `RefusedError`;
nothing else is raised, so no message can stop a worker.

    (1) bounds
    (2) form, signer, signature
    (3) claims
    (4) policy

Four follow where the message is about to be carried out: (5) what it waited for, in `Gate.open_inputs`,
and what waits for it, in `worker.opening.check_id`; (6) replay, by `ReplayGuard.claim` with the message's
nonce; (7) decrypting a sealed body, in `Gate.unseal`; and (8) reading it, by `serializers.decode_body`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from cardoon.clock import Clock
from cardoon.contents import PICKLE, Accepted, all_codecs
from cardoon.exceptions import MessageError, Refusal, RefusedError, SecurityError
from cardoon.message import envelope, merkle
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import MAX_ENVELOPE, PlainFrame, Proof, SignedFrame
from cardoon.message.headers import asked_task
from cardoon.message.protocol import Claims, Kind
from cardoon.message.requests import bind_name
from cardoon.message.serializers import CODECS
from cardoon.security.cache import GenerationCache
from cardoon.security.identity import Identity
from cardoon.security.origins import Parties
from cardoon.security.policy import Action, AllowTrusted, Policy, Request
from cardoon.security.replay import Nonce, make_nonce, nonce_of_reader
from cardoon.security.sealing import (
    MAX_OVERHEAD,
    Context,
    Unsealer,
    describe_recipients,
    load_recipient,
)
from cardoon.security.signing import digest_predecessors
from cardoon.security.snapshot import TrustedKey
from cardoon.security.trust import DEFAULT_SKEW, TrustStore

SIGNED = "auth"
PLAIN = "json"
"""What `accept` may name: Celery's names for messages with and without signature."""

_MAX_ROOTS = 4096
"""Roots of batches whose signatures were verified; some 400 bytes each."""

_ACTIONS = {
    Kind.TASK: Action.SEND,
    Kind.RESULT: Action.RESULT,
    Kind.EVENT: Action.EVENT,
    Kind.CONTROL: Action.CONTROL,
    Kind.CONTROL_REPLY: Action.REPLY,
    Kind.KEYSET: Action.KEYS,
    Kind.BEAT: Action.SCHEDULE,
    Kind.AUDIT_CHECKPOINT: Action.EVENT,
}
_SEALED_KINDS = frozenset({Kind.TASK, Kind.RESULT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a message may be, in bytes."""

    max_body: int = 8 * 1024 * 1024
    """As carried, but for what sealing adds. Half of RabbitMQ's default `max_message_size`."""

    @property
    def max_frame(self) -> int:
        """The largest body in the largest envelope."""
        return MAX_ENVELOPE + _MAX_BODY_HEAD + self.max_body + MAX_OVERHEAD


_MAX_BODY_HEAD = 9


class Input(NamedTuple):
    """How a message ended that another one waits for."""

    id: str
    request: bytes
    """What its result is held against: `requests.bind_name`."""
    frame: bytes | None
    """Its signed result; None where it has not ended, or is gone without one."""


class VerifiedMessage(NamedTuple):
    """A message that passed the gate. Nothing but the gate makes one."""

    claims: Claims
    body: bytes
    """As carried."""
    signer: Identity | None
    """None for a message that is not signed."""
    digest: bytes
    """SHA-256 of the claims, which an answer must name in label 21."""
    nonce: Nonce
    origin: Parties | None = None
    """On whose behalf it was sent; None without a policy, which alone keeps account of that."""
    sealed_to: bytes = b""
    """The public key of ours that its body is sealed to; empty if it is not sealed, or to others."""

    @property
    def request(self) -> bytes:
        """What an answer to it is held against, as its signer knows it: `Signed.request`."""
        claims = self.claims
        if claims.kind is Kind.TASK and claims.request is not None:
            return bind_name(claims.kind, asked_task(claims.task, claims.headers), claims.request)
        return bind_name(claims.kind, claims.task, self.digest)


class DeniedError(RefusedError):
    """A genuine message whose signer may not do what it asks for."""

    def __init__(self, message: VerifiedMessage, detail: str) -> None:
        super().__init__(Refusal.DENIED, detail)
        self.message = message
        """What was asked, so that its sender can be told."""


class Gate:
    """Opens frames. Safe from several threads: verification lets go of the interpreter lock.

    `accept` says what may come in: `auth` (signed JSON), `json` (JSON without signature), or both; or the
    codecs of either as `Accepted`, and in `results` those of results if they differ. Of what is not signed
    only JSON is taken, and of results, which task code makes, no pickles. `domain` is the security domain
    in which signatures must have been made. `skew` is in seconds. `unsealer` holds the keys of those whom
    bodies are sealed to; with `require_encryption` no task or result is taken that is not sealed.
    """

    def __init__(
        self,
        *,
        domain: str,
        trust: TrustStore | None,
        accept: Collection[str] | Accepted,
        clock: Clock,
        codecs: Collection[str] = CODECS,
        results: Accepted | None = None,
        skew: float = DEFAULT_SKEW,
        limits: Limits | None = None,
        policy: Policy | None = None,
        unsealer: Unsealer | None = None,
        require_encryption: bool = False,
    ) -> None:
        tasks = accept if isinstance(accept, Accepted) else _accept(accept, codecs)
        self._accepted = _by_kind(tasks, results or tasks)
        if trust is None and any(one.signed for one in self._accepted.values()):
            raise SecurityError("accept: 'auth' needs a trust store to verify signatures with")
        self._domain = domain.encode()
        self._trust = trust
        self._clock = clock
        self.skew = skew
        """Seconds by which a clock may be wrong."""
        self._limits = limits or Limits()
        self._max_frame = self._limits.max_frame
        self._policy = policy or AllowTrusted()
        self._unsealer = unsealer
        self._require_encryption = require_encryption
        self.signatures = 0
        """How many it has verified, roughly: for those who care what that costs."""
        self._roots: GenerationCache[tuple[bytes, bytes, bytes, int], bool] = GenerationCache(
            _MAX_ROOTS
        )

    def open(
        self,
        frame: bytes,
        *,
        kind: Kind,
        audience: frozenset[str] | None = None,
        queue: str = "",
        id: str | None = None,
        request: bytes | None = None,
        at_any_age: bool = False,
        reader: str = "",
    ) -> VerifiedMessage:
        """Verify a frame that is expected to be of this kind; `RefusedError` with the reason if not.

        `audience` are the names for which we act (None: any), `queue` is where the frame came from,
        `id` and `request` are what an answer is held against (None: any). `at_any_age` is for what is bound to
        something that has an age of its own. `reader` is what we are called where each of several readers
        is to carry the message out.
        """
        # (1) bounds: nothing is looked at that is larger than agreed.
        if len(frame) > self._max_frame:
            raise RefusedError(Refusal.TOO_LARGE, f"{len(frame)} bytes; at most {self._max_frame}")
        accepted = self._accepted[kind]
        try:
            # (2) strict form, known signer, certificate and revocation today, signature.
            parsed = envelope.parse_frame(frame)
            signer = self._verify(parsed, accepted)
        except MessageError as error:
            raise RefusedError(Refusal.MALFORMED, str(error)) from error
        try:
            # (3) claims: from here on the signer is responsible for what they say.
            claims = parse_claims(parsed.claims)
        except MessageError as error:
            raise RefusedError(Refusal.BAD_CLAIMS, str(error)) from error
        self._check_context(claims, kind, audience, at_any_age=at_any_age)
        self._check_body(claims, parsed.body, accepted.plain if signer is None else accepted.signed)
        _check_binding(claims, id, request)
        sealed_to = b"" if claims.encryption is None else self._check_sealed(claims, signer)
        nonce = make_nonce(
            b"" if signer is None else signer.fingerprint,
            claims.session,
            claims.sequence,
            claims.valid_until + self.skew,
            claims.issued_at + 1 + self.skew,  # it is signed in whole seconds
        )
        message = VerifiedMessage(
            claims=claims,
            body=parsed.body,
            signer=signer,
            digest=hashlib.sha256(parsed.claims).digest(),
            nonce=nonce_of_reader(nonce, reader) if reader else nonce,
            sealed_to=sealed_to,
        )
        # (4) policy: may this signer do that, and in the clear?
        origin = self._check_policy(message, queue)
        if self._require_encryption and claims.encryption is None and kind in _SEALED_KINDS:
            raise RefusedError(Refusal.NOT_ENCRYPTED, "security_require_encryption is set")
        return message if origin is None else message._replace(origin=origin)

    def check_command(self, message: VerifiedMessage, command: str) -> None:
        """Raise `RefusedError` unless the signer of this command may give that one as well."""
        self._policy.check(Request(Action.CONTROL, message.signer, command, ""))

    def check_readable(self, message: VerifiedMessage) -> None:
        """Raise `RefusedError` with UNKNOWN_KEY for a body that is sealed to others than us."""
        encryption = message.claims.encryption
        if encryption is not None and not message.sealed_to:
            raise RefusedError(Refusal.UNKNOWN_KEY, describe_recipients(encryption))

    def unseal(self, message: VerifiedMessage) -> VerifiedMessage:
        """The message with its body in the clear, however it came; `RefusedError` if it cannot be had."""
        encryption, signer = message.claims.encryption, message.signer
        if encryption is None:
            return message
        self.check_readable(message)
        assert self._unsealer is not None
        assert signer is not None
        # (7) decryption: the body that this signer has sealed for this very message.
        claims = message.claims
        context = Context(signer.fingerprint, claims.session, claims.sequence, claims.kind)
        return message._replace(body=self._unsealer.open(encryption, context, message.body))

    def open_inputs(
        self, message: VerifiedMessage, inputs: Sequence[Input]
    ) -> tuple[VerifiedMessage | None, ...]:
        """The results that a message waited for, in order; None for one that is not there.

        `RefusedError` unless they are the answers to exactly those messages whose digests the signer
        of this one has signed.
        """
        # (5) inputs: whoever can write the store can put anything beside a message.
        compose = message.claims.compose
        if (0 if compose is None else compose.size) != len(inputs):
            raise RefusedError(Refusal.WRONG_INPUT, f"{len(inputs)} inputs beside it")
        if compose is None:
            return ()
        if digest_predecessors(one.request for one in inputs) != compose.digest:
            raise RefusedError(Refusal.WRONG_INPUT, "it waits for other messages than these")
        return tuple(
            self.open(one.frame, kind=Kind.RESULT, id=one.id, request=one.request, at_any_age=True)
            if one.frame is not None
            else None
            for one in inputs
        )

    def _verify(self, frame: SignedFrame | PlainFrame, accepted: Accepted) -> Identity | None:
        """Return who signed a frame, or None if it is not signed and need not be."""
        match frame:
            case PlainFrame():
                if not accepted.plain:
                    raise RefusedError(Refusal.UNSIGNED, "accept_content does not name 'json'")
                return None
            case SignedFrame():
                if self._trust is None or not accepted.signed:
                    raise RefusedError(Refusal.NOT_ACCEPTED, "accept_content does not name 'auth'")
                key = self._trust.resolve(frame.protected, frame.chain)
                if frame.proof is None:
                    self._verify_single(frame, key)
                else:
                    self._verify_member(frame, frame.proof, key)
                return key.identity
            case _:
                assert_never(frame)

    def _verify_single(self, frame: SignedFrame, key: TrustedKey) -> None:
        if key.is_batch:
            raise RefusedError(Refusal.MALFORMED, "signed as part of a batch, but without proof")
        self.signatures += 1
        key.verify(
            frame.signature,
            envelope.bytes_to_sign(frame.protected, self._domain, frame.claims),
        )

    def _verify_member(self, frame: SignedFrame, proof: Proof, key: TrustedKey) -> None:
        if not key.is_batch:
            raise RefusedError(Refusal.MALFORMED, "signed by itself, but with a proof")
        root = merkle.find_root(
            frame.claims, size=proof.size, position=proof.position, proof=proof.path
        )
        # One signature stands for up to 256 messages, so it is verified for the first of them.
        signed_root = (frame.protected, root, frame.signature, proof.size)
        if self._roots.get(signed_root) is None:
            self.signatures += 1
            key.verify(
                frame.signature,
                envelope.bytes_to_sign(frame.protected, self._domain, root, size=proof.size),
            )
            self._roots.put(signed_root, True)

    def _check_policy(self, message: VerifiedMessage, queue: str) -> Parties | None:
        claims = message.claims
        if claims.kind is Kind.TASK and claims.request is not None:
            self._check_place(message)
        request = Request(
            _ACTIONS[claims.kind],
            message.signer,
            claims.task,
            queue,
            claims.length,
            _seconds_ahead(claims),
            claims.headers,
            claims.session,
            claims.encryption is not None,
        )
        try:
            return self._policy.check(request)
        except RefusedError as error:
            if error.reason is not Refusal.DENIED:
                raise
            raise DeniedError(message, error.detail) from error

    def _check_place(self, message: VerifiedMessage) -> None:
        """Check that who puts a message in another's place may give that one's result, which it will.

        Nobody is told of a refusal: what waits is the sender of the other message, who has asked for nothing
        wrong.
        """
        claims = message.claims
        asked = asked_task(claims.task, claims.headers)
        try:
            self._policy.check(
                Request(
                    Action.RESULT,
                    message.signer,
                    asked,
                    "",
                    encrypted=claims.encryption is not None,
                )
            )
        except RefusedError as error:
            detail = f"it takes the place of a {asked}: {error.detail}"
            raise RefusedError(error.reason, detail) from error

    def _check_context(
        self, claims: Claims, kind: Kind, audience: frozenset[str] | None, *, at_any_age: bool
    ) -> None:
        """Check that the message is what is read here, now and by us."""
        now = self._clock.now()
        if claims.kind is not kind:
            raise RefusedError(Refusal.WRONG_KIND, f"a {claims.kind.name} instead of a {kind.name}")
        if claims.issued_at > now + self.skew:
            raise RefusedError(
                Refusal.ISSUED_IN_FUTURE,
                f"by {claims.issued_at - now:.0f} seconds; check the clocks",
            )
        # `>=`, so that from the nonce's `expires_at` on it is refused, and the mark may go.
        if not at_any_age and now >= claims.valid_until + self.skew:
            raise RefusedError(Refusal.EXPIRED, f"{now - claims.valid_until:.0f} seconds ago")
        if audience is not None and audience.isdisjoint(claims.audience):
            meant = ", ".join(claims.audience[:3])
            raise RefusedError(Refusal.WRONG_AUDIENCE, f"meant for {meant}")

    def _check_sealed(self, claims: Claims, signer: Identity | None) -> bytes:
        """Check what is claimed of a sealed body; returns the key of ours that it is sealed to, if any."""
        encryption = claims.encryption
        assert encryption is not None
        if signer is None:
            raise RefusedError(Refusal.BAD_CLAIMS, "a sealed body that nobody has signed")
        if encryption.reply:
            try:
                load_recipient(encryption.reply)
            except SecurityError as error:
                raise RefusedError(Refusal.BAD_CLAIMS, str(error)) from error
        return b"" if self._unsealer is None else self._unsealer.find_key(encryption)

    def _check_body(self, claims: Claims, body: bytes, codecs: frozenset[str]) -> None:
        """Check that the body is the one that was signed, and of a kind that is read here."""
        most = self._limits.max_body + (0 if claims.encryption is None else MAX_OVERHEAD)
        if len(body) > most:
            raise RefusedError(Refusal.TOO_LARGE, f"a body of {len(body)} bytes; at most {most}")
        if claims.length != len(body):
            raise RefusedError(
                Refusal.WRONG_LENGTH, f"{len(body)} bytes instead of {claims.length}"
            )
        if hashlib.sha256(body).digest() != claims.digest:
            raise RefusedError(Refusal.WRONG_DIGEST)
        if claims.codec not in codecs:
            raise RefusedError(Refusal.CODEC_NOT_ACCEPTED, claims.codec)


def _seconds_ahead(claims: Claims) -> float:
    return 0.0 if claims.eta is None else max(0.0, claims.eta / 1000 - claims.issued_at)


def _accept(names: Collection[str], codecs: Collection[str]) -> Accepted:
    """Signed messages in these codecs, JSON without signature, or both."""
    if not names or set(names) - {SIGNED, PLAIN}:
        raise SecurityError(f"accept: {sorted(names)}; name 'auth', 'json' or both")
    return Accepted(
        frozenset(codecs if SIGNED in names else ()), frozenset(CODECS if PLAIN in names else ())
    )


def _by_kind(tasks: Accepted, results: Accepted) -> dict[Kind, Accepted]:
    """The codecs of each kind of message. Whoever writes the store writes what is not signed."""
    pickles = all_codecs([PICKLE])
    signed, plain = tasks.signed, tasks.plain & CODECS
    # Control messages and the like are written by ourselves, and have one form.
    own = Accepted(CODECS if signed else frozenset(), plain)
    found = dict.fromkeys(Kind, own)
    found[Kind.TASK] = Accepted(signed, plain)
    found[Kind.RESULT] = Accepted(results.signed - pickles, results.plain & CODECS)
    # To whom everything is sealed, and what is sent when, is never the word of somebody who does not sign it.
    found[Kind.KEYSET] = Accepted(own.signed, frozenset())
    if own.signed:  # where nothing is signed, there is nobody to believe instead
        found[Kind.BEAT] = Accepted(own.signed, frozenset())
    return found


def _check_binding(claims: Claims, id: str | None, request: bytes | None) -> None:
    """Check that an answer answers what was asked."""
    if id is not None and claims.id != id:
        raise RefusedError(Refusal.WRONG_REQUEST, "the answer for another task")
    if request is None:
        return
    if bind_name(claims.kind, claims.task, claims.request or b"") != request:
        raise RefusedError(
            Refusal.WRONG_REQUEST, f"the answer to another message, or not as {claims.task!r}"
        )
