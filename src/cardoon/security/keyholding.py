"""The keys of a running process: a keyset's record and private keys, read again when they change.

In its folder, `keyset.cose` is the record, signed; those who only seal need nothing else. `<key id>.key` are
private keys, which nobody but their owner can read, and which are there only where bodies are opened.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon.clock import Clock
from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.security import files
from cardoon.security.gate import VerifiedMessage
from cardoon.security.keyset import MAX_RECORD, Keyset, PublicKey, read_record
from cardoon.security.sealing import KeyPair, PrivateKeys

RECORD = "keyset.cose"
KEY_SUFFIX = ".key"
POLL_SECONDS = 5.0
"""The longest for which a change goes unnoticed, as with certificates."""
LOOK_SECONDS = 1.0
"""The least between two looks for a key that is not known: anybody trusted can name unknown ones."""
MAX_PRIVATE_KEYS = 256
_DAY = 86_400.0
_WARN_DAYS = 30.0


class KeysetEvent(enum.StrEnum):
    """What an operator should hear of a keyset."""

    RELOADED = "reloaded"
    """The record has changed, and what it says holds from now on."""
    EXPIRES_SOON = "expires_soon"
    """In less than a month there is nothing to seal to; said once a day."""
    RELOAD_REFUSED = "reload_refused"
    """The record has changed to one that is refused; the one before still holds."""
    KEY_REFUSED = "key_refused"
    """The file of a private key that cannot be used."""
    NOT_REMEMBERED = "not_remembered"
    """Which version was seen could not be written down, so a restart forgets it."""


OnEvent: TypeAlias = Callable[[KeysetEvent, str], None]
OpenRecord: TypeAlias = Callable[[bytes], VerifiedMessage]
"""Verifies a record: signature, times, and whether policy lets its signer say so."""
_Stamp: TypeAlias = "tuple[int, int, int] | None"


class KeysetFolder:
    """One group's keys. Safe from several threads.

    Nothing is read before it is asked for. `seen` is the file that remembers the highest version.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        open_record: OpenRecord,
        seen: Path,
        clock: Clock,
        on_event: OnEvent,
    ) -> None:
        self.folder = folder
        self._name = name
        self._open_record = open_record
        self._seen = seen
        self._clock = clock
        self._on_event = on_event
        self._frame = b""
        self._keyset: Keyset | None = None
        self._refused = b""
        self._record_due = self._keys_due = self._look_due = float("-inf")
        self._warning_due = float("-inf")
        self._stamp: _Stamp = None
        self._pairs: Mapping[bytes, KeyPair] = {}

    def keyset(self) -> Keyset:
        """What the record says; `SecurityError` if there is none that is good now."""
        if self._clock.monotonic() >= self._record_due:
            self._record_due = self._clock.monotonic() + POLL_SECONDS
            self._keyset = None
        if self._keyset is None:
            self._keyset = self._read_record()
            self._warn(self._keyset)
        return self._keyset

    def primary(self) -> PublicKey:
        """The key to seal to; `SecurityError` if there is no record that is good now."""
        return self.keyset().primary(self._clock.now())

    def find(self, key_id: bytes) -> KeyPair | None:
        """The private key of this id, if it is in the folder."""
        now = self._clock.monotonic()
        pair = self._pairs.get(key_id)
        if now >= self._keys_due or (pair is None and now >= self._look_due):
            self._keys_due, self._look_due = now + POLL_SECONDS, now + LOOK_SECONDS
            self._read_keys()
            pair = self._pairs.get(key_id)
        return pair

    def _read_record(self) -> Keyset:
        path = self.folder / RECORD
        if not path.exists():
            raise SecurityError(f"{self.folder}: no keyset here; make one with `cardoon keys init`")
        found = files.load_guarded(path, max_bytes=MAX_RECORD)
        if found not in {self._frame, self._refused}:
            try:
                keyset = self._verify(found)
            except SecurityError as error:
                if not self._frame:
                    raise
                self._refused = found
                self._on_event(KeysetEvent.RELOAD_REFUSED, f"{path}: {error}")
            else:
                if self._frame:
                    told = f"version {keyset.version} of {keyset.name}, signed by {keyset.signer}"
                    self._on_event(KeysetEvent.RELOADED, f"{path}: {told}")
                self._frame = found
                return keyset
        # Its signer may have been revoked since, or may no longer say so.
        return self._verify(self._frame)

    def _warn(self, keyset: Keyset) -> None:
        monotonic = self._clock.monotonic()
        days = (keyset.valid_until - self._clock.now()) / _DAY
        if days < _WARN_DAYS and monotonic >= self._warning_due:
            self._warning_due = monotonic + _DAY
            self._on_event(
                KeysetEvent.EXPIRES_SOON,
                f"{self.folder / RECORD}: in {days:.1f} days; renew it with `cardoon keys renew`",
            )

    def _verify(self, frame: bytes) -> Keyset:
        path = self.folder / RECORD
        try:
            keyset = read_record(self._open_record(frame), name=self._name)
        except RefusedError as error:
            remedy = (
                "; renew it with `cardoon keys renew`" if error.reason is Refusal.EXPIRED else ""
            )
            raise SecurityError(f"{path}: {error}{remedy}") from error
        except SecurityError as error:
            raise SecurityError(f"{path}: {error}") from error
        highest = _read_seen(self._seen)
        if keyset.version < highest:
            raise SecurityError(
                f"{path}: version {keyset.version}, but version {highest} was seen here before; if it is "
                f"meant to begin anew, remove {self._seen}"
            )
        if keyset.version > highest:
            try:
                _write_seen(self._seen, keyset.version)
            except OSError as error:
                self._on_event(KeysetEvent.NOT_REMEMBERED, f"{self._seen}: {error.strerror}")
        return keyset

    def _read_keys(self) -> None:
        stamp = _look(self.folder)
        if stamp == self._stamp:
            return
        # Looked at first: what changes while it is read is read again.
        self._stamp = stamp
        pairs = {}
        for path in sorted(self.folder.glob("*" + KEY_SUFFIX))[:MAX_PRIVATE_KEYS]:
            try:
                pair = load_pair(path)
            except SecurityError as error:
                self._on_event(KeysetEvent.KEY_REFUSED, str(error))
            else:
                pairs[pair.id] = pair
        self._pairs = pairs


