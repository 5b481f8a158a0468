"""From one epoch to the next: the old key introduces the new one, an identity certifies it, the old one goes.

A log is called after the identity that began it: `<identity>/<host>/<number>`. An identity of another name
cannot certify its epochs, so nobody who is trusted for something else can sign as this log.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeAlias
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cardoon.exceptions import SecurityError
from cardoon.transparency.epochs import Epoch, load_epoch, store_epoch
from cardoon.transparency.notes import NoteError, SignedNote, parse_note
from cardoon.transparency.trail import NOTE_END, Trail

UNSIGNED = "unsigned"
"""Instead of an identity's name, in the log of a process that has none."""
_MAX_PREFIX = 200
_TAIL_BYTES = 65_536
_TRIES = 5


class Statement(NamedTuple):
    """What an identity signs: that this is the key of a log's epoch."""

    origin: str
    epoch: int
    key: bytes


Certify: TypeAlias = Callable[[Statement], bytes]
"""Returns the frame in which our identity says so."""


class Certifier(NamedTuple):
    """An identity's name, and what signs for it."""

    name: str
    certify: Certify


def prefix_of(identity: str) -> str:
    """An identity's name, as the names of its logs begin."""
    text = quote(identity, safe="/:=,@._~*-")
    if len(text) <= _MAX_PREFIX:
        return text
    return f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}"


def belongs_to(origin: str, identity: str) -> bool:
    """Whether a log of this name is that identity's."""
    return origin.rsplit("/", 2)[0] == prefix_of(identity)


def begin_epoch(
    trail: Trail,
    certifier: Certifier | None,
    *,
    turn: AbstractContextManager[object],
    random: Callable[[int], bytes] = os.urandom,
) -> SignedNote:
    """Begin an epoch of a log; the first one names the log.

    The identity's signature is asked for without the lock and outside of `turn`, which keeps the threads of
    this process apart: its key may lie elsewhere. A log of another identity goes on without. `SecurityError` where others begin epochs all the time.
    """
    for _ in range(_TRIES):
        before = load_epoch(trail.places.key)
        key = Ed25519PrivateKey.from_private_bytes(random(32))
        origin, number = _next_name(trail, before, certifier, random)
        epoch = Epoch(origin, number, key)
        frame = b""
        if certifier is not None and belongs_to(origin, certifier.name):
            frame = certifier.certify(Statement(origin, number, epoch.public))
        with turn:
            note = _begin_if_same(trail, before, epoch, frame)
        if note is not None:
            return note
    raise SecurityError(
        f"audit log {trail.places.log}: {_TRIES} times another process began an epoch; try again"
    )


def _begin_if_same(
    trail: Trail, before: Epoch | None, epoch: Epoch, frame: bytes
) -> SignedNote | None:
    trail.take()
    try:
        if _public(load_epoch(trail.places.key)) == _public(before):
            return _hand_over(trail, before, epoch, frame)
        return None
    finally:
        trail.release()


def _hand_over(trail: Trail, before: Epoch | None, epoch: Epoch, frame: bytes) -> SignedNote:
    key_file = trail.places.key
    if before is not None:
        last = _last_note(trail)
        heir = before.successor
        if heir is not None and last is not None and last.note.next == _raw(heir):
            # It was killed after it had introduced its successor.
            before = Epoch(before.origin, before.number + 1, heir)
            epoch = Epoch(epoch.origin, before.number + 1, epoch.key)
            frame = b""
        store_epoch(key_file, Epoch(before.origin, before.number, before.key, epoch.key))
        trail.seal(next=epoch.public)
    store_epoch(key_file, epoch)
    note = trail.seal(key=epoch.public, identity=frame)
    assert note is not None
    return note


def _next_name(
    trail: Trail,
    before: Epoch | None,
    certifier: Certifier | None,
    random: Callable[[int], bytes],
) -> tuple[str, int]:
    if before is not None:
        return before.origin, before.number + 1
    last = _last_note(trail)
    if last is not None:  # its key is gone, which the numbers show
        return last.note.origin, last.note.epoch + 1
    prefix = prefix_of(certifier.name) if certifier is not None else UNSIGNED
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64] or "host"
    return f"{prefix}/{host}/{random(8).hex()}", 0


def _last_note(trail: Trail) -> SignedNote | None:
    """The newest note that can be read."""
    try:
        with trail.places.checkpoints.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            content = file.read()
    except OSError:
        return None
    for text in reversed(content.split(b"\n" + NOTE_END)):
        try:
            return parse_note(text + b"\n")
        except NoteError:
            continue
    return None


def _public(epoch: Epoch | None) -> bytes:
    return b"" if epoch is None else epoch.public


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()
