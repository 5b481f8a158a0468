"""Fixtures of the unit tests of the API and the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cardoon import Cardoon
from cardoon.testing import FakeClock
from tests.unit.stage import Stage, make_app


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(tmp_path: Path, clock: FakeClock) -> Iterator[Cardoon]:
    """An app of one test, with a memory broker."""
    made = make_app(tmp_path / "state", clock=clock)
    yield made
    made.close()


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes a client and a worker as a test wants them."""
    made: list[Stage] = []

    def make(**wishes: Any) -> Stage:
        made.append(Stage(tmp_path / f"state-{len(made)}", **wishes))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A client and a worker."""
    return make_stage()
