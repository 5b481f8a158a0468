"""What tests of the sandbox share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cardoon.sandbox.confining import check_is_alone


@pytest.fixture(autouse=True, scope="module")
def lonely_forks() -> None:
    """Have each fork of this process wait until it has one thread, as task processes do.

    A tracer provider that tests of tracing have left starts some in each and joins them, and what was joined is
    gone from the kernel a moment later. Hooks run in the order in which they came: this one is the last.
    """
    os.register_at_fork(after_in_child=check_is_alone)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory on everybody's way: pytest's own are closed to others by the next session that begins."""
    folder = Path(tempfile.mkdtemp(prefix="cardoon-sandbox-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
