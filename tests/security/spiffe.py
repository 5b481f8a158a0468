"""What SPIRE and its helper do: short-lived certificates with P-256 keys, in three files.

The helper writes `svid.pem` (the certificate and those between it and the authority), `svid_key.pem`
and `svid_bundle.pem` (every authority that answers for the trust domain), one after the other.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.security.actors import START, key_usage, make_authority, make_member, write

HOUR = 3600.0
_serials = itertools.count(1)


def key_pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Server:
    """An authority for a trust domain, and the one below it that signs."""

    def __init__(self, name="root", *, now=None):
        self.offset = 0.0 if now is None else now - START.timestamp()
        period = {"begins": self.offset - HOUR, "ends": self.offset + 1000 * HOUR}
        self.root = make_authority(name, **period)
        self.below = make_authority(f"{name} below", issuer=self.root, path_length=0, **period)

    def issue(self, path, *, at=0.0, lasts=HOUR):
        """A new key, and a certificate for it that begins a minute before `at`."""
        return make_member(
            self.below,
            uris=(f"spiffe://acme.example/{path}",),
            key=ec.generate_private_key(ec.SECP256R1()),
            serial=next(_serials),
            extensions=(key_usage(digital_signature=True),),
            begins=self.offset + at - 60,
            ends=self.offset + at + lasts,
        )


class Helper:
    """Writes the files of one workload, each under another name first."""

    def __init__(self, folder: Path):
        folder.mkdir(mode=0o700, exist_ok=True)
        self.certificate = folder / "svid.pem"
        self.key = folder / "svid_key.pem"
        self.bundle = folder / "svid_bundle.pem"

    def write(self, server, svid, *, bundle=None):
        self.write_certificate(server, svid)
        self.write_key(svid)
        self.write_bundle(*(bundle or [server]))

    def write_certificate(self, server, svid):
        write(self.certificate.parent, self.certificate.name, svid.pem + server.below.pem)

    def write_key(self, svid):
        write(self.key.parent, self.key.name, key_pem(svid.key), mode=0o600)

    def write_bundle(self, *servers):
        content = b"".join(server.root.pem for server in servers)
        write(self.bundle.parent, self.bundle.name, content)

    def settings(self, **more):
        """What an app is told of them."""
        return {
            "security_key": str(self.key),
            "security_certificate": str(self.certificate),
            "security_ca_certificates": [str(self.bundle)],
            "security_send_chain": True,
            "security_domain": "acme/prod",
            **more,
        }
