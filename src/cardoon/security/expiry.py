"""How long certificates are still good: our own, those we trust, authorities, and revocation lists.

One function judges all of them. The command line, the worker and whoever else warns of them ask it, so
that they agree.
"""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from cardoon.exceptions import SecurityError
from cardoon.security import files, revocation
from cardoon.security.identity import (
    UNREADABLE,
    identify,
    load_certificate,
    parse_certificates,
)
from cardoon.security.revocation import Revocations
from cardoon.security.snapshot import Sources, find_lists, is_missing, list_files

DEFAULT_WARNING = 30 * 86_400.0
"""Seconds before the end: time to find out who can issue a new one."""
_SHARE_OF_LIFE = 5
"""Of what lives for a short time, the last fifth of its life: certificates of an hour are renewed at
about half of it, so that nobody is warned of one that will be renewed in time."""
_MARK = re.compile(r"-[0-9a-f]{16}(?=\.[a-z]+\Z)")
"""What renewing puts behind the role in a file's name (`authority.mark_of`)."""


class Part(enum.StrEnum):
    """What a certificate is to us."""

    IDENTITY = "identity"
    """Our own, or an authority between it and its anchor."""
    PIN = "pin"
    ANCHOR = "anchor"
    REVOCATION_LIST = "revocation-list"


class State(enum.StrEnum):
    """How good it is now."""

    OK = "ok"
    EXPIRES_SOON = "expires-soon"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    SUPERSEDED = "superseded"
    """Ends soon or has ended, but a later pin of the same identity lasts longer."""
    REVOKED = "revoked"
    UNREADABLE = "unreadable"


