"""Explains what the gate says of a frame, check by check, for people.

The gate is the only judge here: it is asked, and its word is laid beside the list of its checks. Those before
the one that failed have passed, since it takes them in order, and of those behind it nobody knows. Where a
refusal concerns the reader and not the message (its age, its audience, what it answers, who may send it),
the gate is asked once more without that, so that one explanation names all that stands in the way.

What a message claims is told only if its signature is right: until then anybody may have written it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cardoon.exceptions import MessageError, Refusal, RefusedError
from cardoon.message import cbor, envelope
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import Frame, PlainFrame, SignedFrame
from cardoon.message.protocol import Claims, Kind
from cardoon.security.gate import DeniedError, Gate, Limits, VerifiedMessage
from cardoon.security.identity import Identity
from cardoon.security.trust import TrustStore
from cardoon.spoken import distance


class Verdict(enum.StrEnum):
    """What became of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_REACHED = "not reached"
    """One before it has failed."""
    UNKNOWN = "unknown"
    """It cannot be made here."""


class Check(NamedTuple):
    """One thing that is looked at, and the words that refuse for its sake."""

    number: int
    """As the gate numbers it."""
    name: str
    reasons: frozenset[Refusal]


CHECKS = (
    Check(1, "size", frozenset({Refusal.TOO_LARGE})),
    Check(2, "form", frozenset({Refusal.TOO_LARGE, Refusal.MALFORMED})),
    Check(
        2,
        "signer",
        frozenset(
            {
                Refusal.UNSIGNED,
                Refusal.NOT_ACCEPTED,
                Refusal.UNKNOWN_SIGNER,
                Refusal.CERTIFICATE_NOT_YET_VALID,
                Refusal.CERTIFICATE_EXPIRED,
                Refusal.REVOKED,
            }
        ),
    ),
    Check(2, "signature", frozenset({Refusal.MALFORMED, Refusal.BAD_SIGNATURE})),
    Check(3, "claims", frozenset({Refusal.BAD_CLAIMS})),
    Check(3, "kind", frozenset({Refusal.WRONG_KIND})),
    Check(3, "time", frozenset({Refusal.ISSUED_IN_FUTURE, Refusal.EXPIRED})),
    Check(3, "audience", frozenset({Refusal.WRONG_AUDIENCE})),
    Check(3, "body", frozenset({Refusal.TOO_LARGE, Refusal.WRONG_LENGTH, Refusal.WRONG_DIGEST})),
    Check(3, "codec", frozenset({Refusal.CODEC_NOT_ACCEPTED})),
    Check(3, "request", frozenset({Refusal.WRONG_REQUEST})),
    Check(
        4, "policy", frozenset({Refusal.DENIED, Refusal.TOO_MANY_SESSIONS, Refusal.NOT_ENCRYPTED})
    ),
)
"""The checks of `Gate.open`, in its order."""

_SIGNATURE = next(index for index, check in enumerate(CHECKS) if check.name == "signature")
LATER = frozenset(
    {
        Refusal.REPLAYED,
        Refusal.BEFORE_EPOCH,
        Refusal.UNKNOWN_KEY,
        Refusal.UNDECRYPTABLE,
        Refusal.UNDECODABLE,
        Refusal.BOMB,
        Refusal.WRONG_INPUT,
        Refusal.WRONG_ID,
    }
)
"""What refuses a message that the gate has let in; see checks (5) to (8) there."""


