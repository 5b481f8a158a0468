"""What tests of the sandbox share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory on everybody's way: pytest's own are closed to others by the next session that begins."""
    folder = Path(tempfile.mkdtemp(prefix="cardoon-sandbox-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
