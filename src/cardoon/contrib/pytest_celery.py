"""The fixtures of `cardoon.contrib.pytest` under Celery's names.

That module loads this one by itself, unless Celery's own plugin is there, which has the same names.
`pytest_plugins = ["cardoon.contrib.pytest_celery"]` loads it in any case. For pytest:
PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from cardoon.contrib.pytest import made_app, made_worker

if TYPE_CHECKING:
    from pathlib import Path

    from cardoon.app import Cardoon
    from cardoon.contrib.testing.worker import TestWorkController


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings of the app; override it."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Further arguments of `Celery`, such as `task_cls`; override it."""
    return {}


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Whether what the worker logs from level info on is in pytest's report; override it."""
    return False


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Whether code fails that asks for the current app; override it."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Modules to import before the worker starts; override it."""
    return ()


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Classes or instances of tasks to register with the session's app; override it."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """The worker's pool; override it."""
    return "solo"


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Further arguments of `start_worker`, such as `queues`; override it."""
    return {}


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    use_celery_app_trap: bool,  # noqa: FBT001  # pytest gives it by name
    cardoon_state_directory: Path,
) -> Iterator[Cardoon]:
    """An app for this test."""
    with made_app(
        request,
        config=celery_config,
        parameters=celery_parameters,
        use_trap=use_celery_app_trap,
        state_directory=cardoon_state_directory,
    ) as app:
        yield app


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    use_celery_app_trap: bool,  # noqa: FBT001  # pytest gives it by name
    cardoon_state_directory: Path,
) -> Iterator[Cardoon]:
    """An app for all tests; the current one, unless the trap is wanted."""
    with made_app(
        request,
        config=celery_config,
        parameters=celery_parameters,
        use_trap=use_celery_app_trap,
        state_directory=cardoon_state_directory,
        is_default=True,
    ) as app:
        yield app


@pytest.fixture
def celery_worker(
    celery_app: Cardoon,
    celery_includes: Sequence[str],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
    celery_enable_logging: bool,  # noqa: FBT001  # pytest gives it by name
) -> Iterator[TestWorkController | None]:
    """A worker of `celery_app`, in a thread."""
    with made_worker(
        celery_app,
        includes=celery_includes,
        pool=celery_worker_pool,
        parameters=celery_worker_parameters,
        enable_logging=celery_enable_logging,
    ) as worker:
        yield worker


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Cardoon,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
    celery_enable_logging: bool,  # noqa: FBT001  # pytest gives it by name
) -> Iterator[TestWorkController | None]:
    """A worker of `celery_session_app`, in a thread, for all tests."""
    with made_worker(
        celery_session_app,
        includes=celery_includes,
        class_tasks=celery_class_tasks,
        pool=celery_worker_pool,
        parameters=celery_worker_parameters,
        enable_logging=celery_enable_logging,
    ) as worker:
        yield worker


@pytest.fixture
def depends_on_current_app(celery_app: Cardoon) -> None:
    """Make `celery_app` the current one."""
    celery_app.set_default()
