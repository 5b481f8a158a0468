"""A new key and certificate in place of the old ones, without a moment in which nobody is trusted."""

from __future__ import annotations

import pytest

from cardoon.exceptions import SecurityError
from cardoon.message.protocol import Kind
from cardoon.security.authority import (
    YEAR,
    create_authority,
    ensure_identity,
    issue,
    issue_identity,
    load_authority,
    paths_of,
)
from cardoon.security.identity import load_identity, load_key
from cardoon.security.issuing import KeyKind, encode_key, kind_like, parse_subject
from cardoon.security.renewing import activate, next_paths, prepare
from cardoon.security.signing import MessageSigner
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN, draft, ed25519_key, make_gate, write


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def paths(tmp_path, clock):
    return ensure_identity(tmp_path, "client", clock=clock, lifetime=YEAR)


def is_trusted(folder, private, clock):
    [signed] = MessageSigner(private, domain=DOMAIN, clock=clock).sign([draft()])
    return make_gate(folder, clock).open(signed.frame, kind=Kind.TASK).signer == private.identity


def test_what_is_prepared_is_trusted_before_it_is_used_and_the_old_one_goes_on(
    tmp_path, paths, clock
):
    trusted = tmp_path / "trusted"
    old = load_identity(*paths)

    made = prepare(paths, clock=clock, lifetime=2 * YEAR, trusted=trusted)

    assert load_identity(*paths).identity == old.identity == made.old
    new = load_identity(*next_paths(paths))
    assert new.identity == made.new
    assert new.key.public_key() != old.key.public_key()
    assert made.new.not_after == clock.now() + 2 * YEAR
    assert made.trusted == trusted / f"client-{made.new.fingerprint.hex()[:16]}.pem"
    assert is_trusted(trusted, old, clock)
    assert is_trusted(trusted, new, clock)

    assert activate(paths) == made.new

    assert load_identity(*paths).identity == made.new
    assert not any(path.exists() for path in next_paths(paths))
    assert paths.key.stat().st_mode & 0o777 == 0o600
    assert is_trusted(trusted, old, clock)


def test_the_authority_that_signed_the_old_one_signs_the_new_one(tmp_path, clock):
    create_authority(tmp_path, "acme.example", clock=clock)
    authority = load_authority(tmp_path)
    subject = parse_subject("spiffe://acme.example/ns/prod/sa/web", "acme.example")
    paths = issue_identity(
        authority, subject, tmp_path, clock=clock, lifetime=YEAR, kind=KeyKind.P256
    )

    made = prepare(paths, clock=clock, lifetime=YEAR, authority=authority)

    assert made.new.name == made.old.name == subject.uri
    assert made.trusted is None
    assert kind_like(load_key(next_paths(paths).key).public_key()) is KeyKind.P256
    assert len(list((tmp_path / "issued").iterdir())) == 2


def test_a_certificate_of_an_authority_that_is_elsewhere_needs_it(tmp_path, clock):
    create_authority(tmp_path / "ca", "acme.example", clock=clock)
    paths = issue(tmp_path / "ca", "web", clock=clock, output=tmp_path / "web")
    create_authority(tmp_path / "other", "acme.example", clock=clock)

    for authority in (None, load_authority(tmp_path / "other")):
        with pytest.raises(SecurityError, match=r"--ca, or make a request with `cardoon cert"):
            prepare(paths, clock=clock, lifetime=YEAR, authority=authority)

    assert not any(path.exists() for path in next_paths(paths))


def test_a_key_keeps_its_password_and_may_change_its_kind(tmp_path, paths, clock):
    key = load_key(paths.key)
    write(tmp_path, "client.key", encode_key(key, b"secret"), mode=0o600)

    prepare(paths, clock=clock, lifetime=YEAR, password=b"secret", kind=KeyKind.P256)
    activate(paths, password=b"secret")

    assert b"ENCRYPTED" in paths.key.read_bytes()
    loaded = load_identity(*paths, password=b"secret")
    assert kind_like(loaded.key.public_key()) is KeyKind.P256


def test_a_second_time_goes_on_from_what_the_first_one_made(tmp_path, paths, clock):
    first = prepare(paths, clock=clock, lifetime=YEAR, trusted=tmp_path / "trusted")
    made = next_paths(paths).key.read_bytes()
    next_paths(paths).certificate.unlink()

    second = prepare(paths, clock=clock, lifetime=YEAR)
    third = prepare(paths, clock=clock, lifetime=YEAR)

    assert next_paths(paths).key.read_bytes() == made
    assert second.new != first.new
    assert third.new == second.new


def test_a_crash_between_the_two_files_is_mended_by_doing_it_again(paths, clock):
    made = prepare(paths, clock=clock, lifetime=YEAR)
    next_paths(paths).key.replace(paths.key)
    with pytest.raises(SecurityError, match="not the key of the certificate"):
        load_identity(*paths)

    assert activate(paths) == made.new
    assert load_identity(*paths).identity == made.new


def test_what_was_not_prepared_cannot_be_put_in_place(paths):
    before = paths.key.read_bytes()

    with pytest.raises(SecurityError, match="there is nothing to put in place"):
        activate(paths)

    assert paths.key.read_bytes() == before


def test_a_certificate_for_no_key_here_is_not_put_in_place(tmp_path, paths, clock):
    prepare(paths, clock=clock, lifetime=YEAR)
    write(tmp_path, "client.next.key", encode_key(ed25519_key(9)), mode=0o600)

    with pytest.raises(SecurityError, match=r"neither .*client.next.key nor .*client.key is its"):
        activate(paths)

    assert load_identity(*paths)


def test_what_was_prepared_too_long_ago_is_made_anew_by_hand(paths, clock):
    prepare(paths, clock=clock, lifetime=60)
    clock.advance(61)

    with pytest.raises(SecurityError, match=r"client.next.pem: has expired; delete it"):
        prepare(paths, clock=clock, lifetime=YEAR)


def test_an_expired_identity_can_be_renewed(tmp_path, paths, clock):
    clock.advance(2 * YEAR)

    prepare(paths, clock=clock, lifetime=YEAR, trusted=tmp_path / "trusted")
    activate(paths)

    assert is_trusted(tmp_path / "trusted", load_identity(*paths), clock)


def test_names_of_files_with_dots_are_kept(tmp_path):
    following = next_paths(paths_of(tmp_path, "web.v2"))

    assert [path.name for path in following] == ["web.v2.next.key", "web.v2.next.pem"]
