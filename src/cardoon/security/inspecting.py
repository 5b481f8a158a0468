"""Says what is in files of keys, certificates, requests and lists: public facts only.

Nothing here decides: whether somebody is trusted is asked of the trust store, as for a message.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cardoon.exceptions import RefusedError, SecurityError
from cardoon.message import envelope
from cardoon.security import chains, expiry, files, keys, revocation
from cardoon.security.chains import Anchor
from cardoon.security.identity import UNREADABLE, find_uris, identify, public_key_of
from cardoon.security.trust import TrustStore

Fact: TypeAlias = str | int | bool | list[str]

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_USAGES = {
    chains.SIGNER_USAGE.dotted_string: "cardoonSigner",
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing in a file."""

    kind: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    verdict: str = ""
    """What Cardoon makes of it."""
    is_refused: bool = False
    """Whether it is of no use here."""


class Inspector:
    """Looks at things as they are now, with the eyes of a trust store (None if there is none).

    A store remembers those who came with their chains, so it is opened anew for each. `anchors` are the
    authorities that it trusts.
    """

    def __init__(
        self,
        open_store: Callable[[], TrustStore] | None,
        anchors: Sequence[Anchor],
        *,
        now: float,
        warning: float = expiry.DEFAULT_WARNING,
    ) -> None:
        self._open_store = open_store
        self._anchors = anchors
        self._domains = {identify(one.certificate).fingerprint: one.trust_domain for one in anchors}
        self._now = now
        self._warning = warning

    def inspect(self, path: Path, password: bytes | None = None) -> list[Thing]:
        """Return what is in a file; `SecurityError` if it cannot be read.

        A file that others could write or read is described as well, and its verdict says so.
        """
        objection = ""
        try:
            content = files.load_guarded(path, max_bytes=revocation.MAX_LIST)
        except SecurityError as error:
            objection = str(error)
            content = _read_anyway(path, error)
        found = list(self._find(path, content, password))
        return [_object(one, objection) for one in found]

    def _find(self, path: Path, content: bytes, password: bytes | None) -> Iterator[Thing]:
        blocks = [(one.group(1).decode(), one.group(0)) for one in _BLOCK.finditer(content)]
        certificates = [block for label, block in blocks if label.endswith("CERTIFICATE")]
        if not blocks:
            yield _deny_list(path, content)
        for label, block in blocks:
            match label:
                case "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST":
                    yield _request(block)
                case "X509 CRL":
                    yield self._revocation_list(path, block)
                case "PUBLIC KEY":
                    yield _public_key(block)
                case _ if label.endswith("PRIVATE KEY"):
                    yield _private_key(path, block, password)
                case _ if label.endswith("CERTIFICATE"):
                    chain = certificates[certificates.index(block) + 1 :]
                    yield self._certificate(block, chain)
                case _:
                    yield Thing(kind=label.lower(), verdict="not known here", is_refused=True)

    def _certificate(self, block: bytes, rest: list[bytes]) -> Thing:
        try:
            certificate = x509.load_pem_x509_certificate(block)
            chain = [x509.load_pem_x509_certificate(one) for one in rest]
            facts = _certificate_facts(certificate, now=self._now, warning=self._warning)
        except (SecurityError, *UNREADABLE) as error:
            return _unreadable("certificate", error)
        verdict, is_refused = self._judge(certificate, chain)
        return Thing(kind="certificate", facts=facts, verdict=verdict, is_refused=is_refused)

    def _judge(
        self, certificate: x509.Certificate, chain: list[x509.Certificate]
    ) -> tuple[str, bool]:
        """What the store makes of a message that this certificate's key had signed just now."""
        fingerprint = identify(certificate).fingerprint
        if fingerprint in self._domains:
            domain = self._domains[fingerprint]
            return f"an authority that is trusted for {domain or 'any trust domain'}", False
        try:
            key = public_key_of(certificate)
        except SecurityError as error:
            return f"refused: {error}", True
        if self._open_store is None:
            return "not judged: nobody is trusted here", False
        header = envelope.protected_header(keys.algorithms_of(key)[0], fingerprint, batch=False)
        store = self._open_store()
        is_pinned = store.is_pinned(header)
        coming = [] if is_pinned else [_encode(one) for one in (certificate, *chain)]
        try:
            store.resolve(header, coming)
        except RefusedError as error:
            return f"refused: {error}", True
        if is_pinned:
            return "trusted: pinned", False
        return "trusted by its authority, if it comes along (security_send_chain)", False

    def _revocation_list(self, path: Path, block: bytes) -> Thing:
        facts: dict[str, Fact] = {}
        try:
            crl = x509.load_pem_x509_crl(block)
            ends = crl.next_update_utc
            facts["issuer"] = _shown(crl.issuer.rfc4514_string())
            facts["entries"] = len(crl)
            facts["issued"] = _when(crl.last_update_utc)
            facts["next"] = "none" if ends is None else _when(ends)
            revocation.parse_list(path, block, [one.certificate for one in self._anchors])
        except (SecurityError, *UNREADABLE) as error:
            return _unreadable("revocation list", error, facts)
        late = ends is None or ends.timestamp() < self._now
        verdict = "out of date: whoever it speaks of is refused" if late else "good"
        return Thing(kind="revocation list", facts=facts, verdict=verdict, is_refused=late)