class Question(NamedTuple):
    """What the gate is asked, as in `Gate.open`."""

    kind: Kind
    audience: frozenset[str] | None = None
    queue: str = ""
    id: str | None = None
    request: bytes | None = None
    at_any_age: bool = False
    reader: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One check, and how a message fared."""

    number: int
    name: str
    verdict: Verdict
    found: str
    """What was there, in words; empty where nothing was looked at."""
    reason: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the gate says of one frame."""

    steps: tuple[Step, ...]
    refusals: tuple[RefusedError, ...]
    """The gate's word first; then what would refuse it if it were not for that."""
    fingerprint: bytes | None = None
    """SHA-256 of the certificate that the frame names, whoever wrote it."""
    signer: Identity | None = None
    """Who signed, if the signature is right."""
    claims: Claims | None = None
    """If the signature is right, or none is needed."""
    message: VerifiedMessage | None = field(default=None, repr=False)
    """The message, if nothing but the reader stands in the way."""

    @property
    def refusal(self) -> RefusedError | None:
        """The gate's own word; None for a message that it lets in."""
        return self.refusals[0] if self.refusals else None

    @property
    def is_message(self) -> bool:
        """Whether it has the form of one."""
        return not any(step.verdict is Verdict.FAILED for step in self.steps[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a gate was made with, for what is said of the checks that passed."""

    domain: str
    trust: TrustStore | None
    limits: Limits
    now: float
    has_policy: bool = False


def explain(
    gate: Gate, frame: bytes, question: Question, circumstances: Circumstances
) -> Explanation:
    """What the gate says of a frame, and why. Whatever the bytes are, it raises nothing for their sake."""
    refusals, message = _ask(gate, frame, question)
    parsed = _parse(frame)
    failed: dict[int, RefusedError] = {}
    for refusal in refusals:
        failed.setdefault(
            _locate(refusal.reason, len(frame), parsed, circumstances.limits), refusal
        )
    # Behind a failure that could not be left aside, nothing was looked at.
    reached = len(CHECKS) if message is not None else max(failed, default=len(CHECKS))
    claims = _claims_of(parsed) if reached > _SIGNATURE else None
    signer = _signer_of(parsed, circumstances.trust) if reached > _SIGNATURE else None
    finder = _Finder(frame, parsed, claims, signer, circumstances)
    steps = []
    for index, check in enumerate(CHECKS):
        refusal_here = failed.get(index)
        if refusal_here is not None:
            verdict, found = Verdict.FAILED, str(refusal_here.detail)
        elif index < reached:
            verdict, found = Verdict.PASSED, finder.find(check.name)
        else:
            verdict, found = Verdict.NOT_REACHED, ""
        reason = refusal_here.reason if refusal_here is not None else None
        steps.append(
            Step(number=check.number, name=check.name, verdict=verdict, found=found, reason=reason)
        )
    return Explanation(
        steps=tuple(steps),
        refusals=tuple(refusals),
        fingerprint=_fingerprint_of(parsed),
        signer=signer,
        claims=claims,
        message=message,
    )


def find_domain(
    others: Mapping[str, Gate], frame: bytes, question: Question, limits: Limits
) -> str | None:
    """The security domain for which a frame was signed, if it is that of one of these gates.

    That is proof: a signature that is right for one domain is right for no other.
    """
    parsed = _parse(frame)
    for domain, gate in others.items():
        try:
            gate.open(frame, **question._asdict())
        except RefusedError as refusal:
            if _locate(refusal.reason, len(frame), parsed, limits) <= _SIGNATURE:
                continue
        return domain
    return None


def _ask(
    gate: Gate, frame: bytes, question: Question
) -> tuple[list[RefusedError], VerifiedMessage | None]:
    """All that the gate has against a message, as far as it can be left aside."""
    refusals: list[RefusedError] = []
    while True:
        try:
            return refusals, gate.open(frame, **question._asdict())
        except RefusedError as refusal:
            if any(refusal.reason is before.reason for before in refusals):
                return refusals, None  # leaving it aside was of no use
            refusals.append(refusal)
            match refusal:
                case DeniedError():
                    return refusals, refusal.message
                case RefusedError(reason=Refusal.EXPIRED):
                    question = question._replace(at_any_age=True)
                case RefusedError(reason=Refusal.WRONG_AUDIENCE):
                    question = question._replace(audience=None)
                case RefusedError(reason=Refusal.WRONG_REQUEST):
                    question = question._replace(id=None, request=None)
                case _:
                    return refusals, None


def _parse(frame: bytes) -> Frame | None:
    try:
        return envelope.parse_frame(frame)
    except (MessageError, RefusedError):
        return None


def _locate(reason: Refusal, size: int, parsed: Frame | None, limits: Limits) -> int:
    """Which check has refused."""
    found = [index for index, check in enumerate(CHECKS) if reason in check.reasons]
    if reason is Refusal.TOO_LARGE:
        if size > limits.max_frame:
            return found[0]
        return found[1] if parsed is None else found[2]
    if reason is Refusal.MALFORMED:
        return found[0] if parsed is None else found[1]
    # Of a reason that is not listed nobody knows what was looked at before: nothing that is signed, then.
    return found[0] if found else _SIGNATURE


def _claims_of(parsed: Frame | None) -> Claims | None:
    if parsed is None:
        return None
    try:
        return parse_claims(parsed.claims)
    except MessageError:
        return None


def _signer_of(parsed: Frame | None, trust: TrustStore | None) -> Identity | None:
    if not isinstance(parsed, SignedFrame) or trust is None:
        return None
    try:
        return trust.resolve(parsed.protected, parsed.chain).identity
    except RefusedError:
        return None  # it ran out between two looks


def _fingerprint_of(parsed: Frame | None) -> bytes | None:
    """The certificate that a protected header names."""
    if not isinstance(parsed, SignedFrame):
        return None
    try:
        header = cbor.decode(parsed.protected)
    except MessageError:
        return None
    match header:
        case {4: bytes(fingerprint)} if len(fingerprint) == 32:
            return fingerprint
        case _:
            return None


class _Finder(NamedTuple):
    """Says what there was where a check passed."""

    frame: bytes
    parsed: Frame | None
    claims: Claims | None
    signer: Identity | None
    circumstances: Circumstances

    def find(self, name: str) -> str:
        """In words; nothing where there is nothing to say."""
        claims, told = self.claims, self.circumstances
        match name:
            case "size":
                return f"{len(self.frame)} bytes; at most {told.limits.max_frame}"
            case "form":
                return _describe_form(self.parsed)
            case "signer":
                return self._describe_signer()
            case "signature":
                if isinstance(self.parsed, PlainFrame):
                    return "none, and none is asked for"
                return f"right, for security domain {told.domain!r}"
        return "" if claims is None else self._describe_claim(name, claims)

    def _describe_claim(self, name: str, claims: Claims) -> str:
        told = self.circumstances
        match name:
            case "claims":
                retry = f", retry {claims.retries}" if claims.retries else ""
                return f"{claims.task or 'no task'}[{claims.id}]{retry}"
            case "kind":
                return claims.kind.name.lower()
            case "time":
                return _describe_times(claims, told.now)
            case "audience":
                return f"meant for {', '.join(claims.audience[:5]) or 'whoever asked'}"
            case "body":
                return f"{claims.length} bytes, as signed"
            case "codec":
                return claims.codec
            case "policy":
                return "it allows that" if told.has_policy else "none: whoever is trusted may"
            case _:
                return ""

    def _describe_signer(self) -> str:
        if isinstance(self.parsed, PlainFrame):
            return "nobody; accept_content takes messages without a signature"
        signer = self.signer
        if signer is None:
            # The signature has failed, so it may be nobody's; but the certificate that it names is known.
            found = _fingerprint_of(self.parsed)
            return f"sha256:{found.hex()} is known" if found else "known"
        ends = distance(signer.not_after, self.circumstances.now)
        return f"{signer.name}, sha256:{signer.fingerprint.hex()}, valid until {ends}"


def _describe_times(claims: Claims, now: float) -> str:
    told = [
        f"issued {distance(claims.issued_at, now)}",
        f"valid until {distance(claims.valid_until, now)}",
    ]
    if claims.eta is not None:
        told.append(f"to run from {distance(claims.eta / 1000, now)}")
    if claims.expires is not None:
        told.append(f"not to begin after {distance(claims.expires / 1000, now)}")
    return ", ".join(told)


def _describe_form(parsed: Frame | None) -> str:
    match parsed:
        case SignedFrame():
            proof = parsed.proof
            form = (
                "signed by itself"
                if proof is None
                else f"number {proof.position + 1} of {proof.size} that were signed together"
            )
            count = len(parsed.chain)
            brings = f", with {count} certificate{'' if count == 1 else 's'}" if count else ""
            return f"{form}{brings}; a body of {len(parsed.body)} bytes"
        case PlainFrame():
            return f"without signature; a body of {len(parsed.body)} bytes"
        case _:
            return ""
