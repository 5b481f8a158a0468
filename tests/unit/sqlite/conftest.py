"""Fixtures for tests of what processes share."""

from __future__ import annotations

import pytest

from tests.unit.sqlite import processes


@pytest.fixture
def start():
    """Start a role of `processes`; whatever still runs after the test is killed."""
    started = []

    def start_one(role, path, *arguments):
        started.append(processes.start(role, path, *arguments))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
