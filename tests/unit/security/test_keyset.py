"""Keysets: what a record may say, and what a running process makes of a folder that changes."""

from __future__ import annotations

import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, encode_body
from cardoon.security import keymaking
from cardoon.security.authority import ensure_identity
from cardoon.security.gate import Gate
from cardoon.security.identity import load_identity
from cardoon.security.keyholding import RECORD, KeysetEvent, KeysetFolder
from cardoon.security.keyset import CLIENTS, WORKERS, PublicKey, read_record, record_draft
from cardoon.security.policyfile import parse_rules
from cardoon.security.sealing import KeyPair
from cardoon.security.signing import Draft, MessageSigner
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock

DAY = 86_400.0


def public():
    return KeyPair(X25519PrivateKey.generate()).public


class Site:
    """A folder with a keyset, somebody who signs it, and a process that reads it."""

    def __init__(self, path):
        self.clock = FakeClock()
        self.state = path / "state"
        paths = ensure_identity(self.state, "ops", clock=self.clock)
        private = load_identity(paths.key, paths.certificate)
        self.name = private.identity.name
        self.signer = MessageSigner(private, domain="test", clock=self.clock)
        self.folder = path / "keyset"
        self.events = []
        self.denied = path / "revoked.txt"
        self.denied.write_text("")
        self.denied.chmod(0o600)
        self.fingerprint = private.identity.fingerprint
        self.policy = None
        self.held = self.open()

    def gate(self):
        trust = TrustStore(
            pins=[self.state / "trusted"], revoked=[self.denied], clock=self.clock, poll_seconds=0
        )
        return Gate(
            domain="test", trust=trust, accept=["auth"], clock=self.clock, policy=self.policy
        )

    def open(self, name=WORKERS):
        return KeysetFolder(
            self.folder,
            name,
            open_record=lambda frame: self.gate().open(frame, kind=Kind.KEYSET),
            seen=self.state / "seen",
            clock=self.clock,
            on_event=lambda *event: self.events.append(event),
        )

    def create(self, **more):
        return keymaking.create(self.folder, WORKERS, self.signer, now=self.clock.now(), **more)

    def rotate(self, overlap=60.0):
        return keymaking.rotate(self.held, self.signer, now=self.clock.now(), overlap=overlap)

    def publish(self, version, *keys, name=WORKERS):
        [signed] = self.signer.sign([record_draft(name, version, keys, lifetime=DAY)])
        self.write(signed.frame)

    def verified(self, body):
        """A record with this body, past the gate."""
        draft = Draft(Kind.KEYSET, WORKERS, WORKERS, (), JSON, encode_body(body, JSON))
        [signed] = self.signer.sign([draft])
        return self.gate().open(signed.frame, kind=Kind.KEYSET)

    def write(self, content):
        path = self.folder / RECORD
        path.write_bytes(content)
        path.chmod(0o644)

    def said(self):
        return [event for event, _ in self.events]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_keyset_is_made_once_with_a_key_that_its_owner_alone_can_read(site):
    assert site.create()
    assert not site.create()

    key = site.held.primary()
    path = site.folder / f"{key.id.hex()}.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert site.held.find(key.id).public == key.public
    assert site.held.keyset().signer == site.name
    assert sorted(one.name for one in site.folder.iterdir()) == sorted([path.name, RECORD])


def test_a_new_key_takes_over_after_the_overlap_and_the_old_one_stays(site):
    site.create()
    old = site.held.primary()

    new = site.rotate(overlap=60.0)
    site.clock.advance(5.0)

    assert site.held.primary() == old
    assert {site.held.find(key.id).public for key in (old, new)} == {old.public, new.public}
    with pytest.raises(SecurityError, match="has not taken over yet"):
        site.rotate()
    site.clock.advance(56.0)
    assert site.held.primary() == new
    assert site.held.find(old.id) is not None


def test_a_key_is_deleted_when_nothing_that_is_sealed_to_it_can_be_carried_out(site):
    site.create()
    old = site.held.primary()
    new = site.rotate(overlap=0.0)
    site.clock.advance(6.0)

    def retire():
        now = site.clock.now()
        return keymaking.retire(site.held, site.signer, now=now, keep=100.0)

    assert retire() == []
    site.clock.advance(100.0)
    assert retire() == [old]

    site.clock.advance(6.0)
    assert site.held.find(old.id) is None
    assert site.held.find(new.id) is not None
    assert site.held.keyset().keys == (new,)


def test_an_older_record_is_refused_even_after_a_restart(site):
    site.create()
    before = (site.folder / RECORD).read_bytes()
    site.rotate(overlap=0.0)
    site.clock.advance(6.0)
    assert site.held.keyset().version == 2

    site.write(before)
    site.clock.advance(6.0)

    assert site.held.keyset().version == 2
    assert site.said() == [KeysetEvent.RELOADED, KeysetEvent.RELOAD_REFUSED]
    with pytest.raises(SecurityError, match="version 1, but version 2 was seen here before"):
        site.open().primary()


