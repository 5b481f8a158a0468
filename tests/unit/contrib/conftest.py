"""Apps that are made current here are forgotten again."""

from __future__ import annotations

import pytest

from cardoon.standin import Current


@pytest.fixture(autouse=True)
def _own_current_app(monkeypatch):
    monkeypatch.setattr("cardoon.app._current", Current())
