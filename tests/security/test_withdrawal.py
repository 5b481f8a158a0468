"""Certificates that are no longer good, and files that somebody else could have written."""

from __future__ import annotations

import datetime as dt

import pytest

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message.protocol import Kind
from cardoon.security.gate import Gate
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN, draft, make_gate, make_person, pin, write

HOUR = 3600


@pytest.fixture
def clock():
    return FakeClock()


def refusal_of(gate, frame):
    with pytest.raises(RefusedError) as refused:
        gate.open(frame, kind=Kind.TASK)
    return refused.value.reason


@pytest.mark.parametrize("count", [1, 3])
def test_a_message_is_judged_by_the_certificate_of_today(tmp_path, clock, count):
    """Not by the certificate of the time that the sender says it was signed at."""
    person = make_person("brief", ends=HOUR)
    gate = make_gate(pin(tmp_path, person), clock)
    batch = person.signer(clock).sign([draft(number) for number in range(count)])
    for signed in batch:
        gate.open(signed.frame, kind=Kind.TASK)

    clock.advance(HOUR + 1)

    assert {refusal_of(gate, signed.frame) for signed in batch} == {Refusal.CERTIFICATE_EXPIRED}


def test_a_message_by_a_certificate_of_tomorrow_is_refused(tmp_path, clock):
    person = make_person("early", begins=HOUR)
    gate = make_gate(pin(tmp_path, person), clock)
    ahead = FakeClock()
    ahead.advance(HOUR)
    [signed] = person.signer(ahead).sign([draft()])

    assert refusal_of(gate, signed.frame) is Refusal.CERTIFICATE_NOT_YET_VALID


@pytest.mark.parametrize("count", [1, 3])
def test_a_stolen_key_is_worth_nothing_within_five_seconds(tmp_path, clock, count):
    thief = make_person("thief")
    store = tmp_path / "pins"
    store.mkdir()
    denied = write(tmp_path, "revoked.txt", b"# nobody yet\n")
    trust = TrustStore(pins=[pin(store, thief)], revoked=[denied], clock=clock)
    gate = Gate(domain=DOMAIN, trust=trust, accept=["auth"], clock=clock)
    batch = thief.signer(clock).sign([draft(number) for number in range(count)])
    for signed in batch:
        gate.open(signed.frame, kind=Kind.TASK)

    write(tmp_path, "revoked.txt", f"sha256:{thief.fingerprint.hex()}\n".encode())
    clock.advance(5)

    assert {refusal_of(gate, signed.frame) for signed in batch} == {Refusal.REVOKED}


@pytest.mark.parametrize("what", ["pins", "pins/alice.pem", "revoked.txt"])
def test_no_store_begins_on_files_that_others_may_write(tmp_path, clock, what):
    store = tmp_path / "pins"
    store.mkdir()
    write(store, "alice.pem", make_person("alice").pem)
    denied = write(tmp_path, "revoked.txt", b"")
    (tmp_path / what).chmod(0o777)

    with pytest.raises(SecurityError, match=f"chmod go-w {tmp_path / what}"):
        TrustStore(pins=[store], revoked=[denied], clock=clock)


def test_who_was_replaced_is_good_until_the_list_says_not(tmp_path, clock):
    """The old certificate of a rotation, from its moment on and not a second earlier."""
    person = make_person("old")
    store = tmp_path / "pins"
    store.mkdir()
    moment = "2023-12-08T09:00:00Z"
    line = f"sha256:{person.fingerprint.hex()} from {moment}  # replaced\n"
    denied = write(tmp_path, "revoked.txt", line.encode())
    trust = TrustStore(pins=[pin(store, person)], revoked=[denied], clock=clock)
    gate = Gate(domain=DOMAIN, trust=trust, accept=["auth"], clock=clock)
    clock.advance(dt.datetime.fromisoformat(moment).timestamp() - clock.now() - 1)
    [signed] = person.signer(clock).sign([draft()])

    gate.open(signed.frame, kind=Kind.TASK)
    clock.advance(1)

    assert refusal_of(gate, signed.frame) is Refusal.REVOKED


def test_a_list_that_nobody_named_counts_once_it_is_there_and_cannot_be_deleted(tmp_path, clock):
    thief = make_person("thief")
    store = tmp_path / "pins"
    store.mkdir()
    usual = str(tmp_path / "revoked.txt")
    heard = []
    trust = TrustStore(
        pins=[pin(store, thief)],
        revoked=[usual],
        may_lack=[usual],
        clock=clock,
        on_event=lambda *event: heard.append(event),
    )
    gate = Gate(domain=DOMAIN, trust=trust, accept=["auth"], clock=clock)
    [signed] = thief.signer(clock).sign([draft()])
    gate.open(signed.frame, kind=Kind.TASK)

    denied = write(tmp_path, "revoked.txt", f"sha256:{thief.fingerprint.hex()}\n".encode())
    clock.advance(5)
    assert refusal_of(gate, signed.frame) is Refusal.REVOKED

    denied.unlink()
    clock.advance(5)
    assert refusal_of(gate, signed.frame) is Refusal.REVOKED
    assert heard[-1][0] == "reload_refused"
