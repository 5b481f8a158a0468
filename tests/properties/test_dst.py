"""A sample of what `python -m tests.properties.dst --all` goes through."""

from __future__ import annotations

import pytest

from tests.properties.clocks import changes_of
from tests.properties.dst import check, check_all, sample


@pytest.mark.parametrize(
    ("zone", "year"),
    [
        ("Australia/Lord_Howe", 2026),
        ("Antarctica/Troll", 2026),
        ("Pacific/Apia", 2011),
        ("Pacific/Kwajalein", 1993),
        ("America/Juneau", 1867),
    ],
)
def test_no_tick_is_skipped_or_doubled_where_clocks_are_changed_in_an_odd_way(zone, year):
    changes = [one for one in changes_of(zone) if str(year) in str(one)]

    assert changes
    for one in changes:
        assert not check(one).wrong


@pytest.mark.slow
def test_no_tick_is_skipped_or_doubled_at_any_of_some_changes_of_clocks():
    result = check_all(sample(250, seed=20261202))

    assert not result.wrong
    assert result.changes >= 250
    assert result.ticks > 20_000
