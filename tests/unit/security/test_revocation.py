"""Deny-lists and revocation lists."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cardoon.exceptions import SecurityError
from cardoon.security.identity import identify
from cardoon.security.revocation import DenyList, Revocations, SerialList, parse_list
from tests.security.actors import (
    DAY,
    START,
    ed25519_key,
    make_authority,
    make_crl,
    make_member,
    make_person,
    p256_key,
)

PATH = Path("revoked.txt")
AUTHORITY = make_authority()
ALICE = make_member(AUTHORITY, "alice", uris=("spiffe://acme.example/alice",))
BOB = make_member(AUTHORITY, "bob", uris=("spiffe://acme.example/bob",))


def parse(content):
    return parse_list(PATH, content, [AUTHORITY.certificate])


def is_revoked(revocations, *chain):
    certificates = [person.certificate for person in chain]
    return revocations.is_revoked(identify(certificates[0]), certificates)


def test_a_deny_list_names_fingerprints_and_spiffe_ids():
    found = parse(
        f"""
        # stolen laptop
        sha256:{ALICE.fingerprint.hex()}   # ticket 4711
        SHA256
        """.replace("SHA256", f"sha256:{BOB.fingerprint.hex().upper()}").encode()
        + b"spiffe://acme.example/web\r\n"
    )

    assert found == DenyList(
        frozenset({ALICE.fingerprint, BOB.fingerprint}), frozenset({"spiffe://acme.example/web"})
    )


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nobody\n"])
def test_a_deny_list_may_be_empty(content):
    assert parse(content) == DenyList(frozenset(), frozenset())


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "sha256:1234",
        "sha256:" + "g" * 64,
        "sha1:" + "0" * 40,
        "0" * 64,
        "spiffe://acme.example",
        "spiffe://acme.example/*",
        "sha256:" + "0" * 64 + " spiffe://acme.example/web",
        "sha256:" + "0" * 64 + " from",
        "sha256:" + "0" * 64 + " from tomorrow",
        "sha256:" + "0" * 64 + " from 2026-12-08T09:00:00",
        "sha256:" + "0" * 64 + " from 2026-12-08T09:00:00Z now",
        "from 2026-12-08T09:00:00Z",
    ],
)
def test_a_line_that_is_not_understood_is_refused_by_number(line):
    with pytest.raises(SecurityError, match=r"revoked.txt, line 2: neither"):
        parse(f"# first\n{line}\n".encode())


def test_a_line_may_say_from_when_on_and_the_earliest_counts():
    later, sooner = "2026-12-08T09:00:00Z", "2026-12-08T09:00:00+01:00"
    alice = f"sha256:{ALICE.fingerprint.hex()}"
    lines = (
        f"{alice} from {later} # why\n{alice} from {sooner}\nspiffe://acme.example/bob from {later}"
    )
    denied = parse(lines.encode())
    revocations = Revocations([denied, denied])

    assert denied.fingerprints == denied.names == frozenset()
    assert not is_revoked(revocations, ALICE)
    assert revocations.revoked_from(identify(ALICE.certificate)) == 1796716800
    assert revocations.revoked_from(identify(BOB.certificate)) == 1796720400
    assert revocations.revoked_from(identify(make_person("eve").certificate)) == math.inf


def test_a_deny_list_is_text():
    with pytest.raises(SecurityError, match="not text in UTF-8"):
        parse(b"\xff")


def test_who_is_denied_is_revoked():
    by_fingerprint = Revocations([DenyList(frozenset({ALICE.fingerprint}), frozenset())])
    by_name = Revocations([DenyList(frozenset(), frozenset({"spiffe://acme.example/alice"}))])

    for revocations in (by_fingerprint, by_name):
        assert is_revoked(revocations, ALICE)
        assert not is_revoked(revocations, BOB)
        assert revocations.known_until([ALICE.certificate]) == math.inf


def test_who_is_on_the_list_of_the_authority_is_revoked():
    revocations = Revocations([parse(make_crl(AUTHORITY, [ALICE.certificate.serial_number]))])

    assert is_revoked(revocations, ALICE, AUTHORITY)
    assert not is_revoked(revocations, BOB, AUTHORITY)


def test_an_intermediate_authority_on_the_list_takes_its_members_along():
    between = make_authority("between", issuer=AUTHORITY)
    carol = make_member(between, "carol")
    revocations = Revocations([parse(make_crl(AUTHORITY, [between.certificate.serial_number]))])

    assert is_revoked(revocations, carol, between, AUTHORITY)


def test_a_serial_number_says_nothing_about_another_authority():
    other = make_authority("other")
    same_number = make_member(other, "dave", serial=ALICE.certificate.serial_number)
    revocations = Revocations([parse(make_crl(AUTHORITY, [ALICE.certificate.serial_number]))])

    assert not is_revoked(revocations, same_number, other)


def test_what_is_known_ends_with_the_list():
    revocations = Revocations([parse(make_crl(AUTHORITY, [], ends=7 * DAY))])

    assert revocations.known_until([BOB.certificate]) == START.timestamp() + 7 * DAY
    assert revocations.known_until([make_person("eve").certificate]) == math.inf
    assert revocations.known_until([]) == math.inf


def test_several_lists_add_up_and_the_newest_counts():
    first = parse(make_crl(AUTHORITY, [1], ends=DAY))
    second = parse(make_crl(AUTHORITY, [2], ends=2 * DAY))

    revocations = Revocations([second, first, DenyList(frozenset(), frozenset())])

    for serial in (1, 2):
        assert is_revoked(revocations, make_member(AUTHORITY, "frank", serial=serial))
    assert revocations.known_until([BOB.certificate]) == START.timestamp() + 2 * DAY


def test_a_list_is_read_as_a_set_of_serial_numbers():
    issuer = AUTHORITY.certificate.subject.public_bytes()

    assert parse(make_crl(AUTHORITY, [1, 2], ends=DAY)) == SerialList(
        issuer, frozenset({1, 2}), START.timestamp() + DAY
    )


def test_a_list_that_no_anchor_signed_is_refused():
    impostor = make_authority("authority", key=p256_key(99))
    stranger = make_authority("stranger")

    for signer in (impostor, stranger):
        with pytest.raises(SecurityError, match="not signed by any of security_ca_certificates"):
            parse(make_crl(signer, [1]))


def test_a_list_by_an_anchor_that_could_not_vouch_is_refused():
    # The verifier of chains takes no Ed25519 authorities, so none may revoke.
    authority = make_authority("edward", key=ed25519_key(7))
    numbers = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    numbers = numbers.last_update(START).next_update(START.replace(year=START.year + 1))
    content = numbers.sign(authority.key, None).public_bytes(serialization.Encoding.PEM)

    with pytest.raises(SecurityError, match="not signed by any"):
        parse_list(PATH, content, [authority.certificate])


def test_a_part_of_a_list_is_refused():
    content = make_crl(AUTHORITY, [1], extensions=[x509.DeltaCRLIndicator(5)])

    with pytest.raises(SecurityError, match="only a part of a revocation list"):
        parse(content)


def der(tag, content):
    """One value in DER, of less than 256 bytes."""
    size = len(content)
    return bytes([tag, size] if size < 128 else [tag, 0x81, size]) + content


def test_a_list_that_does_not_say_when_it_ends_is_refused():
    known = x509.load_pem_x509_crl(make_crl(AUTHORITY, [1]))
    moments = [
        b"\x17\x0d" + moment.strftime("%y%m%d%H%M%SZ").encode()
        for moment in (known.last_update_utc, known.next_update_utc)
    ]
    with_end = known.tbs_certlist_bytes
    content = with_end[3 if with_end[1] == 0x81 else 2 :]
    to_sign = der(0x30, content.replace(b"".join(moments), moments[0]))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    signature = AUTHORITY.key.sign(to_sign, ec.ECDSA(hashes.SHA256()))
    endless = der(0x30, to_sign + algorithm + der(0x03, b"\x00" + signature))
    assert x509.load_der_x509_crl(endless).next_update_utc is None

    with pytest.raises(SecurityError, match="does not say when the next list comes"):
        parse(x509.load_der_x509_crl(endless).public_bytes(serialization.Encoding.PEM))


def test_a_broken_list_is_refused():
    content = make_crl(AUTHORITY, [1]).replace(b"M", b"N")

    with pytest.raises(SecurityError, match=r"no revocation list in PEM form|not signed"):
        parse(content)
