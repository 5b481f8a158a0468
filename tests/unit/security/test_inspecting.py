"""What is in files, and what Cardoon makes of it: public facts only."""

from __future__ import annotations

from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from cardoon.security.chains import Anchor
from cardoon.security.inspecting import Inspector
from cardoon.security.issuing import Subject, encode_key, make_request
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import (
    DAY,
    ed25519_key,
    make_authority,
    make_crl,
    make_member,
    make_person,
    pin,
    rsa_key,
    write,
)

AUTHORITY = make_authority()
ALICE = make_person("alice")
BOB = make_member(AUTHORITY, "bob", uris=("spiffe://acme.example/bob",))


@pytest.fixture
def inspect(tmp_path):
    """Inspect contents with the eyes of a store that pins Alice and trusts the authority."""
    clock = FakeClock()
    pins = tmp_path / "pins"
    pins.mkdir()
    gone = make_person("gone")
    denied = write(tmp_path, "revoked.txt", f"sha256:{gone.fingerprint.hex()}".encode())
    open_store = partial(
        TrustStore,
        pins=[pin(pins, ALICE, gone)],
        anchors={"acme.example": write(tmp_path, "ca.pem", AUTHORITY.pem)},
        revoked=[denied],
        clock=clock,
    )
    anchors = [Anchor("acme.example", AUTHORITY.certificate)]
    inspector = Inspector(open_store, anchors, now=clock.now())

    def look(*contents, mode=0o600, password=None):
        path = write(tmp_path, "a.pem", b"".join(contents), mode=mode)
        return inspector.inspect(path, password)

    return look


@pytest.mark.parametrize(
    ("content", "verdict", "is_refused"),
    [
        (ALICE.pem, "trusted: pinned", False),
        (BOB.pem, "trusted by its authority, if it comes along", False),
        (AUTHORITY.pem, "an authority that is trusted for acme.example", False),
        (make_person("eve").pem, "refused: unknown-signer", True),
        (make_person("gone").pem, "refused: certificate-revoked", True),
        (make_member(AUTHORITY, "late", ends=-1).pem, "refused: certificate-expired", True),
        (
            make_member(AUTHORITY, "far", uris=("spiffe://other.example/web",)).pem,
            "no anchor answers for trust domain other.example",
            True,
        ),
        (
            make_member(
                AUTHORITY,
                "server",
                extensions=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),),
            ).pem,
            "its extended key usage is not clientAuth",
            True,
        ),
        (make_person("weak", key=rsa_key(1024)).pem, "RSA of 1024 bits", True),
    ],
)
def test_a_certificate_is_judged_as_for_a_message(inspect, content, verdict, is_refused):
    [found] = inspect(content)

    assert found.kind == "certificate"
    assert verdict in found.verdict
    assert found.is_refused is is_refused


def test_a_chain_is_judged_with_what_follows(inspect):
    between = make_authority("between", issuer=AUTHORITY)
    carol = make_member(between, "carol")

    first, second = inspect(carol.pem, between.pem)
    [alone] = inspect(carol.pem)

    assert "trusted by its authority" in first.verdict
    assert "an authority's, which must not sign messages" in second.verdict
    assert alone.is_refused


def test_the_facts_of_a_certificate_are_told(inspect):
    [found] = inspect(make_member(AUTHORITY, "bob", ends=5 * DAY).pem)

    facts = found.facts
    assert facts["name"] == "spiffe://acme.example/web"
    assert facts["subject"] == "CN=bob"
    assert facts["issuer"] == "CN=authority"
    assert facts["uris"] == ["spiffe://acme.example/web"]
    assert facts["key"] == "Ed25519"
    assert facts["authority"] is False
    assert facts["key_usage"] == ["digitalSignature"]
    assert facts["valid_until"] == "2023-11-19T22:13:20Z"
    assert (facts["seconds_left"], facts["state"]) == (5 * DAY, "ok")
    assert facts["fingerprint"].startswith("sha256:")


def test_of_a_key_only_public_facts_are_told(inspect):
    key = ed25519_key(9)
    secret = key.private_bytes_raw()

    [plain] = inspect(encode_key(key))
    [closed] = inspect(encode_key(key, b"pass"))
    [opened] = inspect(encode_key(key, b"pass"), password=b"pass")
    [wrong] = inspect(encode_key(key, b"pass"), password=b"guess")
    [exposed] = inspect(encode_key(key), mode=0o644)

    assert [one.verdict for one in (plain, opened)] == ["good", "good"]
    assert closed.verdict == "not opened: no password was given"
    assert closed.facts == {"encrypted": True}
    assert wrong.verdict == "refused: cannot be read"
    assert "chmod 600" in exposed.verdict
    assert exposed.is_refused
    for one in (plain, closed, opened, wrong, exposed):
        assert secret.hex() not in repr(one)
        assert repr(secret)[2:-1] not in repr(one)


def test_a_request_says_whether_its_maker_holds_the_key(inspect):
    asked = make_request(ed25519_key(9), Subject("web", "web", None))

    [found] = inspect(asked)

    assert (found.kind, found.facts) == (
        "certificate request",
        {"subject": "CN=web", "key": "Ed25519"},
    )
    assert found.verdict == "its maker holds the key"


def test_a_public_key_is_told(inspect):
    key = ed25519_key(9).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo

    [found] = inspect(key.public_bytes(serialization.Encoding.PEM, form))

    assert (found.kind, found.verdict, found.facts) == ("public key", "good", {"key": "Ed25519"})


@pytest.mark.parametrize(
    ("content", "verdict", "is_refused"),
    [
        (make_crl(AUTHORITY, [5, 6]), "good", False),
        (make_crl(AUTHORITY, [5, 6], ends=-1), "out of date", True),
        (make_crl(make_authority("other"), [5, 6]), "not signed by any", True),
    ],
)
def test_a_revocation_list_says_how_long_it_is_good(inspect, content, verdict, is_refused):
    [found] = inspect(content)

    assert found.kind == "revocation list"
    assert found.facts["entries"] == 2
    assert verdict in found.verdict
    assert found.is_refused is is_refused


def test_a_deny_list_is_counted(inspect):
    lines = f"sha256:{'0' * 64}\nsha256:{'1' * 64} from 2026-12-08T09:00:00Z\nspiffe://a/b\n"

    [found] = inspect(lines.encode())

    assert found.kind == "deny-list"
    assert found.facts == {"fingerprints": 1, "names": ["spiffe://a/b"], "later": 1}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"alice\n", "text file"),
        (b"\x30\x82\xff", "binary file"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "revocation list"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "public key"),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "certificate request",
        ),
        (b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", "dh parameters"),
    ],
)
def test_what_cannot_be_read_is_said_and_raises_nothing(inspect, content, kind):
    [found] = inspect(content)

    assert found.kind == kind
    assert found.is_refused


def test_a_file_that_others_may_write_is_shown_and_refused(inspect):
    [found] = inspect(ALICE.pem, mode=0o666)

    assert found.facts["name"] == "CN=alice"
    assert "chmod go-w" in found.verdict
    assert found.is_refused


def test_where_nobody_is_trusted_nobody_is_judged(tmp_path):
    path = write(tmp_path, "a.pem", ALICE.pem)

    [found] = Inspector(None, [], now=FakeClock().now()).inspect(path)

    assert found.verdict == "not judged: nobody is trusted here"
