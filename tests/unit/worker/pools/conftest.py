"""A runner in a thread, at the near end of a real channel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.worker.pools.far_end import FarEnd


@pytest.fixture
def serve() -> Iterator[Callable[[Any], FarEnd]]:
    """Starts runners; ends them with the test."""
    made: list[tuple[FarEnd, socket.socket, socket.socket]] = []

    def start(make: Any) -> FarEnd:
        near, far = socket.socketpair()
        made.append((FarEnd(make, near, far), near, far))
        return made[-1][0]

    yield start
    for other, near, far in made:
        other.hang_up()
        other.join()
        near.close()
        far.close()
