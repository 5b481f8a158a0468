"""Vectors about whom to trust: certificates that somebody would like to be taken for, and true ones.

Every frame here has a signature that fits its certificate's key, also where nobody has that key: under
a key of small order anybody can make one.
"""

from __future__ import annotations

import datetime as dt
import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cardoon.message import envelope
from cardoon.message.claims import encode_claims
from tests.vectors import generate as base

PRIME = 2**255 - 19
ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SIGN_BIT = 1 << 255
SMALL_ORDER = {
    "of order 1": 1,
    "of order 2": PRIME - 1,
    "of order 4": 0,
    "of order 4, negative": SIGN_BIT,
    "of order 8": ORDER_8,
    "of order 8, negative": ORDER_8 | SIGN_BIT,
    "of order 8, the other": PRIME - ORDER_8,
    "of order 8, the other, negative": (PRIME - ORDER_8) | SIGN_BIT,
    "of order 1, not canonical": PRIME + 1,
    "of order 4, not canonical": PRIME,
}
WITHOUT_A_KEY = (1).to_bytes(32, "little") + bytes(32)
"""R is the neutral element and S is nought: made without any secret."""
RSA_1024 = serialization.load_pem_private_key(
    (base.HERE / "rsa1024-test-key.pem").read_bytes(), None
)
AUTHORITY_KEY = ec.derive_private_key(4711, ec.SECP256R1())
BETWEEN_KEY = ec.derive_private_key(4712, ec.SECP256R1())
ED25519_AUTHORITY_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
CARDOON_USAGE = x509.ObjectIdentifier("2.25.169042629709330089676474763271564609652")


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage_of(**said):
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: said.get(name, False) for name in names})


def issue(name, public, signing_key, *, issuer=None, begins=-3600, ends=86_400, serial=1, said=()):
    """A certificate; the same bytes each time."""
    start = dt.datetime.fromtimestamp(base.NOW, dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .issuer_name(name_of(issuer or name))
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(start + dt.timedelta(seconds=begins))
        .not_valid_after(start + dt.timedelta(seconds=ends))
    )
    for extension, critical in said:
        builder = builder.add_extension(extension, critical=critical)
    if isinstance(signing_key, ed25519.Ed25519PrivateKey):
        return builder.sign(signing_key, None)
    if isinstance(signing_key, rsa.RSAPrivateKey):
        return builder.sign(signing_key, hashes.SHA256())
    return builder.sign(signing_key, hashes.SHA256(), ecdsa_deterministic=True)


def authority(name, key, signing_key=None, issuer=None, *, serial=1, path_length=None):
    said = (
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (usage_of(key_cert_sign=True, crl_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    )
    return issue(
        name,
        key.public_key(),
        signing_key or key,
        issuer=issuer,
        serial=serial,
        ends=10**8,
        said=said,
    )


def uris(*texts):
    found = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in texts])
    return (found, False)


WEB = uris("spiffe://acme.example/web")
SIGNS = (usage_of(digital_signature=True), True)


def member(name, public=None, *, said=(SIGNS, WEB), **options):
    """A certificate that the authority has issued, to `base.ED25519` unless to somebody else."""
    options = {"issuer": "authority", "signing_key": AUTHORITY_KEY, "serial": 2, **options}
    signing_key = options.pop("signing_key")
    return issue(name, public or base.ED25519.public_key(), signing_key, said=said, **options)


def usages(*found):
    return (x509.ExtendedKeyUsage(found), False)


def people():
    """All certificates, by name."""
    leaves = {
        "web": member("web"),
        "no URI": member("no URI", said=(SIGNS,)),
        "clientAuth": member(
            "clientAuth", said=(SIGNS, WEB, usages(ExtendedKeyUsageOID.CLIENT_AUTH))
        ),
        "signs Cardoon messages": member(
            "signs Cardoon messages", said=(SIGNS, WEB, usages(CARDOON_USAGE))
        ),
        "codeSigning": member(
            "codeSigning", said=(SIGNS, WEB, usages(ExtendedKeyUsageOID.CODE_SIGNING))
        ),
        "serverAuth": member(
            "serverAuth", said=(SIGNS, WEB, usages(ExtendedKeyUsageOID.SERVER_AUTH))
        ),
        "two URIs": member(
            "two URIs",
            said=(SIGNS, uris("spiffe://acme.example/web", "spiffe://acme.example/beat")),
        ),
        "a URI that is no SPIFFE id": member(
            "other URI", said=(SIGNS, uris("https://acme.example/web"))
        ),
        "key usage without digitalSignature": member(
            "key usage", said=((usage_of(key_encipherment=True), True), WEB)
        ),
        "an authority's": member(
            "an authority's",
            said=((x509.BasicConstraints(ca=True, path_length=0), True), SIGNS, WEB),
        ),
        "RSA-1024": member("RSA-1024", RSA_1024.public_key()),
        "expired": member("expired", ends=-1),
        "early": member("early", begins=3600),
        "in between": member("in between", issuer="between", signing_key=BETWEEN_KEY),
        "by a pin": member("by a pin", issuer="pin that is an authority", signing_key=base.ED25519),
        "by an Ed25519 authority": member(
            "by Ed25519", issuer="Ed25519 authority", signing_key=ED25519_AUTHORITY_KEY
        ),
        "in another's name": member("in another's name", signing_key=BETWEEN_KEY),
    }
    for what, encoded in SMALL_ORDER.items():
        public = ed25519.Ed25519PublicKey.from_public_bytes(encoded.to_bytes(32, "little"))
        leaves[what] = member(what, public)
    return {
        "authority": authority("authority", AUTHORITY_KEY),
        "between": authority("between", BETWEEN_KEY, AUTHORITY_KEY, "authority", serial=3),
        "pin that is an authority": authority("pin that is an authority", base.ED25519),
        "Ed25519 authority": authority("Ed25519 authority", ED25519_AUTHORITY_KEY),
        **leaves,
    }


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def forge(certificate, public, chain):
    """A frame whose signature verifies under a key of small order, for some number of it."""
    header = envelope.protected_header(-19, hashlib.sha256(der(certificate)).digest(), batch=False)
    for sequence in range(1000):
        claims = encode_claims(base.task(sequence=sequence))
        try:
            public.verify(WITHOUT_A_KEY, envelope.bytes_to_sign(header, base.DOMAIN, claims))
        except InvalidSignature:
            continue
        start = envelope.begin_single(header, chain=chain)
        return envelope.build_signed(start, claims, WITHOUT_A_KEY, base.BODY)
    raise AssertionError("no signature was found")


