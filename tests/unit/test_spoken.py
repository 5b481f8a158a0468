"""Times as people say them."""

from __future__ import annotations

import pytest

from cardoon.spoken import distance, duration, moment


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0, "0 seconds"), (1, "1 second"), (-1, "1 second"), (119, "119 seconds")),
        *((120, "2 minutes"), (5400, "90 minutes"), (7200, "2 hours"), (86_400, "24 hours")),
        *((172_800, "2 days"), (-864_000, "10 days")),
    ],
)
def test_a_duration_is_said_in_its_largest_unit(seconds, said):
    assert duration(seconds) == said


def test_a_time_is_said_with_how_far_it_is():
    assert distance(1_000_000_000, 1_000_000_090) == "2001-09-09 01:46:40 UTC (90 seconds ago)"
    assert distance(1_000_000_000, 999_990_000) == "2001-09-09 01:46:40 UTC (in 3 hours)"


@pytest.mark.parametrize("seconds", [-1, 1e18, 253_402_300_800])
def test_a_time_beyond_all_calendars_is_said_in_seconds(seconds):
    assert moment(seconds) == f"{seconds:.0f} seconds since 1970"
