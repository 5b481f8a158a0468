"""Which files of certificates an app's settings mean, those included that no setting names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cardoon.config import Settings, find_state_directory
from cardoon.security.authority import AUTHORITY, TRUSTED
from cardoon.security.expiry import CertificateFiles
from cardoon.security.snapshot import Sources
from cardoon.security.trust import name_domains

DENY_LIST = "revoked.txt"
"""Of a project: what `cardoon cert revoke` writes, and what is read where nothing else is set."""
REVOCATION_LIST = "ca.crl"
"""What the authority of a project signs."""


def find_certificates(settings: Settings, *, role: str | None = None) -> CertificateFiles:
    """Find them. `role` says whose identity is meant where no setting does; None for all of a project."""
    state = find_state_directory(settings)
    own = [settings.security_certificate]
    if not settings.security_certificate:
        roles = sorted(path.stem for path in state.glob("*.key")) if role is None else [role]
        own = [str(state / f"{one}.pem") for one in roles if one != AUTHORITY]
    revoked, may_lack = find_revoked(settings)
    return CertificateFiles(
        own=[str(Path(path).expanduser()) for path in own],
        sources=Sources(*_find_trusted(settings, state), revoked, may_lack),
    )


def find_revoked(settings: Settings) -> tuple[list[str], frozenset[str]]:
    """The lists of who is revoked; and those of them that need not be there, because nobody named them."""
    if settings.security_revoked:
        return list(settings.security_revoked), frozenset()
    state = find_state_directory(settings)
    usual = [str(state / DENY_LIST)]
    named = settings.security_cert_store or settings.security_ca_certificates
    if not named and (state / f"{AUTHORITY}.pem").exists():
        usual.append(str(state / REVOCATION_LIST))
    return usual, frozenset(usual)


def _find_trusted(
    settings: Settings, state: Path
) -> tuple[list[str], list[tuple[str | None, str]]]:
    pins, anchors = settings.security_cert_store, settings.security_ca_certificates
    if pins or anchors:
        listed = anchors if isinstance(anchors, Mapping) else list(anchors)
        return list(pins), name_domains(listed)
    trusted, authority = state / TRUSTED, state / f"{AUTHORITY}.pem"
    usual = [str(trusted)] if trusted.exists() else []
    return usual, name_domains([authority] if authority.exists() else [])
