"""The key of an epoch: it signs checkpoints, then introduces its successor, and is overwritten.

So whoever takes the key of today can sign for today, and has nothing to sign yesterday with. The file is
written in place, since a renamed one would leave the old key behind on the disk.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cardoon.exceptions import SecurityError
from cardoon.transparency.notes import check_origin
from cardoon.transparency.places import open_guarded

_FILE_BYTES = 1024
"""The file's size, whatever is in it: it is written at once and never grows."""


@dataclass(frozen=True, slots=True, repr=False)
class Epoch:
    """A log's name, and the key of its present."""

    origin: str
    number: int
    key: Ed25519PrivateKey
    successor: Ed25519PrivateKey | None = None
    """Only while one hands over to the other."""

    def __repr__(self) -> str:
        return f"<Epoch {self.number} of {self.origin}>"

    @property
    def public(self) -> bytes:
        """The public key."""
        return self.key.public_key().public_bytes_raw()


def load_epoch(path: Path) -> Epoch | None:
    """The epoch in a file; None where there is none. `SecurityError` for one open to others, or unreadable."""
    try:
        descriptor = open_guarded(path, os.O_RDONLY, secret=True) if path.exists() else None
    except FileNotFoundError:
        return None
    if descriptor is None:
        return None
    try:
        content = os.read(descriptor, _FILE_BYTES)
    finally:
        os.close(descriptor)
    try:
        told = json.loads(content)
        successor = told["next"]
        return Epoch(
            check_origin(told["origin"]),
            int(told["epoch"]),
            _key_of(told["key"]),
            _key_of(successor) if successor else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SecurityError(
            f"{path}: no key of an audit log; move it away, and the next worker begins an epoch"
        ) from error


def store_epoch(path: Path, epoch: Epoch) -> None:
    """Write an epoch over the one before it, durably."""
    told = {
        "epoch": epoch.number,
        "key": epoch.key.private_bytes_raw().hex(),
        "next": "" if epoch.successor is None else epoch.successor.private_bytes_raw().hex(),
        "origin": epoch.origin,
    }
    content = json.dumps(told).encode().ljust(_FILE_BYTES)
    descriptor = open_guarded(path, os.O_RDWR, secret=True)
    try:
        os.pwrite(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key_of(text: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))