def revocation_list(serials):
    """Of the authority's."""
    start = dt.datetime.fromtimestamp(base.NOW, dt.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name_of("authority"))
        .last_update(start - dt.timedelta(days=1))
        .next_update(start + dt.timedelta(days=7))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(
            entry.revocation_date(start - dt.timedelta(seconds=60)).build()
        )
    signed = builder.sign(AUTHORITY_KEY, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def vectors():
    known = people()
    claims = encode_claims(base.task())
    keys = {"RSA-1024": (RSA_1024, -37)}

    def frame(name, *between, first=None):
        key, algorithm = keys.get(name, (base.ED25519, -19))
        return base.signed_frame(
            claims,
            key=key,
            algorithm=algorithm,
            fingerprint=hashlib.sha256(der(known[name])).digest(),
            chain=[der(known[first or name]), *(der(known[each]) for each in between)],
        )

    cases = []

    def case(what, sent, refusal, *, pins=("web",), anchors=("authority",), revoked=()):
        cases.append(
            {
                "what": what,
                "pins": list(pins),
                "anchors": list(anchors),
                "revoked": list(revoked),
                "frame": sent.hex(),
                "refusal": refusal,
            }
        )

    def from_nobody_pinned(what, sent, refusal, **options):
        case(what, sent, refusal, pins=(), **options)

    for name in ("web", "no URI", "clientAuth", "signs Cardoon messages"):
        from_nobody_pinned(f"an authority vouches: {name}", frame(name), None)
    from_nobody_pinned("with one authority in between", frame("in between", "between"), None)
    case(
        "an exact certificate",
        base.signed_frame(claims, fingerprint=hashlib.sha256(der(known["web"])).digest()),
        None,
        anchors=(),
    )
    pinned = "pin that is an authority"
    case(
        "a pin that says CA:TRUE speaks for itself", frame(pinned), None, pins=(pinned,), anchors=()
    )
    case(
        "a pin that says CA:TRUE speaks for nobody else",
        frame("by a pin", pinned),
        "unknown-signer",
        pins=(pinned,),
        anchors=(),
    )
    for name in (
        *("codeSigning", "serverAuth", "two URIs", "a URI that is no SPIFFE id"),
        *("key usage without digitalSignature", "an authority's", "RSA-1024", "in another's name"),
    ):
        from_nobody_pinned(f"an authority vouches: {name}", frame(name), "unknown-signer")
    from_nobody_pinned(
        "an authority with an Ed25519 key",
        frame("by an Ed25519 authority"),
        "unknown-signer",
        anchors=("Ed25519 authority",),
    )
    from_nobody_pinned("without the one in between", frame("in between"), "unknown-signer")
    from_nobody_pinned("no authority at all", frame("web"), "unknown-signer", anchors=("between",))
    from_nobody_pinned(
        "another certificate than the header names", frame("web", first="no URI"), "unknown-signer"
    )
    from_nobody_pinned("expired", frame("expired"), "certificate-expired")
    from_nobody_pinned("not yet valid", frame("early"), "certificate-not-yet-valid")
    from_nobody_pinned(
        "on the authority's revocation list",
        frame("web"),
        "certificate-revoked",
        revoked=(revocation_list([2]),),
    )
    from_nobody_pinned(
        "the one in between is on it",
        frame("in between", "between"),
        "certificate-revoked",
        revoked=(revocation_list([3]),),
    )
    from_nobody_pinned(
        "by its name on a deny-list",
        frame("web"),
        "certificate-revoked",
        revoked=("spiffe://acme.example/web\n",),
    )
    from_nobody_pinned("others on the list", frame("web"), None, revoked=(revocation_list([7]),))
    for what in SMALL_ORDER:
        certificate = known[what]
        public = certificate.public_key()
        from_nobody_pinned(
            f"vouched for, a key {what}",
            forge(certificate, public, [der(certificate)]),
            "unknown-signer",
        )
        case(
            f"pinned, a key {what}",
            forge(certificate, public, ()),
            "unknown-signer",
            pins=("web", what),
            anchors=(),
        )
    return {
        "about": "Whom to trust. Each frame carries a signature that fits its certificate's key.",
        "domain": base.DOMAIN.decode(),
        "now": base.NOW,
        "audience": ["q:celery"],
        "certificates": {
            name: each.public_bytes(serialization.Encoding.PEM).decode()
            for name, each in known.items()
        },
        "cases": cases,
    }
