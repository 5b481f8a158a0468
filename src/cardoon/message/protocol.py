"""What messages say: kinds, claims, and how large each of them may be.

Every number here bounds something that comes from outside. A new label or kind is a new version of
the protocol: receivers refuse what they do not know.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

MAX_SEQUENCE = 8192
"""Messages per session; bounds what one session can cost a replay store (message-security 4.2)."""
SESSION_BYTES = 16
DIGEST_BYTES = 32
"""SHA-256."""
MAX_NAME = 256
"""Bytes of a task's or command's name. Dotted names in Python projects stay below 100."""
MAX_ID = 128
"""Bytes of the id of a task or group. A UUID has 36."""
MAX_CODEC = 64
"""Bytes of a codec's name: a media type and a compression. Our longest has 37."""
MAX_AUDIENCE = 64
"""Queues or nodes that one message is meant for; a task has one or two."""
MAX_AUDIENCE_NAME = 320
"""Bytes of one of them: AMQP's 255 for a queue, a prefix, and some room for a node's domain."""
MAX_REPLY = 128
"""Bytes of the address of who waits for a result: a name and a number, not a name of the server's."""
MAX_HEADERS = 32 * 1024
"""Bytes of headers: half of what an envelope may have."""
MAX_SECONDS = 253_402_300_799
"""The end of the year 9999, behind which `datetime` has no dates."""
MAX_MILLISECONDS = MAX_SECONDS * 1000 + 999
MAX_COUNT = (1 << 31) - 1
"""Retries, and members of a group: what fits in the integer column of any store."""
MAX_PREDECESSORS = 100_000
"""Tasks that one task waits for: members of a chord."""
KEY_ID_BYTES = 16
"""Of the name of an encryption key: half of a SHA-256 over it."""
PUBLIC_KEY_BYTES = 32
"""X25519."""
MAX_RECIPIENTS = 2
"""Keys that one body is sealed to: the workers', and that of whoever waits for a result."""
MAX_LENGTH = (1 << 63) - 1
"""A body's length as claimed. The gate compares it with the length of the body it has."""


class Kind(enum.IntEnum):
    """What a message is. A signature for one kind never serves for another."""

    TASK = 1
    RESULT = 2
    EVENT = 3
    CONTROL = 4
    CONTROL_REPLY = 5
    GRANT = 6
    AUDIT_CHECKPOINT = 7
    KEYSET = 8
    RELAY = 9
    BEAT = 10
    TRUST_BUNDLE = 11


EVERY_WORKER = "*"
"""Audience of a control message for all workers of the domain."""
REVOKE = "revoke"
REVOKE_BY_STAMPS = "revoke_by_stamped_headers"
STANDING_COMMANDS = frozenset({REVOKE, REVOKE_BY_STAMPS})
"""Commands that hold until they expire, also in workers that are started meanwhile. Carried out twice
they change nothing. Every other command is for the moment in which it is heard."""
_LIFETIMES = {Kind.EVENT: 86_400, Kind.CONTROL: 300, Kind.CONTROL_REPLY: 300}
"""Seconds for which a message of a kind may be valid; those of other kinds have ages of their own."""


_SEALABLE = frozenset({Kind.TASK, Kind.RESULT, Kind.BEAT})
"""Kinds whose bodies have something of a user's in them."""


class Label(enum.IntEnum):
    """The keys of the claims map."""

    KIND = 1
    TASK = 2
    ID = 3
    AUDIENCE = 4
    ISSUED_AT = 5
    VALID_UNTIL = 6
    SESSION = 7
    SEQUENCE = 8
    DIGEST = 9
    CODEC = 10
    LENGTH = 11
    ROOT = 12
    PARENT = 13
    GROUP = 14
    ETA = 15
    EXPIRES = 16
    RETRIES = 17
    MAX_RETRIES = 18
    REPLY = 19
    HEADERS = 20
    REQUEST = 21
    COMPOSE = 22
    ENCRYPTION = 23


class GroupMember(NamedTuple):
    """A task's place in a group."""

    id: str
    position: int
    """From 0."""
    size: int


class Take(enum.IntEnum):
    """What a task takes from those that it waits for."""

    RESULT = 0
    """The result of one, as the next link of a chain does."""
    RESULTS = 1
    """The results of several, as the body of a chord does."""
    FAILURE = 2
    """How one failed, as an errback does."""


class Compose(NamedTuple):
    """What a task waits for, and takes from it."""

    take: Take
    size: int
    """Predecessors."""
    digest: bytes
    """SHA-256 over their request digests, in order: who they are, whatever their number."""


