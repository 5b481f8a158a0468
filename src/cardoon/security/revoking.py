"""Takes trust away, and gives it back: edits deny-lists, and signs revocation lists of an authority.

A list is changed under a lock and replaced whole, so a worker reads the old or the new one. What it said
before stays in it as a comment: who was let in again, when and why, is asked for later.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from pathlib import Path

from cryptography import x509

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security import files, issuing, placing, revocation
from cardoon.security.authority import Authority
from cardoon.security.identity import UNREADABLE

DEFAULT_LIST_LIFETIME = 30 * issuing.DAY
"""Seconds. Past its end everybody whom the authority vouches for is refused, so it is not short."""
_MAX_REASON = 200
"""Characters."""
_FIRST_NUMBER = 1


def deny(
    path: Path, who: bytes | str, *, clock: Clock, reason: str, moment: float | None = None
) -> bool:
    """Put a fingerprint or a SPIFFE id on a deny-list; tell whether that changed anything.

    `moment`, in seconds since the epoch, says from when on. The file is made if there is none.
    `SecurityError` if it is broken or open to others: then it is left alone.
    """
    said = _check_reason(reason)
    with placing.failing_as_security_error(path.parent), placing.locked(path):
        lines = _read_lines(path)
        if _is_denied(lines, who, moment):
            return False
        since = "" if moment is None else f" from {_format(moment)}"
        lines.append(f"{write_entry(who)}{since}  # {_format(clock.now())}: {said}")
        _write_lines(path, lines)
    return True


def restore(path: Path, who: bytes | str, *, clock: Clock, reason: str) -> bool:
    """Take a fingerprint or a SPIFFE id off a deny-list; tell whether it was on it.

    Its line stays as a comment with the reason.
    """
    said = _check_reason(reason)
    if not path.exists():
        return False
    with placing.failing_as_security_error(path.parent), placing.locked(path):
        lines = _read_lines(path)
        kept = [
            f"# {_format(clock.now())} restored: {said}; was: {line}" if _names(line, who) else line
            for line in lines
        ]
        if kept == lines:
            return False
        _write_lines(path, kept)
    return True


def sign_list(
    authority: Authority,
    path: Path,
    serials: Collection[int],
    *,
    clock: Clock,
    lifetime: float = DEFAULT_LIST_LIFETIME,
) -> int:
    """Sign the authority's revocation list anew, with these serial numbers in it as well.

    Returns how many are new to it; what it held before stays. It says that the next list comes within
    `lifetime` seconds; whoever reads it later than that trusts nobody of this authority.
    """
    with placing.failing_as_security_error(path.parent), placing.locked(path):
        before = _load_list(path, authority) if path.exists() else None
        entries = list(before) if before is not None else []
        added = set(serials) - {entry.serial_number for entry in entries}
        now = dt.datetime.fromtimestamp(clock.now(), dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.certificate.subject)
            .last_update(now)
            .next_update(issuing.make_period(clock, lifetime).ends)
            .add_extension(x509.CRLNumber(_number_after(before)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
                critical=False,
            )
        )
        for serial in sorted(added):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            entries.append(entry.build())
        for each in entries:
            builder = builder.add_revoked_certificate(each)
        signed = builder.sign(authority.key, issuing.digest_for(authority.key))
        placing.replace(path, encode_list(signed), mode=placing.PUBLIC)
    return len(added)


def encode_list(signed: x509.CertificateRevocationList) -> bytes:
    """PEM."""
    return signed.public_bytes(issuing.PEM)


def write_entry(who: bytes | str) -> str:
    """A fingerprint or a SPIFFE id as deny-lists have it."""
    return f"sha256:{who.hex()}" if isinstance(who, bytes) else who


def _is_denied(lines: list[str], who: bytes | str, moment: float | None) -> bool:
    """Whether the list says so already, from that moment on at the latest."""
    for line in lines:
        entry = revocation.parse_entry(line)
        if entry is None or entry.who != who:
            continue
        if entry.moment is None or (moment is not None and entry.moment <= moment):
            return True
    return False


def _names(line: str, who: bytes | str) -> bool:
    entry = revocation.parse_entry(line)
    return entry is not None and entry.who == who


def _read_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    content = files.load_guarded(path, max_bytes=revocation.MAX_LIST)
    # A line that nobody understands, or a revocation list in its place, is not ours to write over.
    if not isinstance(revocation.parse_list(path, content, ()), revocation.DenyList):
        raise SecurityError(f"{path}: a revocation list of an authority, not a deny-list")
    return content.decode().splitlines()


def _write_lines(path: Path, lines: list[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    if len(content) > revocation.MAX_LIST:
        raise SecurityError(
            f"{path}: more than {revocation.MAX_LIST} bytes; remove what has expired, or begin another"
        )
    placing.replace(path, content, mode=placing.PUBLIC)


def _load_list(path: Path, authority: Authority) -> x509.CertificateRevocationList:
    content = files.load_guarded(path, max_bytes=revocation.MAX_LIST)
    if not isinstance(
        revocation.parse_list(path, content, (authority.certificate,)), revocation.SerialList
    ):
        raise SecurityError(f"{path}: a deny-list, not a revocation list of an authority")
    return x509.load_pem_x509_crl(content)


def _number_after(before: x509.CertificateRevocationList | None) -> int:
    if before is None:
        return _FIRST_NUMBER
    try:
        return before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
    except (x509.ExtensionNotFound, *UNREADABLE):
        return _FIRST_NUMBER


def _check_reason(reason: str) -> str:
    said = reason.strip()
    if not said or len(said) > _MAX_REASON or not said.isprintable():
        raise SecurityError(
            f"reason {reason[:_MAX_REASON]!r}: say why, in one line of up to {_MAX_REASON} characters"
        )
    return said


def _format(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
