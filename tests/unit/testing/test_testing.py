"""What ships for tests."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.testing import FakeClock


def test_time_passes_on_both_clocks_when_told():
    clock = FakeClock(1000)

    clock.advance(2.5)

    assert (clock.now(), clock.monotonic()) == (1002.5, 2.5)


@given(start=st.floats(0, 4e9), seconds=st.floats(0, 1e9))
def test_a_moment_is_reached_however_it_is_rounded(start, seconds):
    clock = FakeClock(start)

    clock.advance_to(start + seconds)
    assert start + seconds <= clock.now() <= start + seconds + 1e-6
    clock.advance_to(start)
    assert clock.now() >= start + seconds


def test_time_does_not_pass_backwards():
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)


def test_importing_the_package_needs_no_test_tools():
    program = (
        "import sys, cardoon.testing;sys.exit(bool({'pytest', 'hypothesis'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
