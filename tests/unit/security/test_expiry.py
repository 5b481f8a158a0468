"""How long certificates are still good, and what is said of them."""

from __future__ import annotations

import pytest

from cardoon.security.expiry import (
    DEFAULT_WARNING,
    CertificateFiles,
    Part,
    State,
    describe,
    format_seconds,
    judge,
    judge_all,
)
from cardoon.security.snapshot import Sources
from cardoon.testing import FakeClock
from tests.security.actors import (
    DAY,
    make_authority,
    make_crl,
    make_member,
    make_person,
    pin,
    rsa_key,
    write,
)

NOW = FakeClock().now()


def find(*, own=(), pins=(), anchors=(), revoked=(), may_lack=()):
    named = [(None, str(path)) for path in anchors]
    sources = Sources(
        [str(path) for path in pins],
        named,
        [str(path) for path in revoked],
        frozenset(str(path) for path in may_lack),
    )
    return CertificateFiles([str(path) for path in own], sources)


def judged(found, *, days=0.0, warning=DEFAULT_WARNING):
    return judge_all(found, now=NOW + days * DAY, warning=warning)


@pytest.mark.parametrize(
    ("days", "state"),
    [
        (-366, State.NOT_YET_VALID),
        (-365, State.OK),
        (-30.001, State.OK),
        (-29.999, State.EXPIRES_SOON),
        (0, State.EXPIRES_SOON),
        (0.001, State.EXPIRED),
    ],
)
def test_a_long_life_is_warned_of_a_month_before_its_end(days, state):
    assert judge(-365 * DAY, 0, now=days * DAY, warning=DEFAULT_WARNING) is state


def test_a_short_life_is_warned_of_in_its_last_fifth():
    """Certificates of an hour are renewed at half of it: nobody is to be warned before that."""
    states = [judge(0, 3600, now=now, warning=DEFAULT_WARNING) for now in (1800, 2880, 2881, 3600)]

    assert states == [State.OK, State.OK, State.EXPIRES_SOON, State.EXPIRES_SOON]


def test_the_warning_can_be_shorter_or_off():
    assert judge(0, 100 * DAY, now=85 * DAY, warning=10 * DAY) is State.OK
    assert judge(0, 100 * DAY, now=100 * DAY, warning=0) is State.OK
    assert judge(0, 100 * DAY, now=101 * DAY, warning=0) is State.EXPIRED


def test_every_kind_of_certificate_is_judged(tmp_path):
    pins = tmp_path / "pins"
    pins.mkdir()
    authority = make_authority("authority", ends=100 * DAY)
    mine = make_member(authority, "mine", ends=10 * DAY)
    found = find(
        own=[write(tmp_path, "mine.pem", mine.pem), tmp_path / "nowhere.pem"],
        pins=[pin(pins, make_person("alice", ends=400 * DAY), make_person("bob", ends=-1))],
        anchors=[write(tmp_path, "ca.pem", authority.pem)],
        revoked=[write(tmp_path, "ca.crl", make_crl(authority, [], ends=7 * DAY))],
    )

    findings = judged(found)

    told = {(one.part, one.name): one.state for one in findings}
    assert told == {
        (Part.IDENTITY, "spiffe://acme.example/web"): State.OK,
        (Part.PIN, "CN=alice"): State.OK,
        (Part.PIN, "CN=bob"): State.EXPIRED,
        (Part.ANCHOR, "CN=authority"): State.OK,
        (Part.REVOCATION_LIST, "CN=authority"): State.OK,
    }
    [one] = [each for each in findings if each.part is Part.IDENTITY]
    assert (one.fingerprint, one.seconds_left) == (mine.fingerprint.hex(), 10 * DAY)
    later = {one.part: one.state for one in judged(found, days=9)}
    assert later[Part.IDENTITY] is State.EXPIRES_SOON
    assert later[Part.REVOCATION_LIST] is State.EXPIRED


