"""Checks of keys, certificates and secrets: who can read them, and how long they are good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cardoon.certificates import find_certificates
from cardoon.config import ENVIRONMENT_PREFIX, SECRETS
from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import OTHERS_ANY, OTHERS_WRITE, NotApplicableError, Scene
from cardoon.encrypting import find_folder
from cardoon.exceptions import CardoonError
from cardoon.security.authority import AUTHORITY, TRUSTED
from cardoon.security.expiry import Finding, Part, describe, judge_all
from cardoon.security.identity import load_certificate
from cardoon.security.keyset import WORKERS
from cardoon.signers.place import find_place

_REFERENCES = ("env:", "file:", "withheld:")


def _own_keys(scene: Scene) -> list[Path]:
    """The files of private keys; `NotApplicableError` where there are none on this host."""
    told = scene.settings.security_key
    if told:
        found = [] if find_place(told) else [Path(told.removeprefix("file:")).expanduser()]
    else:
        found = sorted(scene.state_directory.glob("*.key"))
    if not found:
        raise NotApplicableError("no private key lies in a file here")
    return found


@check(
    "KEY-01",
    Severity.CRITICAL,
    "who can read private keys",
    looks_at="security_key, or *.key of the state directory, and the folders that they are in",
    remedy="chmod 600 KEY; chmod go-w FOLDER; chown the worker's user or root",
)
def key_files(scene: Scene) -> Iterator[str]:
    """Who can read a key is its owner, to everybody else."""
    for path in _own_keys(scene):
        if wrong := scene.open_to_others(path, OTHERS_ANY):
            yield wrong
        if wrong := scene.open_to_others(path.parent, OTHERS_WRITE):
            yield wrong


@check(
    "KEY-02",
    Severity.HIGH,
    "where the authority's key lies",
    looks_at="ca.key in the state directory",
    remedy="move ca.key to the host that issues certificates, and away from workers",
    deploy=True,
)
def authority_key(scene: Scene) -> Iterator[str]:
    """Who breaks into a worker could make any identity."""
    scene.require_shared()
    path = scene.state_directory / f"{AUTHORITY}.key"
    if path.exists():
        yield f"{path} is on a host that runs tasks"


def _judged(scene: Scene) -> list[Finding]:
    warning = scene.settings.security_expiry_warning
    return judge_all(find_certificates(scene.settings), now=scene.now, warning=warning)


@check(
    "KEY-03",
    Severity.HIGH,
    "certificates that end",
    looks_at="all certificates that are signed with or trusted",
    remedy="`cardoon cert list`, `cardoon cert renew ROLE`",
)
def certificates(scene: Scene) -> Iterator[str]:
    """What has ended stops the work, and what is renewed in a hurry is renewed badly."""
    for one in _judged(scene):
        if one.needs_attention and one.part is not Part.REVOCATION_LIST:
            yield describe(one)


@check(
    "KEY-04",
    Severity.HIGH,
    "a key for each role",
    looks_at="the certificates of the state directory",
    remedy="`cardoon cert issue ROLE` with a key of its own",
)
def shared_keys(scene: Scene) -> Iterator[str]:
    """Roles that share a key cannot be told apart, nor revoked one by one."""
    seen: dict[bytes, str] = {}
    for path in sorted(scene.state_directory.glob("*.pem")):
        try:
            key = load_certificate(path).public_key()
        except CardoonError:
            continue  # KEY-03 tells of those
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - seldom needed

        told = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if told in seen:
            yield f"{path.name} and {seen[told]} certify the same key"
        seen[told] = path.name


@check(
    "KEY-05",
    Severity.MEDIUM,
    "revocation lists that are due",
    looks_at="security_revoked, ca.crl",
    remedy="`cardoon cert crl` on the host of the authority, and copy it here",
)
def revocation_lists(scene: Scene) -> Iterator[str]:
    """Who was revoked since then is still trusted here."""
    for one in _judged(scene):
        if one.needs_attention and one.part is Part.REVOCATION_LIST:
            yield describe(one)


@check(
    "KEY-06",
    Severity.MEDIUM,
    "secrets that are written out",
    looks_at="settings that are secret, in the app and in the environment",
    remedy="file:/run/credentials/... or env:NAME in place of the secret",
)
def written_secrets(scene: Scene) -> Iterator[str]:
    """What stands in source code or in a variable is read by task code, backups and crash reports."""
    for name in SECRETS:
        value = getattr(scene.settings, name)
        if not isinstance(value, str) or not value or value.startswith(_REFERENCES):
            continue
        variable = ENVIRONMENT_PREFIX + name.upper()
        where = variable if scene.environ.get(variable) == value else name
        if name in {"security_key_password", "worker_metrics_token"} or _has_password(value):
            yield f"{where} holds a secret itself"
        elif "PRIVATE KEY" in value:
            yield f"{where} holds a private key itself"


def _has_password(url: str) -> bool:
    try:
        return any(urlsplit(one).password for one in url.split(";"))
    except ValueError:
        return False


@check(
    "KEY-07",
    Severity.HIGH,
    "mode of the state directory",
    looks_at="state_directory",
    remedy="chmod 700 DIRECTORY",
)
def state_directory(scene: Scene) -> Iterator[str]:
    """It holds keys, the own store and the audit trail."""
    if scene.status(scene.state_directory) is None:
        raise NotApplicableError("there is no state directory yet")
    if wrong := scene.open_to_others(scene.state_directory, OTHERS_ANY):
        yield wrong


@check(
    "KEY-08",
    Severity.CRITICAL,
    "who can write what is trusted",
    looks_at="security_cert_store, security_ca_certificates, security_revoked",
    remedy="chmod go-w FILE; chown root FILE",
)
def trust_files(scene: Scene) -> Iterator[str]:
    """Who can write there is trusted next."""
    sources = find_certificates(scene.settings).sources
    paths = [*sources.pins, *(path for _, path in sources.anchors), *sources.revoked]
    for path in dict.fromkeys([*paths, str(scene.state_directory / TRUSTED)]):
        if wrong := scene.open_to_others(Path(path).expanduser(), OTHERS_WRITE):
            yield wrong


@check(
    "KEY-09",
    Severity.INFO,
    "a key that the worker itself holds",
    looks_at="security_key",
    remedy="`cardoon signer --key FILE --socket PATH` as another user, security_key = unix:PATH",
    deploy=True,
)
def held_keys(scene: Scene) -> Iterator[str]:
    """Who breaks into the worker can copy it; an agent would only sign, as long as he is there."""
    for path in _own_keys(scene):
        yield f"{path} is read by the process that signs"


@check(
    "KEY-10",
    Severity.HIGH,
    "who can read keys that bodies are sealed to",
    looks_at="security_keyset",
    remedy="chmod 600 KEY; chmod 700 FOLDER",
)
def keyset_files(scene: Scene) -> Iterator[str]:
    """They open all arguments, old ones as well."""
    folder = find_folder(scene.settings, scene.state_directory, WORKERS)
    paths = sorted(folder.glob("*.key"))
    if not paths:
        raise NotApplicableError("no key of a keyset lies here")
    for path in paths:
        if wrong := scene.open_to_others(path, OTHERS_ANY):
            yield wrong


CHECKS = (
    key_files,
    authority_key,
    certificates,
    shared_keys,
    revocation_lists,
    written_secrets,
    state_directory,
    trust_files,
    held_keys,
    keyset_files,
)
