"""Servers that tests share, since each takes seconds to start, and what they leave as it was."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cardoon.log import TASK_LOGGER, release_logging
from tests.forks import pytest_fixture_setup, pytest_pyfunc_call
from tests.servers.ground import Authority, running
from tests.servers.rabbitmq import RabbitServer

__all__ = ["pytest_fixture_setup", "pytest_pyfunc_call"]

# A process that tests start and that is aborted says where it was.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")

# How fast inputs are made tells of what else the machine does, and not of what is tested.
settings.register_profile(
    "tests",
    parent=settings(),
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands that run in the tests' own process set logging up for good."""
    root, tasks = logging.getLogger(), logging.getLogger(TASK_LOGGER)
    level, propagates = root.level, tasks.propagate
    yield
    release_logging()
    root.setLevel(level)
    tasks.propagate = propagates


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ node for everybody: tests use prefixes of their own, and leave it running."""
    with running(RabbitServer(tmp_path_factory.mktemp("rabbitmq"))) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ node that takes encrypted connections only."""
    folder: Path = tmp_path_factory.mktemp("rabbitmq-tls")
    with running(RabbitServer(folder, tls=Authority(folder / "authority"))) as server:
        yield server