def test_an_authority_on_the_way_to_the_anchor_is_judged_too(tmp_path):
    top = make_authority("top")
    between = make_authority("between", issuer=top, ends=5)
    mine = make_member(between, "mine")
    path = write(tmp_path, "mine.pem", mine.pem + between.pem)

    states = [one.state for one in judged(find(own=[path]))]

    assert states == [State.OK, State.EXPIRES_SOON]


def test_an_old_pin_of_somebody_who_has_a_newer_one_wakes_nobody(tmp_path):
    old, new = make_person("alice", ends=DAY), make_person("alice", ends=90 * DAY, key=rsa_key())
    other = make_person("bob", ends=DAY)
    write(tmp_path, "alice.pem", old.pem)
    write(tmp_path, f"alice-{new.fingerprint.hex()[:16]}.pem", new.pem)
    write(tmp_path, "bob.pem", other.pem)
    found = find(pins=[tmp_path])

    for days, state in [(0.9, State.EXPIRES_SOON), (2, State.EXPIRED)]:
        told = {one.fingerprint: one.state for one in judged(found, days=days)}
        assert told == {
            old.fingerprint.hex(): State.SUPERSEDED,
            new.fingerprint.hex(): State.OK,
            other.fingerprint.hex(): state,
        }


def test_a_pin_of_another_host_is_no_successor(tmp_path):
    """Each host's own `CN=client` counts: that of one ends though that of another lasts."""
    ending, lasting = make_person("client", ends=DAY), make_person("client", key=rsa_key())
    write(tmp_path, "host-a.pem", ending.pem)
    write(tmp_path, "host-b.pem", lasting.pem)

    states = [one.state for one in judged(find(pins=[tmp_path]), days=0.9)]

    assert states == [State.EXPIRES_SOON, State.OK]


def test_who_is_revoked_needs_no_warning(tmp_path):
    pins = tmp_path / "pins"
    pins.mkdir()
    gone, going = make_person("gone", ends=-1), make_person("going", ends=DAY)
    denied = f"sha256:{gone.fingerprint.hex()}\nsha256:{going.fingerprint.hex()} from 2023-12-08T00:00:00Z"
    found = find(
        pins=[pin(pins, gone, going)], revoked=[write(tmp_path, "revoked.txt", denied.encode())]
    )

    told = {one.name: one.state for one in judged(found, days=0.9)}

    assert told == {"CN=gone": State.REVOKED, "CN=going": State.EXPIRES_SOON}


def test_what_cannot_be_read_is_a_finding(tmp_path):
    pins = tmp_path / "pins"
    pins.mkdir()
    write(pins, "broken.pem", b"no certificate")
    write(pins, "open.pem", make_person("alice").pem, mode=0o666)
    found = find(
        own=[write(tmp_path, "mine.pem", b"")],
        pins=[pins],
        anchors=[tmp_path / "nowhere.pem"],
        revoked=[write(tmp_path, "revoked.txt", b"alice"), tmp_path / "lacking.txt"],
        may_lack=[tmp_path / "lacking.txt"],
    )

    findings = judged(found)

    assert {one.state for one in findings} == {State.UNREADABLE}
    assert [one.path.rpartition("/")[2] for one in findings] == [
        "mine.pem", "broken.pem", "open.pem", "nowhere.pem", "revoked.txt",
    ]  # fmt: skip
    assert all(one.detail and one.needs_attention for one in findings)
    assert describe(findings[0]).startswith("identity cannot be read: ")


def test_what_is_said_names_the_file_and_the_time(tmp_path):
    path = write(tmp_path, "alice.pem", make_person("alice", ends=3 * DAY).pem)
    found = find(pins=[path])

    said = [describe(judged(found, days=days)[0]) for days in (0, 2.5, 4)]

    assert said[0].startswith(f"pin CN=alice ({path}) is ok, until ")
    assert ", in 12 hours" in said[1]
    assert said[1].startswith(f"pin CN=alice ({path}) ends at ")
    assert said[2].startswith(f"pin CN=alice ({path}) has expired at ")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7200, "2 hours"),
        (172_799, "47 hours"),
        (172_800, "2 days"),
    ],
)
def test_a_time_that_is_left_is_rounded_down(seconds, said):
    assert format_seconds(seconds) == said
