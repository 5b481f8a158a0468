"""Keysets: to which keys a group of processes wants to be written to, signed.

A record says which public keys the group has, and from when on each is the one to seal to: the latest whose
time has come. So a new key can be told of before anybody seals to it, and nobody has to be told twice. The
record is a signed frame of kind KEYSET, with this JSON as its body:

    {"version": 2, "keys": [{"public": HEX, "since": SECONDS}, ...]}

Its claims say for how long it is good, so that nobody can hold back a newer one for ever; and readers
remember the highest version that they have seen, so that nobody can bring an older one back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cardoon.exceptions import RefusedError, SecurityError
from cardoon.message.protocol import MAX_COUNT, MAX_SECONDS, PUBLIC_KEY_BYTES, Kind
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.security.gate import VerifiedMessage
from cardoon.security.sealing import key_id_of, load_recipient
from cardoon.security.signing import Draft

WORKERS = "workers"
"""The keyset that tasks are sealed to."""
CLIENTS = "clients"
"""The keyset that results are sealed to, where several processes are to read them."""
MAX_KEYS = 64
"""In one record: weekly rotation, each key kept for more than a year."""
MAX_RECORD = 64 * 1024
"""Bytes of a record; one with all its keys and a chain of certificates has less than a third of that."""


class PublicKey(NamedTuple):
    """A key of a group."""

    public: bytes
    since: int
    """From when on it is the one to seal to, until the next one's time: seconds since the epoch."""

    @property
    def id(self) -> bytes:
        """Its name in messages and on files."""
        return key_id_of(self.public)


class Keyset(NamedTuple):
    """What a record says."""

    name: str
    version: int
    keys: tuple[PublicKey, ...]
    """In the order of their times."""
    valid_until: int
    """Seconds since the epoch."""
    signer: str

    def primary(self, now: float) -> PublicKey:
        """The key to seal to."""
        for key in reversed(self.keys):
            if key.since <= now:
                return key
        return self.keys[0]

    def superseded_at(self, key: PublicKey) -> int | None:
        """When the next key takes over from this one; None for the last."""
        place = self.keys.index(key) + 1
        return self.keys[place].since if place < len(self.keys) else None


def record_draft(name: str, version: int, keys: Sequence[PublicKey], *, lifetime: float) -> Draft:
    """What is signed of a keyset."""
    told = [
        {"public": key.public.hex(), "since": key.since}
        for key in sorted(keys, key=lambda key: key.since)
    ]
    return Draft(
        kind=Kind.KEYSET,
        task=name,
        id=name,
        audience=(),
        codec=JSON,
        body=encode_body({"version": version, "keys": told}, JSON),
        lifetime=lifetime,
    )


def read_record(message: VerifiedMessage, *, name: str) -> Keyset:
    """What a verified record says; `SecurityError` if it is another group's, or makes no sense."""
    claims = message.claims
    if claims.task != name:
        raise SecurityError(f"the keyset of {claims.task!r}, and {name!r} is wanted here")
    assert message.signer is not None
    try:
        told = decode_body(claims.codec, message.body, max_bytes=MAX_RECORD)
    except RefusedError as error:
        raise SecurityError(f"the keyset cannot be read: {error}") from error
    version, keys = _read_body(told)
    return Keyset(name, version, keys, claims.valid_until, message.signer.name)


def _read_body(told: object) -> tuple[int, tuple[PublicKey, ...]]:
    match told:
        case {"version": int(version), "keys": [*listed], **more} if not more:
            pass
        case _:
            raise SecurityError("the keyset does not say its version and its keys, and no more")
    if not 1 <= version <= MAX_COUNT or not 1 <= len(listed) <= MAX_KEYS:
        raise SecurityError(f"a keyset of version {version} with {len(listed)} keys")
    keys = tuple(map(_read_key, listed))
    times = [key.since for key in keys]
    if times != sorted(times) or len({key.public for key in keys}) != len(keys):
        raise SecurityError("the keys of the keyset are not in the order of their times, once each")
    return version, keys


def _read_key(told: Any) -> PublicKey:
    match told:
        case {"public": str(text), "since": int(since)} if 0 <= since <= MAX_SECONDS:
            pass
        case _:
            raise SecurityError("a key of the keyset is not a key and a time")
    try:
        public = bytes.fromhex(text)
    except ValueError:
        public = b""
    if len(public) != PUBLIC_KEY_BYTES:
        raise SecurityError("a key of the keyset is not 32 bytes in hexadecimal")
    load_recipient(public)
    return PublicKey(public, since)
