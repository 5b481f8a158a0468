"""Somebody with a certificate tries to mint others, or to use one that is for something else."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import envelope
from cardoon.message.protocol import Kind
from cardoon.security.chains import MAX_INTERMEDIATES, SIGNER_USAGE
from cardoon.security.gate import Gate
from cardoon.security.signing import MessageSigner
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import (
    DAY,
    DOMAIN,
    draft,
    ed25519_key,
    key_usage,
    make_authority,
    make_crl,
    make_member,
    make_person,
    p256_key,
    pin,
    write,
)

AUTHORITY = make_authority()
LEAF = x509.BasicConstraints(ca=False, path_length=None)
SIGNS = key_usage(digital_signature=True)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def anchored(tmp_path, clock):
    return TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)


def send(store, clock, person, *chain):
    """What the gate says to a message by somebody who sends their certificates along."""
    gate = Gate(domain=DOMAIN, trust=store, accept=["auth"], clock=clock)
    private = person.private(chain=[each.der for each in chain])
    signer = MessageSigner(private, domain=DOMAIN, clock=clock, send_chain=True)
    [signed] = signer.sign([draft()])
    try:
        return gate.open(signed.frame, kind=Kind.TASK).signer
    except RefusedError as error:
        return error.reason


def test_a_pinned_authority_signs_for_itself_and_is_no_anchor(tmp_path, clock):
    """`openssl req -x509` makes certificates that say CA:TRUE; each client may hold such a key."""
    client = make_authority("client")
    store = TrustStore(pins=[pin(tmp_path, client)], clock=clock)
    minted = make_member(client, "minted")

    assert send(store, clock, client).name == "CN=client"
    assert send(store, clock, minted, client) is Refusal.UNKNOWN_SIGNER


def test_a_pin_does_not_become_an_anchor_beside_other_anchors(tmp_path, clock):
    client = make_authority("client")
    store = TrustStore(
        pins=[pin(tmp_path, client)],
        anchors=[write(tmp_path, "ca.crt", AUTHORITY.pem)],
        clock=clock,
    )
    minted = make_member(client, "minted")

    assert send(store, clock, minted, client) is Refusal.UNKNOWN_SIGNER


def test_a_member_cannot_vouch_for_others(anchored, clock):
    member = make_member(AUTHORITY, "member", key=p256_key(5))
    minted = make_member(member, "minted")

    assert send(anchored, clock, member).name == "spiffe://acme.example/web"
    assert send(anchored, clock, minted, member) is Refusal.UNKNOWN_SIGNER


def test_a_self_signed_certificate_that_is_sent_along_proves_nothing(anchored, clock):
    impostor = make_authority("authority", key=p256_key(99))
    minted = make_member(impostor, "minted")

    assert send(anchored, clock, impostor) is Refusal.UNKNOWN_SIGNER
    assert send(anchored, clock, minted, impostor) is Refusal.UNKNOWN_SIGNER


def test_an_anchor_does_not_sign_messages_itself(anchored, clock):
    assert send(anchored, clock, AUTHORITY) is Refusal.UNKNOWN_SIGNER


@pytest.mark.parametrize(
    ("uris", "name"),
    [
        (("spiffe://acme.example/web",), "spiffe://acme.example/web"),
        ((), "CN=mallory"),
        (("spiffe://acme.example/web", "spiffe://acme.example/ops"), None),
        (("spiffe://acme.example/web", "https://acme.example"), None),
        (("https://acme.example",), None),
        (("spiffe://acme.example",), None),
        (("spiffe://acme.example/../ops",), None),
    ],
)
def test_a_member_has_one_name_or_none(anchored, clock, uris, name):
    sent = send(anchored, clock, make_member(AUTHORITY, "mallory", uris=uris))

    assert (sent.name if name else sent) == (name or Refusal.UNKNOWN_SIGNER)


@pytest.mark.parametrize(
    ("extensions", "accepted"),
    [
        ([], True),
        ([SIGNS], True),
        ([LEAF, SIGNS], True),
        ([x509.ExtendedKeyUsage([SIGNER_USAGE])], True),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])], True),
        (
            [
                x509.ExtendedKeyUsage(
                    [
                        ExtendedKeyUsageOID.SERVER_AUTH,
                        ExtendedKeyUsageOID.CLIENT_AUTH,
                    ]
                )
            ],
            True,
        ),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])], False),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])], False),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])], False),
        ([key_usage(key_cert_sign=True)], False),
        ([x509.BasicConstraints(ca=True, path_length=None), SIGNS], False),
    ],
)
def test_a_member_signs_only_with_a_certificate_to_sign_with(anchored, clock, extensions, accepted):
    sent = send(anchored, clock, make_member(AUTHORITY, "member", extensions=extensions))

    assert (sent is not Refusal.UNKNOWN_SIGNER) is accepted


def test_a_critical_extension_that_nobody_knows_is_not_passed_over(anchored, clock):
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1234"), b"\x05\x00")
    member = make_member(AUTHORITY, "member", extensions=[SIGNS], critical=[unknown])

    assert send(anchored, clock, member) is Refusal.UNKNOWN_SIGNER


def test_a_chain_has_an_end(anchored, clock):
    chain = [make_authority("between 0", issuer=AUTHORITY)]
    for number in range(1, MAX_INTERMEDIATES + 1):
        chain.insert(0, make_authority(f"between {number}", issuer=chain[0]))
    member = make_member(chain[1], "member")
    distant = make_member(chain[0], "distant")

    assert send(anchored, clock, member, *chain[1:]).name == "spiffe://acme.example/web"
    assert send(anchored, clock, distant, *chain) is Refusal.UNKNOWN_SIGNER


def test_an_authority_may_not_vouch_for_authorities_if_it_must_not(tmp_path, clock):
    short = make_authority("short", path_length=0)
    between = make_authority("between", issuer=short)
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", short.pem)], clock=clock)

    assert send(store, clock, make_member(short, "near")).name
    distant = make_member(between, "distant")
    assert send(store, clock, distant, between) is Refusal.UNKNOWN_SIGNER


@pytest.mark.parametrize("garbage", [b"", b"garbage", AUTHORITY.der[:-1], AUTHORITY.der + b"\x00"])
def test_garbage_among_the_certificates_is_refused(anchored, garbage):
    member = make_member(AUTHORITY, "member")
    header = envelope.protected_header(-19, member.fingerprint, batch=False)

    with pytest.raises(RefusedError) as refused:
        anchored.resolve(header, [member.der, garbage])

    assert refused.value.reason is Refusal.UNKNOWN_SIGNER


def test_a_certificate_of_which_the_library_only_warns_is_refused(anchored):
    # Warnings are errors in these tests, and may be in a worker.
    number = 0x0102030405060708
    member = make_member(AUTHORITY, "member", serial=number)
    negative = member.der.replace(number.to_bytes(8, "big"), b"\xff" + bytes(7))
    header = envelope.protected_header(-19, hashlib.sha256(negative).digest(), batch=False)

    for chain in ([negative], [member.der, negative]):
        with pytest.raises(RefusedError) as refused:
            anchored.resolve(header, chain)
        assert refused.value.reason is Refusal.UNKNOWN_SIGNER


def test_what_a_refused_certificate_says_is_fit_for_a_log(anchored, clock):
    stranger = make_person("\x1b[31m\n" * 5, key=ed25519_key(3))
    header = envelope.protected_header(-19, stranger.fingerprint, batch=False)

    with pytest.raises(RefusedError) as refused:
        anchored.resolve(header, [stranger.der])

    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) <= 200


def test_expired_and_revoked_members_are_told_apart(tmp_path, clock):
    expired = make_member(AUTHORITY, "old", ends=-1)
    early = make_member(AUTHORITY, "early", begins=2 * DAY)
    revoked = make_member(AUTHORITY, "bad")
    store = TrustStore(
        anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)],
        revoked=[
            write(tmp_path, "crl.pem", make_crl(AUTHORITY, [revoked.certificate.serial_number]))
        ],
        clock=clock,
    )

    def refusal_of(person):
        header = envelope.protected_header(-19, person.fingerprint, batch=False)
        with pytest.raises(RefusedError) as refused:
            store.resolve(header, [person.der])
        return refused.value.reason

    assert refusal_of(expired) is Refusal.CERTIFICATE_EXPIRED
    assert refusal_of(early) is Refusal.CERTIFICATE_NOT_YET_VALID
    assert refusal_of(revoked) is Refusal.REVOKED
