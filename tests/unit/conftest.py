"""Fixtures of the unit tests of the API and the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cardoon import Cardoon
from cardoon.registry import SHARED
from cardoon.testing import FakeClock
from tests.unit.hearing import Hearing, listening
from tests.unit.stage import Stage, make_app


@pytest.fixture(autouse=True)
def _shared_tasks() -> Iterator[None]:
    """What a test shares, it shares with no other test."""
    before = SHARED[:]
    yield
    SHARED[:] = [one for one in SHARED if one in before or one.name.startswith("cardoon.")]


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


@pytest.fixture
def hearing() -> Iterator[Hearing]:
    """Listens to signals until the test ends."""
    with listening() as made:
        yield made
