"""Fixtures of the tests of events."""

from __future__ import annotations

import pytest

from tests.unit.events.wires import Wire


@pytest.fixture
def wire(tmp_path):
    return Wire(tmp_path)
