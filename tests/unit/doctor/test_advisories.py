"""Versions are compared within their series."""

from __future__ import annotations

import pytest

from cardoon.doctor.advisories import PACKAGES, SERVERS, Advisory, is_older

SERIES = ("14.23", "15.18", "16.14")


@pytest.mark.parametrize(
    ("version", "fixed_in", "older"),
    [
        ("2.5.0", ("2.6.0",), True),
        ("2.6.0", ("2.6.0",), False),
        ("2.10.0", ("2.6.0",), False),
        ("14.22", SERIES, True),
        ("14.23", SERIES, False),
        ("15.3 (Debian 15.3-1)", SERIES, True),
        ("13.9", SERIES, True),
        ("17.0", SERIES, False),
        ("5.1.14", ("4.2.26", "5.1.14", "5.2.8"), False),
        ("5.0.3", ("4.2.26", "5.1.14", "5.2.8"), True),
    ],
)
def test_a_version_is_older_than_the_repair_of_its_series(version, fixed_in, older):
    assert is_older(version, fixed_in) is older


def test_the_version_to_go_to_is_the_next_that_has_the_repair():
    assert Advisory("redis", "CVE-0", ("6.2.20", "7.4.6")).fix_for("7.0.15") == "7.4.6"


def test_every_advisory_has_a_public_id_and_versions_in_ascending_order():
    for one in (*PACKAGES, *SERVERS):
        assert one.id.startswith("CVE-")
        assert list(one.fixed_in) == sorted(one.fixed_in, key=lambda v: [*map(int, v.split("."))])