class Keyring:
    """Several places that may have a private key, asked in turn."""

    def __init__(self, places: Sequence[PrivateKeys]) -> None:
        self._places = places

    def find(self, key_id: bytes) -> KeyPair | None:
        """The key of this id, if one of them has it."""
        for one in self._places:
            pair = one.find(key_id)
            if pair is not None:
                return pair
        return None


class OwnKey:
    """The key of this process, which exists in its memory alone."""

    def find(self, key_id: bytes) -> KeyPair | None:
        """The key, if it has this id."""
        pair = own_pair()
        return pair if pair.id == key_id else None


@functools.cache
def own_pair() -> KeyPair:
    """The key that results for this process are sealed to.

    One for as long as it lives, since results are read long after an app was closed and opened again.
    Processes that it forks have it as well: they may be the ones that wait.
    """
    return KeyPair(X25519PrivateKey.generate())


def load_pair(path: Path) -> KeyPair:
    """Load a private key from a PEM file that nobody else can read."""
    content = files.load_secret(path)
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SecurityError(f"{path}: no private key in PEM form without a password") from error
    if not isinstance(key, X25519PrivateKey):
        raise SecurityError(f"{path}: not an X25519 key, which is what bodies are sealed to")
    return KeyPair(key)


def write_file(path: Path, content: bytes, *, mode: int, replace: bool) -> None:
    """Write a file that appears whole; without `replace`, only if there is none."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        if replace:
            Path(temporary).replace(path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()


def _read_seen(path: Path) -> int:
    try:
        found = files.load_guarded(path)
    except SecurityError:
        if not path.exists():
            return 0
        raise
    if not found.strip().isdigit():
        raise SecurityError(f"{path}: not the number of a keyset's version; remove it")
    return int(found)


def _write_seen(path: Path, version: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(path, b"%d\n" % version, mode=0o600, replace=True)


def _look(folder: Path) -> _Stamp:
    """What changes when files are put into a folder or taken away."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino, status.st_nlink)
