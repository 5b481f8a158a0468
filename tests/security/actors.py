"""The people of these tests: keys, certificates and messages, good and bad."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON
from cardoon.security.gate import Gate
from cardoon.security.identity import PrivateIdentity, identify
from cardoon.security.keys import choose_algorithm
from cardoon.security.signing import Draft, MessageSigner
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock

DAY = 86_400
DOMAIN = "acme/prod"
START = dt.datetime.fromtimestamp(FakeClock().now(), dt.UTC)
BODY = b'[[1,2],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'


def ed25519_key(number: int = 0):
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


@functools.cache
def p256_key(number: int = 1):
    return ec.derive_private_key(number + 1000, ec.SECP256R1())


@functools.cache
def rsa_key(bits: int = 2048):
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True)
class Person:
    """Somebody with a key and a certificate for it."""

    key: object
    certificate: x509.Certificate

    @property
    def der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self):
        return hashlib.sha256(self.der).digest()

    def private(self, *, chain=(), digest="sha256"):
        return PrivateIdentity(
            identity=identify(self.certificate),
            key=self.key,
            algorithm=choose_algorithm(self.key.public_key(), digest),
            certificate=self.der,
            chain=tuple(chain),
        )

    def signer(self, clock, *, domain=DOMAIN, **options):
        return MessageSigner(
            self.private(), domain=domain, clock=clock, random=counting_random(), **options
        )


def counting_random():
    """Session ids in a row, so that what a test sees does not change from run to run."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def make_person(
    name="alice",
    *,
    key=None,
    public_key=None,
    issuer=None,
    uris=(),
    extensions=(),
    critical=(),
    begins=-DAY,
    ends=365 * DAY,
    serial=None,
):
    """A certificate for a key, by itself or by an issuer; times are seconds from the tests' start."""
    key = key or ed25519_key(sum(name.encode()) % 256)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public_key or key.public_key())
        .serial_number(serial or int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
        .not_valid_before(START + dt.timedelta(seconds=begins))
        .not_valid_after(START + dt.timedelta(seconds=ends))
    )
    if uris:
        alternatives = x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(uri) for uri in uris]
        )
        builder = builder.add_extension(alternatives, critical=False)
    for extension in (*extensions, *critical):
        is_critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
        builder = builder.add_extension(extension, critical=is_critical or extension in critical)
    digest = None if isinstance(signing_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Person(key, builder.sign(signing_key, digest))


def make_authority(name="authority", *, key=None, issuer=None, path_length=None, **options):
    key = key or p256_key(sum(name.encode()))
    return make_person(
        name,
        key=key,
        issuer=issuer,
        extensions=(
            x509.BasicConstraints(ca=True, path_length=path_length),
            key_usage(key_cert_sign=True, crl_sign=True),
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        ),
        **options,
    )


def make_member(authority, name="bob", *, uris=("spiffe://acme.example/web",), **options):
    """Somebody for whom an authority vouches."""
    extensions = options.pop("extensions", (key_usage(digital_signature=True),))
    return make_person(name, issuer=authority, uris=uris, extensions=extensions, **options)


def key_usage(*, digital_signature=False, key_cert_sign=False, crl_sign=False):
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_crl(authority, serials, *, begins=-DAY, ends=7 * DAY, extensions=(), key=None):
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(START + dt.timedelta(seconds=begins))
        .next_update(START + dt.timedelta(seconds=ends))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(
            entry.revocation_date(START - dt.timedelta(seconds=60)).build()
        )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    signed = builder.sign(key or authority.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def write(folder, name, content, *, mode=0o644):
    """A file that the store may read; a new one each time, as editors and installers do it."""
    path = folder / name
    new = folder / f".{name}.new"
    new.write_bytes(content)
    new.chmod(mode)
    new.replace(path)
    return path


def pin(folder, *people):
    """Put people's certificates into a folder, by name."""
    for number, person in enumerate(people):
        write(folder, f"{number}-{person.fingerprint.hex()[:8]}.pem", person.pem)
    return folder


def draft(number=0, *, kind=Kind.TASK, **changes):
    """Something to sign."""
    usual = Draft(
        kind=kind,
        task="shop.orders.pay",
        id=f"task-{number}",
        audience=("q:celery",),
        codec=JSON,
        body=BODY,
        root=f"task-{number}",
        retries=0,
        max_retries=3,
    )
    if kind is Kind.RESULT:
        usual = usual._replace(request=bytes(32))
    return usual._replace(**changes)


def digest_of(frame):
    """What an answer to a message names: SHA-256 of its claims."""
    return hashlib.sha256(parse_frame(frame).claims).digest()


def make_gate(folder, clock, *, domain=DOMAIN, accept=("auth",), **options):
    """A gate that trusts everybody who is pinned in a folder."""
    trust = TrustStore(pins=[folder], clock=clock)
    return Gate(domain=domain, trust=trust, accept=accept, clock=clock, **options)
