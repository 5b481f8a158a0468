"""Fixtures of the tests of whole workflows."""

from __future__ import annotations

import pytest

from tests.workflows.troupe import Troupe


@pytest.fixture
def make_troupe(tmp_path):
    """Makes a client and a worker as a test wants them."""
    made = []

    def make(**wishes):
        made.append(Troupe(tmp_path / f"troupe-{len(made)}", **wishes))
        return made[-1]

    yield make
    for troupe in made:
        troupe.close()


@pytest.fixture(params=["memory", "sqlite"])
def troupe(request, make_troupe):
    """A client and a worker on each kind of store."""
    return make_troupe(store=request.param)
