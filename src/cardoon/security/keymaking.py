"""Makes keysets, and changes their keys one after the other, so that nothing is lost on the way.

    create    a first key, and a record that names it
    rotate    a further key, which takes over after an overlap in which every process hears of it
    renew     the same keys, signed for longer
    retire    private keys go to which nothing can be sealed any more that may still be carried out

The private key is on the disk before the record names it, and the record is replaced in one step. Where
workers run on several hosts, the folder is copied to them within the overlap (docs/encryption.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon.exceptions import SecurityError
from cardoon.security import files
from cardoon.security.keyholding import KEY_SUFFIX, RECORD, KeysetFolder, write_file
from cardoon.security.keyset import MAX_KEYS, Keyset, PublicKey, record_draft
from cardoon.security.sealing import KeyPair
from cardoon.security.signing import Signer

YEAR = 365 * 86_400.0
"""Seconds."""


def create(folder: Path, name: str, signer: Signer, *, now: float, lifetime: float = YEAR) -> bool:
    """Make a keyset unless there is one; whether it was made. `lifetime` is in seconds."""
    record = folder / RECORD
    if record.exists():
        return False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.check_directory(folder)
        key = _make_key(folder, since=int(now))
        [signed] = signer.sign([record_draft(name, 1, [key], lifetime=lifetime)])
        write_file(record, signed.frame, mode=0o644, replace=False)
    except FileExistsError:  # another process has come first, and then its keyset is the one
        return False
    except OSError as error:
        raise SecurityError(f"{folder}: cannot be written: {error.strerror}") from error
    return True


def rotate(
    held: KeysetFolder, signer: Signer, *, now: float, overlap: float, lifetime: float = YEAR
) -> PublicKey:
    """Make a key that takes over `overlap` seconds from now, and sign a record that says so."""
    keyset = held.keyset()
    if len(keyset.keys) >= MAX_KEYS:
        raise SecurityError(
            f"{held.folder}: {len(keyset.keys)} keys; let some go with `cardoon keys retire` first"
        )
    if waiting := [key for key in keyset.keys if key.since > now]:
        raise SecurityError(
            f"{held.folder}: key {waiting[0].id.hex()} has not taken over yet; rotate again after that"
        )
    key = _make_key(held.folder, since=int(now + overlap))
    _publish(held.folder, keyset, (*keyset.keys, key), signer, lifetime=lifetime)
    return key


def renew(held: KeysetFolder, signer: Signer, *, lifetime: float = YEAR) -> None:
    """Sign the same keys anew."""
    keyset = held.keyset()
    _publish(held.folder, keyset, keyset.keys, signer, lifetime=lifetime)


def retire(
    held: KeysetFolder, signer: Signer, *, now: float, keep: float, lifetime: float = YEAR
) -> list[PublicKey]:
    """Delete what was superseded more than `keep` seconds ago; returns those keys.

    The record goes first: a key that nobody is told of any more is of no use without its private half.
    """
    keyset = held.keyset()
    gone = [
        key
        for key in keyset.keys
        if (until := keyset.superseded_at(key)) is not None and until + keep <= now
    ]
    if gone:
        left = [key for key in keyset.keys if key not in gone]
        _publish(held.folder, keyset, left, signer, lifetime=lifetime)
        for key in gone:
            (held.folder / (key.id.hex() + KEY_SUFFIX)).unlink(missing_ok=True)
    return gone


def _make_key(folder: Path, *, since: int) -> PublicKey:
    private = X25519PrivateKey.generate()
    key = PublicKey(KeyPair(private).public, since)
    encoded = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_file(folder / (key.id.hex() + KEY_SUFFIX), encoded, mode=0o600, replace=False)
    return key


def _publish(
    folder: Path, keyset: Keyset, keys: Sequence[PublicKey], signer: Signer, *, lifetime: float
) -> None:
    draft = record_draft(keyset.name, keyset.version + 1, keys, lifetime=lifetime)
    [signed] = signer.sign([draft])
    write_file(folder / RECORD, signed.frame, mode=0o644, replace=True)
