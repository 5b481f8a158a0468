"""A real worker in a real process, on a real file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cell import cell_site
from tests.e2e.sites import DEADLINE, PROJECT, Site, wait_until

__all__ = ["DEADLINE", "PROJECT", "Site", "wait_until"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="module", params=["prefork", "isolated", "threads", "asyncio", "solo"])
def pool(request, tmp_path_factory) -> Iterator[Site]:
    """A worker of each kind, shared by the tests of a module."""
    if request.param == "isolated":
        with cell_site("process") as made:
            yield made
        return
    made = Site(tmp_path_factory.mktemp(request.param))
    made.kind = request.param
    made.start("-P", request.param, "-c", "1" if request.param == "solo" else "3")
    yield made
    made.stop()


@pytest.fixture
def place(pool, request) -> Path:
    """A new folder where the tasks of the pool may write."""
    made = Path(tempfile.mkdtemp(dir=pool.place))
    made.chmod(0o777)
    return made
