"""Keys, certificates and requests, before any of them is a file."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from cardoon.exceptions import SecurityError
from cardoon.security.authority import create_authority, load_authority
from cardoon.security.identity import find_uris, identify, load_certificate, load_key
from cardoon.security.issuing import (
    YEAR,
    KeyKind,
    Subject,
    encode_key,
    generate_key,
    kind_like,
    make_period,
    make_request,
    parse_subject,
    read_public_key,
    read_request,
    subject_of,
)
from cardoon.testing import FakeClock
from tests.security.actors import START, ed25519_key, make_person, p256_key, rsa_key

WEB = Subject("web", "web", "spiffe://acme.example/web")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def authority(tmp_path, clock):
    create_authority(tmp_path / "ca", "acme.example", clock=clock)
    return load_authority(tmp_path / "ca")


def public_pem(key):
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    ("kind", "type_", "size"),
    [
        (KeyKind.ED25519, ed25519.Ed25519PrivateKey, None),
        (KeyKind.P256, ec.EllipticCurvePrivateKey, 256),
        (KeyKind.RSA2048, rsa.RSAPrivateKey, 2048),
        (KeyKind.RSA3072, rsa.RSAPrivateKey, 3072),
    ],
)
def test_keys_of_each_kind_are_made_and_recognised(kind, type_, size):
    key = generate_key(kind)

    assert isinstance(key, type_)
    assert getattr(key, "key_size", None) == size
    assert kind_like(key.public_key()) is kind


def test_an_unusual_size_is_followed_by_a_larger_one():
    assert kind_like(rsa_key(2304).public_key()) is KeyKind.RSA4096


@pytest.mark.parametrize(
    ("text", "domain", "subject"),
    [
        ("web", "acme.example", WEB),
        ("web", None, Subject("web", "web", None)),
        ("spiffe://acme.example/web", "acme.example", WEB),
        (
            "spiffe://acme.example/ns/prod/sa/web-1",
            None,
            Subject("web-1", "web-1", "spiffe://acme.example/ns/prod/sa/web-1"),
        ),
        (
            "spiffe://acme.example/_x",
            None,
            Subject("identity-_x", "_x", "spiffe://acme.example/_x"),
        ),
    ],
)
def test_a_subject_is_a_role_or_a_spiffe_id(text, domain, subject):
    assert parse_subject(text, domain) == subject


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spiffe://other.example/web", "not of this authority's trust domain"),
        ("spiffe://acme.example", "no SPIFFE id"),
        ("spiffe://acme.example/../web", "no SPIFFE id"),
        ("../web", "use up to 63 letters"),
    ],
)
def test_a_subject_that_is_none_is_refused(text, said):
    with pytest.raises(SecurityError, match=said):
        parse_subject(text, "acme.example")


def test_the_longest_spiffe_id_gets_files_and_a_common_name():
    subject = parse_subject("spiffe://acme.example/" + "w" * 300)

    assert (len(subject.stem), len(subject.common_name)) == (63, 63)


def test_a_lifetime_ends_with_the_calendar_at_the_latest(clock):
    assert make_period(clock, YEAR).ends == START + dt.timedelta(days=365)
    assert make_period(clock, 1e13).ends.year == 9999
    with pytest.raises(SecurityError, match="more than 0 seconds"):
        make_period(clock, 0)


@pytest.mark.parametrize("key", [ed25519_key(3), p256_key(), rsa_key()])
def test_a_request_brings_the_key_and_proves_that_its_maker_holds_it(key):
    asked = make_request(key, WEB)

    assert read_request("web.csr", asked, WEB) == key.public_key()


def test_a_request_without_a_name_can_be_for_anybody():
    asked = make_request(ed25519_key(3), Subject("web", "web", None))

    assert read_request("web.csr", asked, WEB) == ed25519_key(3).public_key()


def test_a_request_for_somebody_else_is_a_mistake():
    asked = make_request(ed25519_key(3), parse_subject("spiffe://acme.example/api"))

    with pytest.raises(SecurityError, match=r"web.csr: asks for spiffe://acme.example/api, not"):
        read_request("web.csr", asked, WEB)


def test_a_request_that_was_changed_proves_nothing():
    asked = x509.load_pem_x509_csr(make_request(ed25519_key(3), WEB))
    broken = bytearray(asked.public_bytes(serialization.Encoding.DER))
    broken[-1] ^= 1
    changed = x509.load_der_x509_csr(bytes(broken)).public_bytes(serialization.Encoding.PEM)

    with pytest.raises(SecurityError, match="its signature is not by its key"):
        read_request("web.csr", changed, WEB)


@pytest.mark.parametrize("content", [b"", b"x" * 100, make_person("alice").pem, b"\xff\x00"])
def test_what_is_no_request_is_refused(content):
    with pytest.raises(SecurityError, match=r"web.csr: no certificate request"):
        read_request("web.csr", content, WEB)
    with pytest.raises(SecurityError, match=r"web.pub: no public key"):
        read_public_key("web.pub", content)


def test_a_weak_key_is_certified_for_nobody():
    """Also not when it comes with a proof: anybody could make one under a key of small order."""
    weak = rsa_key(1024)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")])
    )
    asked = builder.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    zero = ed25519.Ed25519PublicKey.from_public_bytes(bytes(31) + b"\x80")

    with pytest.raises(SecurityError, match="RSA of 1024 bits"):
        read_request("web.csr", asked, WEB)
    with pytest.raises(SecurityError, match="RSA of 1024 bits"):
        read_public_key("web.pub", public_pem(weak.public_key()))
    with pytest.raises(SecurityError, match="an Ed25519 key of small order"):
        read_public_key("web.pub", public_pem(zero))


def test_whatever_an_authority_signs_is_kept_beside_it(authority, clock):
    signed = authority.certify(WEB, ed25519_key(3).public_key(), clock=clock, lifetime=YEAR)

    [kept] = (authority.folder / "issued").iterdir()
    assert load_certificate(kept) == signed
    assert kept.name == f"web-{identify(signed).fingerprint.hex()[:16]}.pem"


def test_an_authority_that_cannot_keep_a_copy_signs_nothing(authority, clock):
    (authority.folder / "issued").write_bytes(b"")

    with pytest.raises(SecurityError, match="cannot be written"):
        authority.certify(WEB, ed25519_key(3).public_key(), clock=clock, lifetime=YEAR)


def test_an_authority_that_has_expired_signs_nothing(tmp_path, clock):
    create_authority(tmp_path / "old", "acme.example", clock=clock, lifetime=60)
    old = load_authority(tmp_path / "old")
    clock.advance(600)

    with pytest.raises(SecurityError, match="it has expired"):
        old.certify(WEB, ed25519_key(3).public_key(), clock=clock, lifetime=YEAR)


def test_an_authority_has_a_name_a_lifetime_and_a_password(tmp_path, clock):
    paths = create_authority(
        tmp_path,
        "acme.example",
        clock=clock,
        lifetime=2 * YEAR,
        name="Acme CA",
        password=b"secret",
    )

    certificate = load_certificate(paths.certificate)
    assert certificate.subject.rfc4514_string().startswith("CN=Acme CA ")
    assert certificate.not_valid_after_utc == START + dt.timedelta(days=730)
    assert find_uris(certificate) == ["spiffe://acme.example"]
    assert b"ENCRYPTED" in paths.key.read_bytes()
    assert load_authority(tmp_path, b"secret").certificate == certificate
    with pytest.raises(SecurityError, match="wrong password"):
        load_authority(tmp_path, b"guess")
    assert "secret" not in repr(load_authority(tmp_path, b"secret"))


@pytest.mark.parametrize("name", ["n" * 49, "Acme\nCA"])
def test_an_authority_with_a_bad_name_is_not_made(tmp_path, clock, name):
    with pytest.raises(SecurityError, match="printable characters"):
        create_authority(tmp_path / "ca", "acme.example", clock=clock, name=name)

    assert not (tmp_path / "ca").exists()


def test_an_authority_whose_key_is_another_one_signs_nothing(authority):
    key = authority.folder / "ca.key"
    key.write_bytes(encode_key(p256_key()))

    with pytest.raises(SecurityError, match="not the key of the certificate"):
        load_authority(authority.folder)


def test_a_key_is_encrypted_where_there_is_a_password(tmp_path):
    (tmp_path / "a.key").write_bytes(encode_key(ed25519_key(3), b"secret"))
    (tmp_path / "a.key").chmod(0o600)

    assert load_key(tmp_path / "a.key", "secret").public_key() == ed25519_key(3).public_key()
    with pytest.raises(SecurityError):
        load_key(tmp_path / "a.key")


def test_a_subject_can_be_read_back(authority, clock):
    signed = authority.certify(WEB, ed25519_key(3).public_key(), clock=clock, lifetime=YEAR)

    assert subject_of(signed, "web") == WEB
    assert subject_of(make_person("alice").certificate, "a") == Subject("a", "alice", None)
    two = make_person("eve", uris=("spiffe://a/b", "spiffe://a/c"))
    with pytest.raises(SecurityError, match="one SPIFFE id at most"):
        subject_of(two.certificate, "eve")