class Suite(enum.IntEnum):
    """How bodies are encrypted. What follows from the number is fixed; nothing is negotiated."""

    X25519 = 1
    """A key for each session by HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-128-GCM, from which
    HMAC-SHA256 makes one for each message, for AES-256-GCM."""


class Encryption(NamedTuple):
    """To whom the body is sealed."""

    suite: Suite
    recipients: tuple[bytes, ...]
    """Key ids, in the order of the wrapped keys in the body."""
    reply: bytes = b""
    """A task only: the public key to which its result is to be sealed as well; empty for none."""


class Claims(NamedTuple):
    """What the signer says about a message, in the order of the labels.

    None, the empty text and the empty tuple mean that the signer does not say.
    """

    kind: Kind
    task: str
    """The name of the task, of the control command or of the keyset; of a BEAT, the task that it is about."""
    id: str
    audience: tuple[str, ...]
    """Where it may be acted on: `q:<queue>`, `x:<exchange>/<routing key>`, a node's name, or `*`."""
    issued_at: int
    """Seconds since the epoch."""
    valid_until: int
    """Seconds since the epoch. Later than this it is refused, whatever it asks for."""
    session: bytes
    sequence: int
    """With `session` the nonce, unique among the messages of one signer."""
    digest: bytes
    """SHA-256 of the body as carried."""
    codec: str
    length: int
    """Of the body as carried, in bytes."""
    root: str | None = None
    parent: str | None = None
    group: GroupMember | None = None
    eta: int | None = None
    """Not to be run earlier: milliseconds since the epoch."""
    expires: int | None = None
    """Not to be begun later: milliseconds since the epoch."""
    retries: int | None = None
    max_retries: int | None = None
    reply: str | None = None
    """A task only: where its sender listens for the result, if that is kept nowhere."""
    headers: bytes = b""
    """A JSON object: stamps, time limits, user headers."""
    request: bytes | None = None
    """SHA-256 of the claims that this message answers, or whose place it takes."""
    compose: Compose | None = None
    """A task only: what it waits for."""
    encryption: Encryption | None = None
    """None where the body is in the clear."""


def longest_lifetime(kind: Kind, task: str) -> int:
    """Seconds for which such a message may be valid; `task` is the name of the command."""
    if kind is Kind.CONTROL and task in STANDING_COMMANDS:
        return MAX_SECONDS
    return _LIFETIMES.get(kind, MAX_SECONDS)


def find_problem(claims: Claims) -> str | None:
    """Return what is wrong with claims whose fields are each well-typed and within bounds."""
    match claims.kind:
        case Kind.TASK:
            complete = bool(claims.task and claims.audience) and claims.retries is not None
        case Kind.CONTROL:
            complete = bool(claims.task and claims.audience)
        case Kind.RESULT:
            complete = bool(claims.task and claims.request)
        case Kind.CONTROL_REPLY:
            complete = bool(claims.request)
        case Kind.KEYSET | Kind.BEAT | Kind.AUDIT_CHECKPOINT:
            complete = bool(claims.task)
        case Kind.EVENT:
            complete = True
        case _:
            return f"this version does not speak kind {claims.kind.name}"
    if not complete:
        return f"what every {claims.kind.name} says is missing"
    return _find_contradiction(claims)


def _find_contradiction(claims: Claims) -> str | None:
    if claims.valid_until < claims.issued_at:
        return "valid only until before it was issued"
    longest = longest_lifetime(claims.kind, claims.task)
    if claims.valid_until - claims.issued_at > longest:
        return f"valid for longer than a {claims.kind.name} may be: {longest} seconds"
    if claims.max_retries is not None and (claims.retries or 0) > claims.max_retries:
        return f"retry {claims.retries} of at most {claims.max_retries}"
    if claims.group is not None and claims.group.position >= claims.group.size:
        return f"member {claims.group.position} of a group of {claims.group.size}"
    if claims.reply is not None and claims.kind is not Kind.TASK:
        return f"a {claims.kind.name} has no result"
    if claims.encryption is not None:
        if claims.kind not in _SEALABLE:
            return f"a {claims.kind.name} is never encrypted"
        if claims.encryption.reply and claims.kind is not Kind.TASK:
            return f"a {claims.kind.name} has no result to seal"
    return None if claims.compose is None else _find_compose_problem(claims.kind, claims.compose)


def _find_compose_problem(kind: Kind, compose: Compose) -> str | None:
    if kind is not Kind.TASK:
        return f"a {kind.name} waits for nothing"
    if not compose.size or (compose.size > 1 and compose.take is not Take.RESULTS):
        return f"it waits for {compose.size} to take the {compose.take.name.lower()}"
    return None