def test_the_last_good_record_holds_when_a_new_one_is_broken(site):
    site.create()
    key = site.held.primary()

    site.write(b"no record")
    site.clock.advance(6.0)

    assert site.held.primary() == key
    assert site.held.primary() == key
    assert site.said() == [KeysetEvent.RELOAD_REFUSED]


def test_nothing_is_sealed_by_a_record_that_has_expired_until_it_is_renewed(site):
    site.create(lifetime=DAY)
    site.held.primary()
    [key] = site.held.keyset().keys

    site.clock.advance(DAY + 100.0)

    for _ in range(2):
        with pytest.raises(SecurityError, match="cardoon keys renew"):
            site.held.primary()
    site.publish(2, key)
    assert site.held.primary() == key


def test_an_end_that_is_near_is_told_of_once_a_day(site):
    site.create(lifetime=40 * DAY)
    site.held.primary()
    assert site.said() == []

    site.clock.advance(11 * DAY)
    for _ in range(3):
        site.held.primary()
        site.clock.advance(6.0)
    assert site.said() == [KeysetEvent.EXPIRES_SOON]
    assert "in 29.0 days" in site.events[0][1]

    site.clock.advance(DAY)
    site.held.primary()
    assert site.said() == [KeysetEvent.EXPIRES_SOON] * 2


def test_nothing_is_sealed_by_a_record_whose_signer_was_revoked(site):
    site.create()
    site.held.primary()

    site.denied.write_text(f"sha256:{site.fingerprint.hex()}\n")
    site.clock.advance(6.0)

    with pytest.raises(SecurityError, match="revoked"):
        site.held.primary()


@pytest.mark.parametrize(("action", "fits"), [("keys", True), ("result", False)])
def test_a_policy_says_who_may_say_which_keys(site, action, fits):
    role = f'version = 1\n[role.ops]\nids = ["subject:{site.name}"]\n'
    rule = f'[[allow]]\nrole = "ops"\naction = "{action}"\ntask = "workers"\n'
    site.policy = parse_rules((role + rule).encode(), source="p")
    site.create()

    if fits:
        assert site.held.primary()
    else:
        with pytest.raises(SecurityError, match=r"no rule lets .* keys workers"):
            site.held.primary()


def test_the_keys_of_another_group_are_not_taken(site):
    site.create()

    with pytest.raises(SecurityError, match="keyset of 'workers', and 'clients' is wanted"):
        site.open(CLIENTS).primary()


def test_a_private_key_that_others_can_read_is_not_used(site):
    site.create()
    key = site.held.primary()
    path = site.folder / f"{key.id.hex()}.key"
    path.chmod(0o644)

    assert site.held.find(key.id) is None
    assert site.said() == [KeysetEvent.KEY_REFUSED]
    assert "chmod 600" in site.events[-1][1]


def test_a_key_that_comes_is_found_at_the_second_look(site):
    site.create()
    assert site.held.find(site.held.primary().id)
    key = site.rotate()

    assert site.held.find(key.id) is None
    site.clock.advance(1.5)
    assert site.held.find(key.id).public == key.public


def test_a_record_that_nobody_has_signed_is_refused(site):
    site.create()
    with pytest.raises(RefusedError) as refused:
        site.gate().open(b"\x41\x00\x40", kind=Kind.KEYSET)
    assert refused.value.reason is Refusal.UNSIGNED


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "its version and its keys"),
        ([], "its version and its keys"),
        ({"version": 1, "keys": [], "more": 1}, "its version and its keys"),
        ({"version": 1, "keys": []}, "with 0 keys"),
        ({"version": 0, "keys": [1]}, "version 0"),
        ({"version": 1, "keys": [1] * 65}, "with 65 keys"),
        ({"version": 1, "keys": [1]}, "not a key and a time"),
        ({"version": 1, "keys": [{"public": "00", "since": -1}]}, "not a key and a time"),
        ({"version": 1, "keys": [{"public": "zz", "since": 1}]}, "not 32 bytes"),
        ({"version": 1, "keys": [{"public": "00" * 31, "since": 1}]}, "not 32 bytes"),
        ({"version": 1, "keys": [{"public": "00" * 32, "since": 1}]}, "nobody can hold it"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(site, body, said):
    with pytest.raises(SecurityError, match=said):
        read_record(site.verified(body), name=WORKERS)


def test_keys_out_of_order_or_twice_are_refused(site):
    first, second = PublicKey(public(), 10), PublicKey(public(), 20)
    for keys in ([second, first], [first, first]):
        told = [{"public": key.public.hex(), "since": key.since} for key in keys]

        with pytest.raises(SecurityError, match="order of their times"):
            read_record(site.verified({"version": 2, "keys": told}), name=WORKERS)
