"""One picture of whom we trust, read from files and never changed afterwards.

A certificate file that is broken or open to others is skipped: its signer is not trusted, and all
others are. A directory that others may write into, or a revocation list that is broken, makes the
whole picture worthless, because there it would be trusted too much.
"""

from __future__ import annotations

import glob
import math
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cryptography import x509

from cardoon.exceptions import SecurityError
from cardoon.message import envelope
from cardoon.security import files, keys, revocation
from cardoon.security.cache import GenerationCache
from cardoon.security.chains import Anchor, Anchors, check_anchor
from cardoon.security.identity import (
    UNREADABLE,
    Identity,
    identify,
    load_certificate,
    parse_certificates,
    public_key_of,
)
from cardoon.security.revocation import Revocations

MAX_PINS = 4096
"""Certificates in the store. To load one costs 50 µs, and a worker waits for all of them."""
_MAX_CHAINED = 4096
"""Protected headers of signers known by their chains; each signer has two, with RSA six."""
_SUFFIXES = frozenset({".pem", ".crt", ".cer"})

Skip: TypeAlias = Callable[[str, SecurityError], None]
"""Is told of each file that is left out, and why."""
Stamp: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Every file and directory that was read, with what changes when it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """What verifies the messages under one protected header."""

    identity: Identity
    verify: keys.Verify
    is_batch: bool
    """Whether the header announces a proof."""
    not_after: float
    """The end of the first certificate of the chain to end, in seconds since the epoch."""
    is_revoked: bool
    known_until: float
    """From then on nobody can tell whether it is revoked."""
    revoked_from: float = math.inf
    """A deny-list says that it is no longer trusted from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that was read at one moment."""

    stamp: Stamp
    pinned: Mapping[bytes, TrustedKey]
    """By protected header, whole: a key has one in each form, so there is nothing to parse."""
    anchors: Anchors
    revocations: Revocations
    chained: GenerationCache[bytes, TrustedKey]
    """Like `pinned`, for signers whose chains were verified against this snapshot."""


class Sources(NamedTuple):
    """The files to read."""

    pins: Sequence[str]
    """Files, directories or patterns."""
    anchors: Sequence[tuple[str | None, str]]
    """Trust domain, or None for any; and a file."""
    revoked: Sequence[str]
    may_lack: frozenset[str] = frozenset()
    """Of those, the lists that need not be there: nobody has named them, and none was seen yet."""


def read_stamp(sources: Sources) -> Stamp:
    """Look at all files without reading them, which costs some microseconds for each."""
    listing = [_expand(pattern) for pattern in sources.pins]
    paths = [path for one in listing for path in (*one.directories, *one.files)]
    paths += [Path(path) for _, path in sources.anchors]
    paths += [Path(path) for path in sources.revoked]
    return tuple((str(path), _stamp_of(path)) for path in paths)


def load_snapshot(sources: Sources, skip: Skip) -> Snapshot:
    """Read all files; `SecurityError` if the picture would be worthless."""
    # The stamp comes first: what changes while we read is then read again.
    stamp = read_stamp(sources)
    anchors = Anchors(_load_anchors(sources, skip))
    revocations = Revocations(
        revocation.parse_list(
            Path(path),
            files.load_guarded(Path(path), max_bytes=revocation.MAX_LIST),
            anchors.certificates,
        )
        for path in find_lists(sources)
    )
    return Snapshot(
        stamp=stamp,
        pinned=_load_pins(sources, revocations, skip),
        anchors=anchors,
        revocations=revocations,
        chained=GenerationCache(_MAX_CHAINED),
    )


def find_lists(sources: Sources) -> list[str]:
    """The deny-lists and revocation lists to read. One that cannot be looked at is among them."""
    return [
        path for path in sources.revoked if path not in sources.may_lack or not is_missing(path)
    ]


def make_trusted_keys(
    chain: Sequence[x509.Certificate], revocations: Revocations
) -> dict[bytes, TrustedKey]:
    """Return what verifies the messages of a signer, by each protected header they may have.

    `chain` starts with the signer's certificate and has been found trustworthy. `SecurityError` if
    its key is not one we take, or if a part of a certificate that nobody has looked at is unreadable.
    """
    try:
        return _make_trusted_keys(chain, revocations)
    except UNREADABLE as error:
        # Certificates are parsed as they are asked: the issuer of a pin, say, not before here.
        raise SecurityError(f"certificate: unreadable: {type(error).__name__}") from error


def _make_trusted_keys(
    chain: Sequence[x509.Certificate], revocations: Revocations
) -> dict[bytes, TrustedKey]:
    identity = identify(chain[0])
    key = public_key_of(chain[0])
    not_after = min(each.not_valid_after_utc.timestamp() for each in chain)
    return {
        envelope.protected_header(algorithm, identity.fingerprint, batch=is_batch): TrustedKey(
            identity=identity,
            verify=keys.make_verify(key, algorithm),
            is_batch=is_batch,
            not_after=not_after,
            is_revoked=revocations.is_revoked(identity, chain),
            known_until=revocations.known_until(chain),
            revoked_from=revocations.revoked_from(identity),
        )
        for algorithm in keys.algorithms_of(key)
        for is_batch in (False, True)
    }


def list_files(sources: Sources) -> list[Path]:
    """The files of pins, as they are found now."""
    return [path for pattern in sources.pins for path in _expand(pattern).files]


def _load_anchors(sources: Sources, skip: Skip) -> list[Anchor]:
    anchors = []
    for trust_domain, path in sources.anchors:
        try:
            certificates = parse_certificates(Path(path), files.load_guarded(Path(path)))
            for certificate in certificates:
                check_anchor(certificate)
        except SecurityError as error:
            skip(path, error)
        else:
            anchors += [Anchor(trust_domain, certificate) for certificate in certificates]
    return anchors


def _load_pins(sources: Sources, revocations: Revocations, skip: Skip) -> dict[bytes, TrustedKey]:
    pinned: dict[bytes, TrustedKey] = {}
    listing = [_expand(pattern) for pattern in sources.pins]
    for directory in {directory for one in listing for directory in one.directories}:
        files.check_directory(directory)
    paths = [path for one in listing for path in one.files]
    if len(paths) > MAX_PINS:
        raise SecurityError(f"security_cert_store: {len(paths)} files; at most {MAX_PINS}")
    for path in paths:
        try:
            # One in each file: of a chain, only the first is meant, and all would be trusted.
            pinned |= make_trusted_keys((load_certificate(path),), revocations)
        except SecurityError as error:
            skip(str(path), error)
    return pinned


class _Listing(NamedTuple):
    directories: list[Path]
    """Where a new file would be found without anybody naming it."""
    files: list[Path]


def _expand(pattern: str) -> _Listing:
    path = Path(pattern)
    if not path.exists() and any(letter in pattern for letter in "*?["):
        # `Path.glob` takes no absolute patterns.
        found = [Path(each) for each in sorted(glob.glob(pattern))]  # noqa: PTH207
        return _Listing(sorted({each.parent for each in found}), found)
    if not path.is_dir():
        return _Listing([], [path])
    try:
        return _Listing(
            [path], sorted(child for child in path.iterdir() if child.suffix in _SUFFIXES)
        )
    except OSError as error:
        raise SecurityError(f"{path}: cannot be listed: {error.strerror}") from error


def is_missing(path: str) -> bool:
    """Tell whether there is surely nothing; what we may not look at could be there."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _stamp_of(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    if stat.S_ISDIR(status.st_mode):
        # Its times change with every file in it, also with those that are none of our business.
        return (status.st_mode, status.st_uid)
    return files.stamp_of(path)
