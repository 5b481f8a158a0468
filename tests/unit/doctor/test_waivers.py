"""Waivers are signed where somebody can sign, end by themselves, and hide nothing that was changed."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.doctor.catalogue import BY_ID
from cardoon.doctor.check import State, Verdict
from cardoon.doctor.waivers import FILE, Book, waive
from cardoon.exceptions import ImproperlyConfigured
from cardoon.security.authority import create_authority, issue
from cardoon.testing import FakeClock

START = dt.datetime(2027, 1, 10, 12, tzinfo=dt.UTC).timestamp()
REDIS = "redis://localhost/0"


@pytest.fixture
def clock():
    return FakeClock(START)


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def book(state, clock, **settings):
    conf = Conf({})
    conf.update(state_directory=str(state), broker_url=REDIS, **settings)
    return Book(Deployment(conf.settings(), clock=clock, role="worker"), clock=clock)


@pytest.fixture
def signed(state, clock):
    """A deployment with an authority and an identity."""
    create_authority(state, "shop.example", clock=clock)
    issue(state, "worker", clock=clock)
    return book(state, clock)


def change(state, **fields):
    told = json.loads((state / FILE).read_text())
    told["waivers"][0] |= fields
    (state / FILE).write_text(json.dumps(told))


def test_a_waiver_is_signed_and_holds(signed, state):
    signed.add("PRC-05", until="2027-02-01", reason="the kernel is the host's")

    assert list(signed.read()) == ["PRC-05"]
    assert signed.complaints == []
    assert json.loads((state / FILE).read_text())["waivers"][0]["signature"]


def test_it_holds_until_the_end_of_its_last_day(signed, clock):
    signed.add("PRC-05", until="2027-01-11", reason="one more day")
    clock.advance(36 * 3600 - 1)
    assert list(signed.read()) == ["PRC-05"]

    clock.advance(1)

    assert signed.read() == {}
    assert signed.complaints == []


@pytest.mark.parametrize(
    "fields",
    [{"until": "2027-12-01"}, {"id": "MSG-01"}, {"reason": "all is well"}, {"at": 1}],
    ids=lambda fields: next(iter(fields)),
)
def test_one_that_was_changed_counts_for_nothing_and_is_told(signed, state, fields):
    signed.add("PRC-05", until="2027-02-01", reason="for now")
    change(state, **fields)

    assert signed.read() == {}
    assert "does not count" in signed.complaints[0]


def test_one_that_nobody_has_signed_counts_only_where_nobody_could(signed, state, clock, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir(mode=0o700)
    without = book(bare, clock)
    without.add("PRC-05", until="2027-02-01", reason="for now")
    assert list(without.read()) == ["PRC-05"]

    (state / FILE).write_bytes((bare / FILE).read_bytes())

    assert signed.read() == {}
    assert signed.complaints == ["a waiver of PRC-05 does not count: nobody has signed it"]


def test_one_of_another_deployment_counts_for_nothing(signed, state, clock):
    signed.add("PRC-05", until="2027-02-01", reason="for now")

    other = book(state, clock, security_domain="other")

    assert other.read() == {}
    assert other.complaints


@pytest.mark.parametrize(
    "content", ["", "[]", '{"waivers": 3}', '{"waivers": [{}]}', "\x00", "[" * 10_000]
)
def test_a_file_that_holds_anything_else_is_told_and_never_raises(signed, state, content):
    (state / FILE).write_text(content)

    assert signed.read() == {}
    assert signed.complaints


def test_a_file_that_others_can_write_counts_for_nothing(signed, state):
    signed.add("PRC-05", until="2027-02-01", reason="for now")
    (state / FILE).chmod(0o666)

    assert signed.read() == {}
    assert "open to others" in signed.complaints[0]


def test_a_later_waiver_takes_the_place_of_an_earlier_one(signed):
    signed.add("PRC-05", until="2027-02-01", reason="for now")
    signed.add("PRC-08", until="2027-02-01", reason="no swap soon")
    signed.add("PRC-05", until="2027-03-01", reason="a little longer")

    found = signed.read()

    assert {one.id: one.until for one in found.values()} == {
        "PRC-05": "2027-03-01",
        "PRC-08": "2027-02-01",
    }


@pytest.mark.parametrize(
    ("id", "until", "reason", "told"),
    [
        ("XXX-01", "2027-02-01", "why", "no check has the id 'XXX-01'"),
        ("CFG-07", "2027-02-01", "why", "cannot be waived"),
        ("PRC-05", "soon", "why", "'soon' is no date such as"),
        ("PRC-05", "2027-01-09", "why", "not within the next 366 days"),
        ("PRC-05", "2029-01-09", "why", "not within the next 366 days"),
        ("PRC-05", "2027-02-01", " ", "--reason: say why"),
        ("PRC-05", "2027-02-01", "x\n" * 9, "--reason: say why"),
    ],
)
def test_what_will_not_do_is_named(signed, id, until, reason, told):
    with pytest.raises(ImproperlyConfigured, match=told):
        signed.add(id, until=until, reason=reason)


def test_only_what_is_open_or_unchecked_is_waived(signed):
    waiver = signed.add("PRC-05", until="2027-02-01", reason="for now")
    check = BY_ID["PRC-05"]

    found = waive(
        [Verdict(check, State.FINDING, ("it is 0",)), Verdict(check, State.OK)],
        {"PRC-05": waiver},
    )

    assert [one.state for one in found] == [State.WAIVED, State.OK]
    assert found[0].evidence == (
        "it is 0",
        f"waived until 2027-02-01 by {waiver.by}: for now",
    )
