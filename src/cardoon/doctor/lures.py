"""Canaries as messages: one honest call, and others that every worker must refuse. Made here, and sent by `luring`.

None of them does harm where it is run: what they ask for are tasks that every app has, of which one returns what it
is given, and the other fails.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cardoon.clock import Clock
from cardoon.config import content_kind
from cardoon.contents import find_content
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError, Refusal, RefusedError
from cardoon.message import envelope
from cardoon.message.claims import encode_claims, parse_claims
from cardoon.message.headers import INNER
from cardoon.message.protocol import Kind
from cardoon.message.serializers import encode_body
from cardoon.security.identity import Identity
from cardoon.security.policy import Action, Request
from cardoon.security.replay import Nonce, make_nonce
from cardoon.security.signing import Draft, MessageSigner, PlainSigner, Signed, Signer

NAME = "doctor-canary"
"""What the id of every canary begins with."""
LIFETIME = 60.0
"""Seconds for which one may be acted on: who comes later refuses all of them."""
_BEYOND = 60.0
"""Seconds by which one has expired, the error of clocks that the settings allow left aside."""
_ECHO, _MAP = "cardoon.accumulate", "cardoon.map"
_NOBODYS = "cardoon.nothing"
"""No task has this name, and no rule covers it but one that names it: no pattern does so for what is built in."""


class Lure(enum.StrEnum):
    """What is tried."""

    GENUINE = "genuine"
    """An ordinary call: somebody must take it, or nothing is known of the others."""
    REPLAYED = "replayed"
    UNSIGNED = "unsigned"
    CHANGED = "changed"
    """With another body than was signed."""
    FORGED = "forged"
    """With other claims than were signed."""
    EXPIRED = "expired"
    ASTRAY = "astray"
    """Signed for another queue than it lies in."""
    DENIED = "denied"
    """For a task that no rule of the policy lets us send."""


REASONS: Mapping[Lure, frozenset[str]] = {
    Lure.GENUINE: frozenset(),
    Lure.REPLAYED: frozenset({Refusal.REPLAYED}),
    Lure.UNSIGNED: frozenset({Refusal.UNSIGNED}),
    Lure.CHANGED: frozenset({Refusal.WRONG_DIGEST}),
    Lure.FORGED: frozenset({Refusal.BAD_SIGNATURE}),
    Lure.EXPIRED: frozenset({Refusal.EXPIRED}),
    Lure.ASTRAY: frozenset({Refusal.WRONG_AUDIENCE}),
    Lure.DENIED: frozenset({Refusal.DENIED}),
}
"""For what each must be refused: one that is refused for something else says nothing of what it tries."""


class Fate(enum.StrEnum):
    """What became of a canary."""

    RAN = "ran"
    ACCEPTED = "accepted"
    """A worker took it for good, and could not complete it."""
    REFUSED = "refused"
    WAITS = "waits"
    """Still in the queue, or on loan."""
    GONE = "gone"
    """Neither in the queue nor kept, and nothing says that it ran."""
    UNMADE = "unmade"


class Sighting(NamedTuple):
    """What was seen of one canary."""

    lure: Lure
    fate: Fate
    detail: str = ""
    """The reason of a refusal, the state of a result, or why there is nothing to see."""

    @property
    def was_taken(self) -> bool:
        """Whether a worker has acted on it."""
        return self.fate in {Fate.RAN, Fate.ACCEPTED}

    def __str__(self) -> str:
        return f"{self.lure}: {self.fate}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of all that were sent."""

    queue: str
    ids: str
    """What the id of each begins with."""
    sightings: tuple[Sighting, ...] = ()
    doubt: str = ""
    """Why nothing is known of those that must be refused; empty where they were sent."""
    left: str = ""
    """What was not taken away, and why; empty where nothing is left of them."""

    def find(self, lure: Lure) -> Sighting | None:
        """What was seen of one; None if it was not sent."""
        return next((one for one in self.sightings if one.lure is lure), None)

    def withstood(self, seen: Sighting) -> bool:
        """Whether it was refused for what it tries.

        Who may not see the reason knows it all the same where the honest call of the same signer was run.
        """
        genuine = self.find(Lure.GENUINE)
        if seen.fate is not Fate.REFUSED:
            return False
        if not seen.detail:
            return genuine is not None and genuine.was_taken
        return seen.detail in REASONS[seen.lure]

    def told(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {
            "queue": self.queue,
            "ids": self.ids,
            "sent": [
                {"canary": one.lure.value, "fate": one.fate.value, "detail": one.detail}
                for one in self.sightings
            ],
            "doubt": self.doubt,
            "left": self.left,
        }


class Letter(NamedTuple):
    """One canary, ready to be sent."""

    lure: Lure
    id: str
    frame: bytes
    nonce: Nonce
    request: bytes = b""
    """What its result is held against."""


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A clock that is late."""

    clock: Clock
    seconds: float

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.now() - self.seconds

    def monotonic(self) -> float:
        """As time goes by."""
        return self.clock.monotonic()


@dataclass(slots=True)
class LureMaker:
    """Makes the canaries of one trial, with the identity of the deployment."""

    deployment: Deployment
    queue: str
    ids: str
    unmade: list[Sighting] = field(default_factory=list)
    """Those that could not be made, and why."""

    def make_genuine(self) -> Letter:
        """An ordinary call, as any client sends it. Raises `CardoonError` where we cannot sign."""
        return self._sign(Lure.GENUINE, self._signer(), self._draft(Lure.GENUINE))

    def make_others(self, genuine: Letter) -> Iterator[Letter]:
        """All that must be refused, each as far as it can be made."""
        makers = {
            Lure.REPLAYED: lambda: genuine._replace(lure=Lure.REPLAYED),
            Lure.UNSIGNED: self._make_unsigned,
            Lure.CHANGED: self._make_changed,
            Lure.FORGED: self._make_forged,
            Lure.EXPIRED: self._make_expired,
            Lure.ASTRAY: self._make_astray,
        }
        if self.deployment.settings.security_policy:
            makers[Lure.DENIED] = self._make_denied
        for lure, make in makers.items():
            try:
                yield make()
            except CardoonError as error:
                self.unmade.append(Sighting(lure, Fate.UNMADE, str(error)))

    def _make_unsigned(self) -> Letter:
        settings, clock = self.deployment.settings, self.deployment.clock
        signer = PlainSigner(clock=clock, max_age=settings.security_max_age)
        return self._sign(Lure.UNSIGNED, signer, self._draft(Lure.UNSIGNED))

    def _make_changed(self) -> Letter:
        letter = self._sign(Lure.CHANGED, self._signer(), self._draft(Lure.CHANGED))
        parsed = _parse(letter.frame)
        body = parsed.body.replace(NAME.encode(), NAME.upper().encode())
        if body == parsed.body:  # it is sealed
            body = body[:-1] + bytes([body[-1] ^ 1])
        return letter._replace(frame=_build(parsed._replace(body=body)))

    def _make_forged(self) -> Letter:
        letter = self._sign(Lure.FORGED, self._signer(), self._draft(Lure.FORGED))
        parsed = _parse(letter.frame)
        claims = parse_claims(parsed.claims)
        other = claims._replace(valid_until=claims.valid_until + 1)
        return letter._replace(frame=_build(parsed._replace(claims=encode_claims(other))))

    def _make_expired(self) -> Letter:
        deployment, settings = self.deployment, self.deployment.settings
        age = LIFETIME + settings.security_clock_skew + _BEYOND
        signer = MessageSigner(
            deployment.identity(),
            domain=settings.security_domain,
            clock=_Earlier(deployment.clock, age),
            send_chain=settings.security_send_chain,
            seal=deployment.encrypting().seal,
        )
        return self._sign(Lure.EXPIRED, signer, self._draft(Lure.EXPIRED))

    def _make_astray(self) -> Letter:
        draft = self._draft(Lure.ASTRAY)._replace(audience=(f"q:{self.ids}",))
        return self._sign(Lure.ASTRAY, self._signer(), draft)

    def _make_denied(self) -> Letter:
        """A map of nothing, of a task that is not there: it fails where nobody denies it."""
        settings = self.deployment.settings
        told = json.dumps({INNER: _NOBODYS}).encode()
        codec = find_content(self._serializer).media_type
        draft = self._draft(Lure.DENIED)._replace(
            task=_MAP, headers=told, body=_encode({"task": _NOBODYS}, [], codec=codec)
        )
        signer = self._signer()
        asked = Request(Action.SEND, signer.identity, _MAP, self.queue, headers=told)
        try:
            self.deployment.policy().check(asked)
        except RefusedError:
            return self._sign(Lure.DENIED, signer, draft)
        raise RefusedError(
            Refusal.DENIED, f"{settings.security_policy} lets us send even {_NOBODYS}"
        )

    @property
    def _serializer(self) -> str:
        """How our calls are written; signed even where those of this deployment are not."""
        told = self.deployment.settings.task_serializer
        return told if content_kind(told) == "auth" else "auth"

    def _signer(self) -> Signer:
        return self.deployment.make_signer(self._serializer)

    def _draft(self, lure: Lure) -> Draft:
        codec = find_content(self._serializer).media_type
        name = f"{self.ids}-{lure.value}"
        return Draft(
            kind=Kind.TASK,
            task=_ECHO,
            id=name,
            audience=(f"q:{self.queue}",),
            codec=codec,
            body=_encode([NAME], codec=codec),
            root=name,
            lifetime=LIFETIME,
        )

    def _sign(self, lure: Lure, signer: Signer, draft: Draft) -> Letter:
        [signed] = signer.sign([draft])
        return Letter(
            lure, draft.id, signed.frame, self._nonce(signed, signer.identity), signed.request
        )

    def _nonce(self, signed: Signed, identity: Identity | None) -> Nonce:
        """By which a store knows whether it was carried out."""
        claims = parse_claims(envelope.parse_frame(signed.frame).claims)
        signer = b"" if identity is None else identity.fingerprint
        ends = claims.valid_until + self.deployment.settings.security_clock_skew
        return make_nonce(signer, claims.session, claims.sequence, ends)


def _encode(*args: Any, codec: str) -> bytes:
    """The body of a call."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return encode_body([list(args), {}, embed], codec)


def _parse(frame: bytes) -> envelope.SignedFrame:
    parsed = envelope.parse_frame(frame)
    assert isinstance(parsed, envelope.SignedFrame)
    return parsed


def _build(parsed: envelope.SignedFrame) -> bytes:
    """A frame of these parts, whatever its signature covers."""
    start = envelope.begin_single(parsed.protected, chain=parsed.chain)
    return envelope.build_signed(start, parsed.claims, parsed.signature, parsed.body)
