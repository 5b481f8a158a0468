"""What ships for tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cardoon.testing import FakeClock


def test_time_passes_on_both_clocks_when_told():
    clock = FakeClock(1000)

    clock.advance(2.5)

    assert (clock.now(), clock.monotonic()) == (1002.5, 2.5)


def test_time_does_not_pass_backwards():
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)


def test_importing_the_package_needs_no_test_tools():
    program = (
        "import sys, cardoon.testing;sys.exit(bool({'pytest', 'hypothesis'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