NEEDS_ATTENTION = frozenset(
    {State.EXPIRES_SOON, State.EXPIRED, State.NOT_YET_VALID, State.UNREADABLE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is to be said of one certificate or revocation list."""

    part: Part
    path: str
    state: State
    name: str = ""
    fingerprint: str = ""
    """SHA-256 in hexadecimal digits; empty for a revocation list."""
    not_before: float = 0.0
    not_after: float = 0.0
    """Seconds since the epoch; of a revocation list, when the next one is due. A deny-list may say that
    a certificate ends earlier than it says itself."""
    seconds_left: float = 0.0
    """Below zero if it is over."""
    detail: str = ""
    """Why it cannot be read."""

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should do something about it."""
        ours = self.part is Part.IDENTITY and self.state is State.REVOKED
        return ours or self.state in NEEDS_ATTENTION


class CertificateFiles(NamedTuple):
    """Where everything lies that an app signs with and trusts."""

    own: Sequence[str]
    """Certificates of its identity; those that are not there are left out."""
    sources: Sources


def judge_all(
    found: CertificateFiles, *, now: float, warning: float = DEFAULT_WARNING
) -> list[Finding]:
    """Read all files anew and judge each certificate in them; what cannot be read is a finding too.

    `now` is in seconds since the epoch, `warning` how many of them before its end a certificate is said
    to expire soon.
    """
    anchors = [Path(path) for _, path in found.sources.anchors]
    authorities = [one for path in anchors for one in _readable(path)]
    revocations, lists = _judge_lists(found.sources, authorities, now, warning)
    own = [Path(path) for path in found.own if not is_missing(path)]
    pins, hidden = _list_pins(found.sources)
    findings = [
        *itertools.chain.from_iterable(
            _judge_file(part, path, now, warning, revocations)
            for part, paths in (
                (Part.IDENTITY, own),
                (Part.PIN, pins),
                (Part.ANCHOR, anchors),
            )
            for path in paths
        ),
        *hidden,
        *lists,
    ]
    return _mark_superseded(findings)


def judge(not_before: float, not_after: float, *, now: float, warning: float) -> State:
    """Judge one period."""
    if now > not_after:
        return State.EXPIRED
    if now < not_before:
        return State.NOT_YET_VALID
    soon = min(warning, (not_after - not_before) / _SHARE_OF_LIFE)
    return State.EXPIRES_SOON if not_after - now < soon else State.OK


def judge_certificate(
    part: Part,
    path: Path,
    certificate: x509.Certificate,
    *,
    now: float,
    warning: float = DEFAULT_WARNING,
    revocations: Revocations | None = None,
) -> Finding:
    """Judge one certificate."""
    identity = identify(certificate)
    known = Revocations() if revocations is None else revocations
    retires = known.revoked_from(identity)
    ends = min(identity.not_after, retires)
    state = judge(identity.not_before, ends, now=now, warning=warning)
    if known.is_revoked(identity, (certificate,)) or now >= retires:
        state = State.REVOKED
    return Finding(
        part=part,
        path=str(path),
        state=state,
        name=identity.name,
        fingerprint=identity.fingerprint.hex(),
        not_before=identity.not_before,
        not_after=ends,
        seconds_left=ends - now,
    )


def describe(finding: Finding) -> str:
    """What is to be said of a certificate, for people."""
    if finding.state is State.UNREADABLE:
        return f"{finding.part.value} cannot be read: {finding.detail}"
    moment = finding.not_before if finding.state is State.NOT_YET_VALID else finding.not_after
    when = dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    match finding.state:
        case State.EXPIRED:
            said = f"has expired at {when}"
        case State.NOT_YET_VALID:
            said = f"is not valid before {when}"
        case State.EXPIRES_SOON:
            said = f"ends at {when}, in {format_seconds(finding.seconds_left)}"
        case State.REVOKED:
            said = "is revoked"
        case _:
            said = f"is {finding.state.value}, until {when}"
    return f"{finding.part.value} {finding.name} ({finding.path}) {said}"


def format_seconds(seconds: float) -> str:
    """A time that is left, in the largest unit of which there are two."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"


def _list_pins(sources: Sources) -> tuple[list[Path], list[Finding]]:
    """The files of pins, and what to say of folders that nobody can look into."""
    pins: list[Path] = []
    hidden: list[Finding] = []
    for pattern in sources.pins:
        try:
            pins += list_files(sources._replace(pins=[pattern]))
        except SecurityError as error:
            hidden.append(_unreadable(Part.PIN, Path(pattern), error))
    return pins, hidden


def _judge_file(
    part: Part, path: Path, now: float, warning: float, revocations: Revocations
) -> Iterator[Finding]:
    try:
        certificates = [load_certificate(path)] if part is Part.PIN else _load_certificates(path)
        for certificate in certificates:
            yield judge_certificate(
                part, path, certificate, now=now, warning=warning, revocations=revocations
            )
    except (SecurityError, *UNREADABLE) as error:
        yield _unreadable(part, path, error)


def _judge_lists(
    sources: Sources, authorities: Sequence[x509.Certificate], now: float, warning: float
) -> tuple[Revocations, list[Finding]]:
    """What is revoked, and how long the revocation lists of authorities are good."""
    read = []
    findings = []
    for path in map(Path, find_lists(sources)):
        try:
            content = files.load_guarded(path, max_bytes=revocation.MAX_LIST)
            one = revocation.parse_list(path, content, authorities)
        except SecurityError as error:
            findings.append(_unreadable(Part.REVOCATION_LIST, path, error))
            continue
        read.append(one)
        if isinstance(one, revocation.SerialList):
            findings.append(_judge_list(path, content, now, warning))
    return Revocations(read), findings


def _judge_list(path: Path, content: bytes, now: float, warning: float) -> Finding:
    crl = x509.load_pem_x509_crl(content)
    ends = crl.next_update_utc
    assert ends is not None  # or it would not have been read
    issuer = crl.issuer.rfc4514_string()
    begins, until = crl.last_update_utc.timestamp(), ends.timestamp()
    return Finding(
        part=Part.REVOCATION_LIST,
        path=str(path),
        state=judge(begins, until, now=now, warning=warning),
        name=issuer if issuer.isprintable() else repr(issuer),
        not_before=begins,
        not_after=until,
        seconds_left=until - now,
    )


def _mark_superseded(findings: Iterable[Finding]) -> list[Finding]:
    """After a rotation the old pin ends, as it should: that is no reason to wake anybody."""
    listed = list(findings)
    lasts: dict[tuple[str, str], float] = {}
    for one in listed:
        if one.part is Part.PIN and one.state in {State.OK, State.EXPIRES_SOON}:
            who = _whose(one)
            lasts[who] = max(one.not_after, lasts.get(who, 0.0))
    return [
        replace(one, state=State.SUPERSEDED)
        if one.part is Part.PIN
        and one.state in {State.EXPIRES_SOON, State.EXPIRED}
        and one.not_after < lasts.get(_whose(one), 0.0)
        else one
        for one in listed
    ]


def _whose(finding: Finding) -> tuple[str, str]:
    """What the pins of one identity have in common: the name, and the file but for the mark.

    Not the name alone, because several hosts may have identities of one name.
    """
    return finding.name, _MARK.sub("", finding.path)


def _readable(path: Path) -> list[x509.Certificate]:
    try:
        return _load_certificates(path)
    except SecurityError:
        return []  # it is a finding of its own


def _load_certificates(path: Path) -> list[x509.Certificate]:
    return parse_certificates(path, files.load_guarded(path))


def _unreadable(part: Part, path: Path, error: Exception) -> Finding:
    said = (
        str(error) if isinstance(error, SecurityError) else f"{path}: no certificate that we know"
    )
    return Finding(part=part, path=str(path), state=State.UNREADABLE, detail=said)