def _encode(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _object(thing: Thing, objection: str) -> Thing:
    if not objection:
        return thing
    return Thing(kind=thing.kind, facts=thing.facts, verdict=objection, is_refused=True)


def _deny_list(path: Path, content: bytes) -> Thing:
    try:
        content.decode()
    except UnicodeDecodeError:
        verdict = "not PEM; `cardoon cert import` takes DER and PKCS#12"
        return Thing(kind="binary file", verdict=verdict, is_refused=True)
    try:
        denied = revocation.parse_list(path, content, ())
    except SecurityError as error:
        return _unreadable("text file", error)
    assert isinstance(denied, revocation.DenyList)  # what has no PEM block is no other list
    facts: dict[str, Fact] = {
        "fingerprints": len(denied.fingerprints),
        "names": sorted(denied.names),
        "later": len(denied.later),
    }
    return Thing(kind="deny-list", facts=facts, verdict="good")


def _certificate_facts(
    certificate: x509.Certificate, *, now: float, warning: float
) -> dict[str, Fact]:
    judged = expiry.judge_certificate(
        expiry.Part.PIN, Path(), certificate, now=now, warning=warning
    )
    facts: dict[str, Fact] = {
        "name": judged.name,
        "fingerprint": f"sha256:{judged.fingerprint}",
        "subject": _shown(certificate.subject.rfc4514_string()),
        "issuer": _shown(certificate.issuer.rfc4514_string()),
        "serial": f"{certificate.serial_number:x}",
        "uris": [_shown(uri) for uri in find_uris(certificate)],
        "key": _describe_key(certificate),
        "authority": False,
    }
    for extension in certificate.extensions:
        match extension.value:
            case x509.BasicConstraints() as constraints:
                facts["authority"] = constraints.ca
            case x509.KeyUsage() as usage:
                facts["key_usage"] = _name_usages(usage)
            case x509.ExtendedKeyUsage() as extended:
                named = [one.dotted_string for one in extended]
                facts["extended_key_usage"] = [_USAGES.get(one, one) for one in named]
            case _:
                pass
    return {
        **facts,
        "valid_from": _when(certificate.not_valid_before_utc),
        "valid_until": _when(certificate.not_valid_after_utc),
        "seconds_left": round(judged.seconds_left),
        "state": judged.state.value,
    }


def _name_usages(usage: x509.KeyUsage) -> list[str]:
    allowed = {
        "digitalSignature": usage.digital_signature,
        "nonRepudiation": usage.content_commitment,
        "keyEncipherment": usage.key_encipherment,
        "dataEncipherment": usage.data_encipherment,
        "keyAgreement": usage.key_agreement,
        "keyCertSign": usage.key_cert_sign,
        "cRLSign": usage.crl_sign,
    }
    return [name for name, is_allowed in allowed.items() if is_allowed]


def _request(block: bytes) -> Thing:
    try:
        request = x509.load_pem_x509_csr(block)
        facts: dict[str, Fact] = {
            "subject": _shown(request.subject.rfc4514_string()),
            "key": _name_key(request.public_key()),
        }
        is_proven = request.is_signature_valid
        keys.check_public_key(request.public_key())
    except (SecurityError, *UNREADABLE) as error:
        return _unreadable("certificate request", error)
    verdict = "its maker holds the key" if is_proven else "refused: its signature is not by its key"
    return Thing(kind="certificate request", facts=facts, verdict=verdict, is_refused=not is_proven)


def _public_key(block: bytes) -> Thing:
    try:
        key = serialization.load_pem_public_key(block)
        facts: dict[str, Fact] = {"key": _name_key(key)}
        keys.check_public_key(key)
    except (SecurityError, *UNREADABLE) as error:
        return _unreadable("public key", error)
    return Thing(kind="public key", facts=facts, verdict="good")


def _private_key(path: Path, block: bytes, password: bytes | None) -> Thing:
    """Its public half, whether it is encrypted, and whether others can read it. Never more."""
    is_encrypted = b"ENCRYPTED" in block
    facts: dict[str, Fact] = {"encrypted": is_encrypted}
    try:
        files.load_secret(path)
        if is_encrypted and password is None:
            return Thing(
                kind="private key", facts=facts, verdict="not opened: no password was given"
            )
        opens = password if is_encrypted else None
        key = keys.check_private_key(serialization.load_pem_private_key(block, opens))
        public = key.public_key()
        facts["key"] = _name_key(public)
        facts["public_key"] = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()
    except (SecurityError, *UNREADABLE) as error:
        return Thing(
            kind="private key", facts=facts, verdict=f"refused: {_said(error)}", is_refused=True
        )
    return Thing(kind="private key", facts=facts, verdict="good")


def _describe_key(certificate: x509.Certificate) -> str:
    try:
        return _name_key(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return "of unknown type"


def _name_key(key: object) -> str:
    match key:
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case _:
            return type(key).__name__.removeprefix("_").removesuffix("PublicKey")


def _unreadable(kind: str, error: Exception, facts: Mapping[str, Fact] | None = None) -> Thing:
    return Thing(kind=kind, facts=facts or {}, verdict=f"refused: {_said(error)}", is_refused=True)


def _said(error: Exception) -> str:
    return _shown(str(error)) if isinstance(error, SecurityError) else "cannot be read"


def _shown(text: str) -> str:
    """Names are chosen by whoever made the certificate, and are shown on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:512])


def _when(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_anyway(path: Path, error: SecurityError) -> bytes:
    """The content of a file that others may change: to describe it, never to trust it."""
    try:
        if not path.is_file():
            raise error
        with path.open("rb") as file:
            return file.read(files.MAX_CERTIFICATE_FILE)
    except OSError:
        raise error from None
