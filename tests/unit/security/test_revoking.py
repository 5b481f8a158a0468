"""Deny-lists that are edited, and revocation lists that an authority signs."""

from __future__ import annotations

import stat
import threading

import pytest
from cryptography import x509

from cardoon.exceptions import SecurityError
from cardoon.security.authority import create_authority, load_authority
from cardoon.security.revocation import Revocations, SerialList, parse_list
from cardoon.security.revoking import deny, restore, sign_list
from cardoon.testing import FakeClock
from tests.security.actors import DAY, make_authority, make_crl, write

WHO = bytes(range(32))
ENTRY = f"sha256:{WHO.hex()}"
NAME = "spiffe://acme.example/web"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "revoked.txt"


def read(path):
    return parse_list(path, path.read_bytes(), ())


def test_an_entry_says_when_and_why(path, clock):
    assert deny(path, WHO, clock=clock, reason="stolen laptop")
    assert deny(path, NAME, clock=clock, reason="left us")

    assert path.read_text() == (
        f"{ENTRY}  # 2023-11-14T22:13:20Z: stolen laptop\n{NAME}  # 2023-11-14T22:13:20Z: left us\n"
    )
    assert (read(path).fingerprints, read(path).names) == ({WHO}, {NAME})
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_what_is_there_is_kept_and_not_said_twice(path, clock):
    write(path.parent, path.name, f"# by hand\n{ENTRY.upper().replace('SHA', 'sha')}".encode())
    before = path.read_bytes()

    assert not deny(path, WHO, clock=clock, reason="again")
    assert path.read_bytes() == before
    assert deny(path, NAME, clock=clock, reason="new")
    assert path.read_bytes().startswith(before + b"\n")


def test_the_sooner_of_two_moments_counts(path, clock):
    now = clock.now()

    changes = [
        deny(path, WHO, clock=clock, reason="replaced", moment=moment)
        for moment in (now + DAY, now + DAY, now + 2 * DAY, now + 5, None, now + 1)
    ]

    assert changes == [True, False, False, True, True, False]
    assert f"{ENTRY} from 2023-11-15T22:13:20Z  # " in path.read_text()


def test_who_is_restored_leaves_a_trace(path, clock):
    deny(path, WHO, clock=clock, reason="stolen laptop")
    deny(path, WHO, clock=clock, reason="sooner", moment=clock.now() - 5)
    deny(path, NAME, clock=clock, reason="left us")
    clock.advance(60)

    assert restore(path, WHO, clock=clock, reason="found again")
    assert not restore(path, WHO, clock=clock, reason="found again")

    assert (read(path).fingerprints, read(path).names) == (set(), {NAME})
    assert path.read_text().splitlines()[0] == (
        f"# 2023-11-14T22:14:20Z restored: found again; was: {ENTRY}  "
        "# 2023-11-14T22:13:20Z: stolen laptop"
    )
    assert deny(path, WHO, clock=clock, reason="stolen again")


def test_nobody_is_restored_from_a_list_that_is_not_there(path, clock):
    assert not restore(path, WHO, clock=clock, reason="why not")
    assert not path.exists()


@pytest.mark.parametrize("reason", ["", "  ", "a\nsha256:b", "x" * 201, "\x1b[2J"])
def test_a_reason_is_one_plain_line(path, clock, reason):
    for change in (deny, restore):
        with pytest.raises(SecurityError, match="say why, in one line"):
            change(path, WHO, clock=clock, reason=reason)

    assert not path.exists()


@pytest.mark.parametrize("content", [b"alice\n", b"\xff"])
def test_a_list_that_nobody_understands_is_left_alone(path, clock, content):
    write(path.parent, path.name, content)

    with pytest.raises(SecurityError):
        deny(path, WHO, clock=clock, reason="x")

    assert path.read_bytes() == content


def test_a_list_that_others_may_write_is_left_alone(path, clock):
    write(path.parent, path.name, b"", mode=0o666)

    with pytest.raises(SecurityError, match="chmod go-w"):
        deny(path, WHO, clock=clock, reason="x")


def test_a_revocation_list_is_no_deny_list(path, clock):
    write(path.parent, path.name, make_crl(make_authority(), []))

    with pytest.raises(SecurityError, match="not signed by any"):
        deny(path, WHO, clock=clock, reason="x")


def test_of_edits_at_once_none_is_lost(path, clock):
    def edit(number):
        deny(path, bytes([number]) * 32, clock=clock, reason=f"number {number}")

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(read(path).fingerprints) == 16
    assert sorted(one.name for one in path.parent.iterdir()) == [".revoked.txt.lock", "revoked.txt"]


@pytest.fixture
def authority(tmp_path, clock):
    create_authority(tmp_path / "ca", "acme.example", clock=clock)
    return load_authority(tmp_path / "ca")


def serials_of(path, authority):
    found = parse_list(path, path.read_bytes(), [authority.certificate])
    assert isinstance(found, SerialList)
    return found.serials, found.next_update


def test_a_revocation_list_grows_and_says_when_the_next_comes(tmp_path, authority, clock):
    path = tmp_path / "ca.crl"

    assert sign_list(authority, path, {7, 8}, clock=clock, lifetime=DAY) == 2
    assert serials_of(path, authority) == ({7, 8}, clock.now() + DAY)
    clock.advance(60)
    assert sign_list(authority, path, {8, 9}, clock=clock, lifetime=2 * DAY) == 1
    assert serials_of(path, authority) == ({7, 8, 9}, clock.now() + 2 * DAY)

    signed = x509.load_pem_x509_crl(path.read_bytes())
    assert signed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2
    first = signed.get_revoked_certificate_by_serial_number(7)
    assert first.revocation_date_utc.timestamp() == clock.now() - 60


def test_a_list_without_entries_can_be_renewed(tmp_path, authority, clock):
    path = tmp_path / "ca.crl"

    for _ in range(2):
        assert sign_list(authority, path, (), clock=clock, lifetime=DAY) == 0
        clock.advance(60)

    assert serials_of(path, authority) == (set(), clock.now() - 60 + DAY)
    assert Revocations([parse_list(path, path.read_bytes(), [authority.certificate])])


def test_the_list_of_another_authority_is_left_alone(tmp_path, authority, clock):
    path = write(tmp_path, "ca.crl", make_crl(make_authority("other"), [5]))
    before = path.read_bytes()

    with pytest.raises(SecurityError, match="not signed by any"):
        sign_list(authority, path, {7}, clock=clock)
    assert path.read_bytes() == before

    write(tmp_path, "ca.crl", b"# a deny-list\n")
    with pytest.raises(SecurityError, match="a deny-list, not a revocation list"):
        sign_list(authority, path, {7}, clock=clock)
