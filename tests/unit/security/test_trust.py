"""The trust store: who is in it, and how it follows its files."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
import pathlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed448

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message import envelope
from cardoon.security import snapshot
from cardoon.security.identity import identify
from cardoon.security.keys import Algorithm
from cardoon.security.trust import TrustEvent, TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import (
    DAY,
    make_authority,
    make_crl,
    make_member,
    make_person,
    p256_key,
    pin,
    rsa_key,
    write,
)

ALICE = make_person("alice")
BOB = make_person("bob")
AUTHORITY = make_authority()
CAROL = make_member(AUTHORITY, "carol", uris=("spiffe://acme.example/carol",))


class Events(list):
    """Hears what a store has to say."""

    def __call__(self, event, detail):
        self.append((event, detail))

    @property
    def kinds(self):
        return [event for event, _ in self]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "trusted"
    path.mkdir()
    return path


def header(person, *, algorithm=Algorithm.ED25519, batch=False):
    return envelope.protected_header(algorithm, person.fingerprint, batch=batch)


def find(store, person, *chain, **options):
    return store.resolve(header(person, **options), [each.der for each in chain])


def refusal_of(store, person, *chain, **options):
    with pytest.raises(RefusedError) as refused:
        find(store, person, *chain, **options)
    return refused.value.reason


def is_trusted(store, person, *chain):
    try:
        find(store, person, *chain)
    except RefusedError:
        return False
    return True


def test_whoever_is_pinned_is_known_in_both_forms(folder, clock):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock)

    single, batch = find(store, ALICE), find(store, ALICE, batch=True)

    assert single.identity == batch.identity == identify(ALICE.certificate)
    assert (single.is_batch, batch.is_batch) == (False, True)


def test_nobody_else_is_known(folder, clock):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock)

    with pytest.raises(RefusedError, match=f"no certificate sha256:{BOB.fingerprint.hex()}"):
        find(store, BOB)


@pytest.mark.parametrize("protected", [b"", b"\xa0", bytes(38), b"\x04\x58\x20" + bytes(31)])
def test_a_header_that_nobody_has_is_refused(folder, clock, protected):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock)

    with pytest.raises(RefusedError, match="names no certificate"):
        store.resolve(protected, [])


@pytest.mark.parametrize("algorithm", sorted(set(Algorithm) - {Algorithm.ED25519}))
def test_a_key_has_no_other_algorithm(folder, clock, algorithm):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock)

    assert refusal_of(store, ALICE, algorithm=algorithm) is Refusal.UNKNOWN_SIGNER


def test_an_rsa_key_may_sign_with_each_digest(folder, clock):
    person = make_person(key=rsa_key())
    store = TrustStore(pins=[pin(folder, person)], clock=clock)

    for algorithm in (Algorithm.PS256, Algorithm.PS384, Algorithm.PS512):
        assert find(store, person, algorithm=algorithm)


@pytest.mark.parametrize("pattern", ["{}", "{}/*.pem", "{}/0-*.pem", "{}/[0-9]*"])
def test_pins_are_folders_files_or_patterns(folder, clock, pattern):
    pin(folder, ALICE)

    assert find(TrustStore(pins=[pattern.format(folder)], clock=clock), ALICE)
    [path] = folder.iterdir()
    assert find(TrustStore(pins=[path], clock=clock), ALICE)


def test_a_folder_may_have_a_name_that_looks_like_a_pattern(tmp_path, clock):
    folder = tmp_path / "pins [prod]"
    folder.mkdir()

    assert find(TrustStore(pins=[pin(folder, ALICE)], clock=clock), ALICE)


def test_a_folder_holds_certificates_and_other_files(folder, clock, events):
    write(folder, "a.pem", ALICE.pem)
    write(folder, "b.crt", BOB.pem)
    write(folder, "README", b"nothing to see")
    write(folder, "a.key", b"a key")

    store = TrustStore(pins=[folder], clock=clock, on_event=events)

    assert find(store, ALICE)
    assert find(store, BOB)
    assert events == []


def test_a_store_of_nobody_is_refused(folder, clock):
    with pytest.raises(SecurityError, match="no usable certificate; put those of your senders"):
        TrustStore(pins=[folder], clock=clock)


def test_a_store_of_nobody_may_be_wanted(folder, clock):
    store = TrustStore(pins=[folder], clock=clock, allow_empty=True)

    assert refusal_of(store, ALICE) is Refusal.UNKNOWN_SIGNER


def test_a_store_of_broken_files_says_what_is_wrong(folder, clock):
    write(folder, "alice.pem", b"garbage")

    with pytest.raises(SecurityError, match=r"no usable certificate \(.*alice.pem: no certificate"):
        TrustStore(pins=[folder], clock=clock)


def broken(person, part, *, by=None):
    """A certificate in which a part is no longer what it should be; the rest can be read."""
    damaged = person.der.replace(part, by or b"\xff" * len(part))
    assert damaged != person.der
    return pem_of(damaged)


def pem_of(der):
    encoded = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + encoded + b"-----END CERTIFICATE-----\n"


BAD_FILES = {
    "garbage": b"garbage",
    "two": ALICE.pem + BOB.pem,
    "weak": make_person(key=rsa_key(1024)).pem,
    "other": make_person(
        public_key=ed448.Ed448PrivateKey.from_private_bytes(bytes(57)).public_key()
    ).pem,
    "empty": b"",
    "broken name": broken(make_person("eve", uris=("spiffe://acme.example/eve",)), b"spiffe://"),
    "broken key": broken(ALICE, b"\x2b\x65\x70"),
    "unknown key": broken(ALICE, b"\x2b\x65\x70", by=b"\x2b\x65\x7f"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_skipped_and_reported(folder, clock, events, name):
    pin(folder, ALICE)
    path = write(folder, f"{name}.pem", BAD_FILES[name])

    store = TrustStore(pins=[folder], clock=clock, on_event=events)

    assert find(store, ALICE)
    [(event, detail)] = events
    assert event is TrustEvent.FILE_SKIPPED
    assert detail.count(str(path)) == 1


def test_a_certificate_whose_issuer_is_unreadable_is_skipped_and_reported(folder, clock, events):
    """It loads, and only who asks for its issuer finds out."""
    broken = ALICE.der.replace(b"\x0c\x05alice", b"\xbb\x05alice", 1)
    pem = base64.encodebytes(broken).decode()
    text = f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n"
    assert x509.load_pem_x509_certificate(text.encode()).subject == ALICE.certificate.subject
    write(folder, "broken.pem", text.encode())
    pin(folder, BOB)

    store = TrustStore(pins=[folder], clock=clock, on_event=events)

    assert events.kinds == [TrustEvent.FILE_SKIPPED]
    assert store.describe() == "1 pins and 0 anchors"


def test_a_file_that_others_may_write_is_skipped_and_reported(folder, clock, events):
    pin(folder, ALICE)
    write(folder, "bob.pem", BOB.pem, mode=0o664)

    store = TrustStore(pins=[folder], clock=clock, on_event=events)

    assert refusal_of(store, BOB) is Refusal.UNKNOWN_SIGNER
    assert "chmod go-w" in events[0][1]


@pytest.mark.parametrize("pattern", ["{}", "{}/*.pem"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_no_store(folder, clock, pattern, mode):
    pin(folder, ALICE).chmod(mode)

    with pytest.raises(SecurityError, match="others may write into this directory"):
        TrustStore(pins=[pattern.format(folder)], clock=clock)


def test_a_folder_that_cannot_be_listed_is_no_store(folder, clock, monkeypatch):
    # Patched, because root may list everything, and tests may run as root.
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    pin(folder, ALICE)
    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)

    with pytest.raises(SecurityError, match="trusted: cannot be listed: Permission denied"):
        TrustStore(pins=[folder], clock=clock)


def test_there_are_only_so_many_pins(folder, clock, monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_PINS", 1)
    TrustStore(pins=[pin(folder, ALICE)], clock=clock)

    with pytest.raises(SecurityError, match="2 files; at most 1"):
        TrustStore(pins=[pin(folder, ALICE, BOB)], clock=clock)


def test_a_new_signer_is_found_at_once(folder, clock, events):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock, on_event=events)
    pin(folder, ALICE, BOB)

    assert find(store, BOB)
    assert events.kinds == [TrustEvent.RELOADED]
    assert events[0][1] == "2 pins and 0 anchors"


def test_unknown_signers_make_us_look_once_a_second(folder, clock):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock)
    assert refusal_of(store, BOB) is Refusal.UNKNOWN_SIGNER
    pin(folder, ALICE, BOB)

    assert refusal_of(store, BOB) is Refusal.UNKNOWN_SIGNER
    clock.advance(1)
    assert find(store, BOB)


def test_whoever_is_removed_is_forgotten_within_five_seconds(folder, clock, events):
    store = TrustStore(pins=[pin(folder, ALICE, BOB)], clock=clock, on_event=events)
    for path in folder.glob("1-*"):
        path.unlink()

    clock.advance(4.9)
    assert find(store, BOB)
    clock.advance(0.1)
    assert refusal_of(store, BOB) is Refusal.UNKNOWN_SIGNER
    assert find(store, ALICE)
    assert events.kinds == [TrustEvent.RELOADED]


def test_nothing_is_reported_while_nothing_changes(folder, clock, events):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock, on_event=events)

    for _ in range(5):
        clock.advance(60)
        assert find(store, ALICE)

    assert events == []


def test_a_change_for_the_worse_keeps_what_there_was(folder, clock, events):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock, on_event=events)
    folder.chmod(0o777)

    for _ in range(3):
        clock.advance(5)
        assert find(store, ALICE)

    assert events.kinds == [TrustEvent.RELOAD_REFUSED]
    assert "chmod go-w" in events[0][1]


def test_a_change_for_the_worse_can_be_mended(folder, clock, events):
    store = TrustStore(pins=[pin(folder, ALICE)], clock=clock, on_event=events)
    for path in folder.iterdir():
        path.unlink()
    clock.advance(5)
    assert find(store, ALICE)

    pin(folder, BOB)
    clock.advance(5)

    assert is_trusted(store, BOB)
    assert not is_trusted(store, ALICE)
    assert events.kinds == [TrustEvent.RELOAD_REFUSED, TrustEvent.RELOADED]


def test_a_certificate_counts_from_its_beginning_to_its_end(folder, clock):
    person = make_person("early", begins=100, ends=1000)
    store = TrustStore(pins=[pin(folder, person)], clock=clock, skew=60)

    clock.advance(39)
    assert refusal_of(store, person) is Refusal.CERTIFICATE_NOT_YET_VALID
    clock.advance(1)
    assert find(store, person)
    clock.advance(960)
    assert find(store, person)
    clock.advance(1)
    assert refusal_of(store, person) is Refusal.CERTIFICATE_EXPIRED


def test_whoever_an_anchor_vouches_for_is_known(tmp_path, clock):
    anchor = write(tmp_path, "ca.pem", AUTHORITY.pem)
    store = TrustStore(anchors=[anchor], clock=clock)

    assert refusal_of(store, CAROL) is Refusal.UNKNOWN_SIGNER
    first = find(store, CAROL, CAROL)

    assert first.identity.name == "spiffe://acme.example/carol"
    assert find(store, CAROL, batch=True).identity == first.identity, "known from now on"


def test_another_certificate_than_the_one_named_is_refused(tmp_path, clock):
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)

    assert refusal_of(store, ALICE, CAROL) is Refusal.UNKNOWN_SIGNER
    assert refusal_of(store, CAROL, CAROL, algorithm=Algorithm.ESP256) is Refusal.UNKNOWN_SIGNER


def test_a_certificate_that_cannot_be_read_is_refused(tmp_path, clock):
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)
    garbage = b"garbage"
    named = envelope.protected_header(-19, sha256(garbage), batch=False)

    with pytest.raises(RefusedError, match="its certificate is unreadable"):
        store.resolve(named, [garbage])


def sha256(content):
    return hashlib.sha256(content).digest()


def test_an_intermediate_authority_may_stand_between(tmp_path, clock):
    between = make_authority("between", issuer=AUTHORITY)
    dave = make_member(between, "dave")
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)

    assert refusal_of(store, dave, dave) is Refusal.UNKNOWN_SIGNER
    assert find(store, dave, dave, between)


def test_a_chain_ends_with_the_first_of_its_certificates(tmp_path, clock):
    between = make_authority("between", issuer=AUTHORITY, ends=1000)
    dave = make_member(between, "dave", ends=DAY)
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)
    assert find(store, dave, dave, between)

    clock.advance(1001)

    assert refusal_of(store, dave) is Refusal.CERTIFICATE_EXPIRED


def test_a_renewed_intermediate_is_taken_note_of(tmp_path, clock):
    between = make_authority("between", issuer=AUTHORITY, ends=1000)
    renewed = make_authority("between", issuer=AUTHORITY, ends=DAY)
    dave = make_member(between, "dave", ends=DAY)
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)
    find(store, dave, dave, between)
    clock.advance(1001)

    assert find(store, dave, dave, renewed)
    assert find(store, dave)


@pytest.mark.parametrize(
    ("begins", "ends", "reason"),
    [
        (61, DAY, Refusal.CERTIFICATE_NOT_YET_VALID),
        (60, DAY, None),
        (-DAY, 0, None),
        (-DAY, -1, Refusal.CERTIFICATE_EXPIRED),
    ],
)
def test_a_member_counts_from_its_beginning_to_its_end(tmp_path, clock, begins, ends, reason):
    dave = make_member(AUTHORITY, "dave", begins=begins, ends=ends)
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)

    if reason is None:
        assert find(store, dave, dave)
    else:
        assert refusal_of(store, dave, dave) is reason


def test_an_anchor_answers_only_for_its_trust_domain(tmp_path, clock):
    other = make_authority("other")
    anchors = {
        "acme.example": write(tmp_path, "acme.pem", AUTHORITY.pem),
        "spiffe://other.example": write(tmp_path, "other.pem", other.pem),
    }
    store = TrustStore(anchors=anchors, clock=clock)
    impostor = make_member(other, "mallory", uris=("spiffe://acme.example/carol",))
    honest = make_member(other, "olaf", uris=("spiffe://other.example/olaf",))
    stranger = make_member(other, "steve", uris=("spiffe://third.example/steve",))
    nameless = make_member(other, "nemo", uris=())

    assert is_trusted(store, CAROL, CAROL)
    assert is_trusted(store, honest, honest)
    assert not is_trusted(store, impostor, impostor)
    assert not is_trusted(store, stranger, stranger)
    assert not is_trusted(store, nameless, nameless)


def test_an_anchor_without_a_trust_domain_answers_for_all(tmp_path, clock):
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)
    nameless = make_member(AUTHORITY, "nemo", uris=())

    assert is_trusted(store, nameless, nameless)
    assert is_trusted(store, CAROL, CAROL)


@pytest.mark.parametrize(
    "pem",
    [
        ALICE.pem,
        make_person("eve", extensions=(x509.BasicConstraints(ca=False, path_length=None),)).pem,
        b"garbage",
        # basicConstraints with a boolean that is none
        broken(make_authority("broken"), b"\x30\x03\x01\x01\xff"),
    ],
)
def test_only_an_authority_is_an_anchor(tmp_path, clock, events, pem):
    good = write(tmp_path, "ca.pem", AUTHORITY.pem)
    bad = write(tmp_path, "bad.pem", pem)

    store = TrustStore(anchors=[good, bad], clock=clock, on_event=events)

    assert events.kinds == [TrustEvent.FILE_SKIPPED]
    assert str(bad) in events[0][1]
    assert is_trusted(store, CAROL, CAROL)


def test_a_new_anchor_is_found_at_once(tmp_path, clock):
    other = make_authority("other")
    olaf = make_member(other, "olaf")
    path = write(tmp_path, "ca.pem", AUTHORITY.pem)
    store = TrustStore(anchors=[path], clock=clock)

    write(tmp_path, "ca.pem", AUTHORITY.pem + other.pem)

    assert is_trusted(store, olaf, olaf)


def test_an_anchor_that_is_removed_takes_its_members_along(tmp_path, clock):
    path = write(tmp_path, "ca.pem", AUTHORITY.pem)
    store = TrustStore(anchors=[path], clock=clock)
    assert is_trusted(store, CAROL, CAROL)

    write(tmp_path, "ca.pem", make_authority("other").pem)
    clock.advance(5)

    assert not is_trusted(store, CAROL)
    assert not is_trusted(store, CAROL, CAROL)


def test_whoever_is_denied_is_refused_within_five_seconds(folder, tmp_path, clock):
    denied = write(tmp_path, "revoked.txt", b"")
    store = TrustStore(pins=[pin(folder, ALICE)], revoked=[denied], clock=clock)
    assert find(store, ALICE)

    write(tmp_path, "revoked.txt", f"sha256:{ALICE.fingerprint.hex()}\n".encode())
    clock.advance(5)

    assert refusal_of(store, ALICE) is Refusal.REVOKED


def test_whoever_the_authority_revokes_is_refused(tmp_path, clock):
    anchor = write(tmp_path, "ca.pem", AUTHORITY.pem)
    revoked = write(tmp_path, "crl.pem", make_crl(AUTHORITY, [CAROL.certificate.serial_number]))
    store = TrustStore(anchors=[anchor], revoked=[revoked], clock=clock)
    dave = make_member(AUTHORITY, "dave")

    assert refusal_of(store, CAROL, CAROL) is Refusal.REVOKED
    assert is_trusted(store, dave, dave)


def test_a_pinned_member_is_revoked_by_its_authority_too(folder, tmp_path, clock):
    anchor = write(tmp_path, "ca.pem", AUTHORITY.pem)
    revoked = write(tmp_path, "crl.pem", make_crl(AUTHORITY, [CAROL.certificate.serial_number]))

    store = TrustStore(pins=[pin(folder, CAROL)], anchors=[anchor], revoked=[revoked], clock=clock)

    assert refusal_of(store, CAROL) is Refusal.REVOKED


def test_a_revocation_list_out_of_date_refuses_everybody_it_speaks_of(folder, tmp_path, clock):
    anchor = write(tmp_path, "ca.pem", AUTHORITY.pem)
    revoked = write(tmp_path, "crl.pem", make_crl(AUTHORITY, [], ends=1000))
    store = TrustStore(pins=[pin(folder, ALICE)], anchors=[anchor], revoked=[revoked], clock=clock)
    clock.advance(1000)
    assert is_trusted(store, CAROL, CAROL)

    clock.advance(1)

    with pytest.raises(RefusedError, match=r"certificate-revoked: .*list is out of date"):
        find(store, CAROL, CAROL)
    assert is_trusted(store, ALICE)


@pytest.mark.parametrize("content", [b"nonsense\n", None, make_crl(make_authority("x"), [1])])
def test_no_store_begins_with_a_broken_revocation_list(folder, tmp_path, clock, content):
    if content is not None:
        write(tmp_path, "revoked", content)

    with pytest.raises(SecurityError, match="revoked"):
        TrustStore(pins=[pin(folder, ALICE)], revoked=[tmp_path / "revoked"], clock=clock)


@pytest.mark.parametrize("breaking", ["garbage", "deletion", "mode"])
def test_a_revocation_list_that_breaks_keeps_what_it_said(
    folder, tmp_path, clock, events, breaking
):
    line = f"sha256:{ALICE.fingerprint.hex()}\n".encode()
    denied = write(tmp_path, "revoked.txt", line)
    store = TrustStore(
        pins=[pin(folder, ALICE, BOB)], revoked=[denied], clock=clock, on_event=events
    )

    match breaking:
        case "garbage":
            denied.write_bytes(b"nonsense")
        case "deletion":
            denied.unlink()
        case "mode":
            denied.chmod(0o666)
    clock.advance(5)

    assert refusal_of(store, ALICE) is Refusal.REVOKED
    assert find(store, BOB)
    assert events.kinds == [TrustEvent.RELOAD_REFUSED]


def test_an_expired_certificate_that_is_revoked_too_is_called_expired(folder, tmp_path, clock):
    person = make_person("old", ends=-1)
    denied = write(tmp_path, "revoked.txt", f"sha256:{person.fingerprint.hex()}".encode())
    store = TrustStore(pins=[pin(folder, person)], revoked=[denied], clock=clock)

    assert refusal_of(store, person) is Refusal.CERTIFICATE_EXPIRED


def test_a_p256_signer_is_known_by_its_own_algorithm(folder, clock):
    person = make_person("pat", key=p256_key())
    store = TrustStore(pins=[pin(folder, person)], clock=clock)

    assert find(store, person, algorithm=Algorithm.ESP256)
    assert refusal_of(store, person) is Refusal.UNKNOWN_SIGNER


def test_a_file_that_is_replaced_within_one_tick_of_the_clock_is_read(folder, clock):
    path = write(folder, "signer.pem", ALICE.pem)
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()
    os.utime(path, (moment, moment))
    store = TrustStore(pins=[folder], clock=clock)

    replacement = write(folder, "new", BOB.pem)
    os.utime(replacement, (moment, moment))
    replacement.rename(path)
    clock.advance(5)

    assert is_trusted(store, BOB)
    assert not is_trusted(store, ALICE)
