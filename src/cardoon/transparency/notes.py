"""Checkpoints as signed notes (C2SP `signed-note`, `tlog-checkpoint`): text that any such verifier reads.

<origin>
<size>
<root, Base64>
epoch <number> time <seconds>            what follows the root are lines of our own
key <public key>                         in the first note of an epoch
identity <frame>                         beside it: an identity's signature over log, epoch and key
next <public key>                        in the last note of an epoch

— <origin> <Base64 of key id and signature>
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cardoon.transparency.tree import HASH_BYTES, MAX_SIZE

MAX_NOTE_BYTES = 16_384
"""Of one note; the largest identity's frame is in it."""
KEY_BYTES = 32
_ED25519 = b"\x01"
_ID_BYTES = 4
_SIGNATURE_BYTES = 64
_DASH = "\u2014 "
_ORIGIN = re.compile(r"[!-*,-~]{1,300}")
_NUMBER = r"(0|[1-9][0-9]{0,15})"
_EPOCH = re.compile(rf"epoch {_NUMBER} time {_NUMBER}")
_SIZE = re.compile(_NUMBER)


class NoteError(ValueError):
    """Text that is no note, or one whose signature does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a checkpoint says."""

    origin: str
    """The log's name: printable ASCII without spaces and '+'."""
    size: int
    """Records so far."""
    root: bytes
    epoch: int
    time: int
    """Seconds since the epoch of 1970."""
    key: bytes = b""
    """The epoch's public key, where it begins."""
    identity: bytes = b""
    """A frame in which an identity certifies it."""
    next: bytes = b""
    """The public key of the epoch that follows, where this one ends."""

    def text(self) -> str:
        """What is signed."""
        lines = [self.origin, str(self.size), _encode(self.root)]
        lines.append(f"epoch {self.epoch} time {self.time}")
        for word in ("key", "identity", "next"):
            value = getattr(self, word)
            if value:
                lines.append(f"{word} {_encode(value)}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A note, as it was signed and by which key."""

    note: Note
    text: str
    key_id: bytes
    signature: bytes

    def verify(self, key: bytes) -> None:
        """`NoteError` unless this public key has signed it."""
        if self.key_id != _key_id(self.note.origin, key):
            raise NoteError("signed by another key")
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(self.signature, self.text.encode())
        except (InvalidSignature, ValueError) as error:
            raise NoteError("the signature does not fit") from error

    def encode(self) -> bytes:
        """The whole note, as it is kept and sent."""
        told = _encode(self.key_id + self.signature)
        return f"{self.text}\n{_DASH}{self.note.origin} {told}\n".encode()


def check_origin(origin: str) -> str:
    """Return a log's name; `ValueError` for what cannot be one."""
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"a log's name is printable ASCII without spaces and '+', not {origin!r}")
    return origin


def sign_note(note: Note, key: Ed25519PrivateKey) -> SignedNote:
    """Sign a note with an epoch's key."""
    check_origin(note.origin)
    text = note.text()
    public = key.public_key().public_bytes_raw()
    return SignedNote(note, text, _key_id(note.origin, public), key.sign(text.encode()))


def parse_note(content: bytes) -> SignedNote:
    """Read one note; `NoteError` for all that is not written exactly as `encode` does."""
    if len(content) > MAX_NOTE_BYTES:
        raise NoteError(f"a note of {len(content)} bytes; at most {MAX_NOTE_BYTES}")
    try:
        body, line = content.decode().rsplit("\n\n", 1)
    except ValueError as error:
        raise NoteError("no signed note") from error
    note = _parse_body(body)
    start = f"{_DASH}{note.origin} "
    if not line.startswith(start) or line.count("\n") != 1 or not line.endswith("\n"):
        raise NoteError("no signature line of this log")
    signed = _decode(line[len(start) : -1])
    if len(signed) != _ID_BYTES + _SIGNATURE_BYTES:
        raise NoteError("no Ed25519 signature")
    return SignedNote(note, body + "\n", signed[:_ID_BYTES], signed[_ID_BYTES:])


def _parse_body(body: str) -> Note:
    lines = body.split("\n")
    if len(lines) < 4:
        raise NoteError("fewer lines than a checkpoint has")
    epoch = _EPOCH.fullmatch(lines[3])
    if not _ORIGIN.fullmatch(lines[0]) or not _SIZE.fullmatch(lines[1]) or epoch is None:
        raise NoteError("no checkpoint of an audit log")
    more: dict[str, bytes] = {}
    for line in lines[4:]:
        word, _, value = line.partition(" ")
        if word not in {"key", "identity", "next"} or word in more:
            raise NoteError("a line that no checkpoint has")
        more[word] = _decode(value)
    root, size = _decode(lines[2]), int(lines[1])
    keys = [more[word] for word in ("key", "next") if word in more]
    if len(root) != HASH_BYTES or size > MAX_SIZE or any(len(key) != KEY_BYTES for key in keys):
        raise NoteError("a hash, a key or a size that cannot be")
    note = Note(
        origin=lines[0], size=size, root=root, epoch=int(epoch[1]), time=int(epoch[2]), **more
    )
    if note.text() != body + "\n":
        raise NoteError("not written as checkpoints are")
    return note


def _key_id(origin: str, key: bytes) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + key).digest()[:_ID_BYTES]


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(text: str) -> bytes:
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise NoteError("no Base64") from error
    if not value or _encode(value) != text:
        raise NoteError("no canonical Base64")
    return value
