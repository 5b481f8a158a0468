"""Fixtures for pytest; loaded by itself where Cardoon and pytest are installed.

    cardoon_app, cardoon_worker                     an app, and a worker in a thread, for one test
    cardoon_session_app, cardoon_session_worker     the same for all tests
    cardoon_config, cardoon_parameters, ...         to be overridden, as Celery's are
    @pytest.mark.cardoon(name=value)                settings of cardoon_app for one test

Messages are signed, with an identity made for the session; the broker is in memory. The fixtures are
there under Celery's names as well (`cardoon.contrib.pytest_celery`), unless Celery's own plugin is
loaded. For pytest: PYTEST_DONT_REWRITE
"""

# Nothing of Cardoon is imported before a fixture is used: every run of pytest loads this module, and
# whoever measures coverage has not begun yet.
from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cardoon.app import Cardoon
    from cardoon.contrib.testing.worker import TestWorkController

MARKS = ("celery", "cardoon")
CELERY_NAMES = "cardoon.contrib.pytest_celery"
_OTHER_PLUGINS = ("celery.contrib.pytest", "pytest_celery")
"""What has fixtures of the same names."""


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marks, and load the fixtures under Celery's names if nobody else has them."""
    for name in MARKS:
        config.addinivalue_line(
            "markers", f"{name}(**settings): settings of the app of {name}_app in this test"
        )
    manager = config.pluginmanager
    names = {str(getattr(plugin, "__name__", "")) for plugin in manager.get_plugins()}
    if not any(name.startswith(_OTHER_PLUGINS) for name in names) and CELERY_NAMES not in names:
        manager.import_plugin(CELERY_NAMES)


@contextmanager
def made_app(
    request: pytest.FixtureRequest,
    *,
    config: Mapping[str, Any],
    parameters: Mapping[str, Any],
    use_trap: bool,
    state_directory: Path,
    is_default: bool = False,
) -> Iterator[Cardoon]:
    """An app by the fixtures that describe it and the marks of the test."""
    testing = importlib.import_module("cardoon.contrib.testing.app")
    settings = {"state_directory": str(state_directory), **config}
    for name in MARKS:
        for mark in reversed(list(request.node.iter_markers(name))):
            settings.update(mark.kwargs)
    with ExitStack() as exits:
        app: Cardoon = testing.TestApp(config=settings, **parameters)
        exits.enter_context(testing.setup_default_app(app, use_trap=use_trap))
        if is_default and not use_trap:
            app.set_default()
        yield app


@contextmanager
def made_worker(
    app: Cardoon,
    *,
    includes: Sequence[str],
    class_tasks: Sequence[Any] = (),
    pool: str,
    parameters: Mapping[str, Any],
    enable_logging: bool,
) -> Iterator[TestWorkController | None]:
    """A worker by the fixtures that describe it; None where `NO_WORKER` is set in the environment."""
    if os.environ.get("NO_WORKER"):
        yield None
        return
    for module in includes:
        importlib.import_module(module)
    for task in class_tasks:
        app.register_task(task() if isinstance(task, type) else task)
    testing = importlib.import_module("cardoon.contrib.testing.worker")
    told = {"loglevel": "info"} if enable_logging else {}
    with testing.start_worker(app, pool=pool, **{**told, **parameters}) as worker:
        yield worker


@pytest.fixture(scope="session")
def cardoon_state_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the identities of this session are."""
    folder = tmp_path_factory.mktemp("cardoon")
    importlib.import_module("cardoon.contrib.testing.app").make_identities(str(folder))
    return folder


@pytest.fixture(scope="session")
def cardoon_config() -> Mapping[str, Any]:
    """Settings of the app; override it."""
    return {}


@pytest.fixture(scope="session")
def cardoon_parameters() -> Mapping[str, Any]:
    """Further arguments of `Cardoon`, such as `task_cls`; override it."""
    return {}


@pytest.fixture(scope="session")
def cardoon_enable_logging() -> bool:
    """Whether what the worker logs from level info on is in pytest's report; override it."""
    return False


@pytest.fixture(scope="session")
def use_cardoon_app_trap() -> bool:
    """Whether code fails that asks for the current app; override it."""
    return False


@pytest.fixture(scope="session")
def cardoon_includes() -> Sequence[str]:
    """Modules to import before the worker starts; override it."""
    return ()


@pytest.fixture(scope="session")
def cardoon_class_tasks() -> Sequence[Any]:
    """Classes or instances of tasks to register with the session's app; override it."""
    return ()


@pytest.fixture(scope="session")
def cardoon_worker_pool() -> str:
    """The worker's pool; override it. See `start_worker` about others than solo."""
    return "solo"


@pytest.fixture(scope="session")
def cardoon_worker_parameters() -> Mapping[str, Any]:
    """Further arguments of `start_worker`, such as `queues`; override it."""
    return {}


@pytest.fixture
def cardoon_app(
    request: pytest.FixtureRequest,
    cardoon_config: Mapping[str, Any],
    cardoon_parameters: Mapping[str, Any],
    use_cardoon_app_trap: bool,  # noqa: FBT001  # pytest gives it by name
    cardoon_state_directory: Path,
) -> Iterator[Cardoon]:
    """An app for this test."""
    with made_app(
        request,
        config=cardoon_config,
        parameters=cardoon_parameters,
        use_trap=use_cardoon_app_trap,
        state_directory=cardoon_state_directory,
    ) as app:
        yield app


@pytest.fixture(scope="session")
def cardoon_session_app(
    request: pytest.FixtureRequest,
    cardoon_config: Mapping[str, Any],
    cardoon_parameters: Mapping[str, Any],
    use_cardoon_app_trap: bool,  # noqa: FBT001  # pytest gives it by name
    cardoon_state_directory: Path,
) -> Iterator[Cardoon]:
    """An app for all tests; the current one, unless the trap is wanted."""
    with made_app(
        request,
        config=cardoon_config,
        parameters=cardoon_parameters,
        use_trap=use_cardoon_app_trap,
        state_directory=cardoon_state_directory,
        is_default=True,
    ) as app:
        yield app


@pytest.fixture
def cardoon_worker(
    cardoon_app: Cardoon,
    cardoon_includes: Sequence[str],
    cardoon_worker_pool: str,
    cardoon_worker_parameters: Mapping[str, Any],
    cardoon_enable_logging: bool,  # noqa: FBT001  # pytest gives it by name
) -> Iterator[TestWorkController | None]:
    """A worker of `cardoon_app`, in a thread."""
    with made_worker(
        cardoon_app,
        includes=cardoon_includes,
        pool=cardoon_worker_pool,
        parameters=cardoon_worker_parameters,
        enable_logging=cardoon_enable_logging,
    ) as worker:
        yield worker


@pytest.fixture(scope="session")
def cardoon_session_worker(
    cardoon_session_app: Cardoon,
    cardoon_includes: Sequence[str],
    cardoon_class_tasks: Sequence[Any],
    cardoon_worker_pool: str,
    cardoon_worker_parameters: Mapping[str, Any],
    cardoon_enable_logging: bool,  # noqa: FBT001  # pytest gives it by name
) -> Iterator[TestWorkController | None]:
    """A worker of `cardoon_session_app`, in a thread, for all tests."""
    with made_worker(
        cardoon_session_app,
        includes=cardoon_includes,
        class_tasks=cardoon_class_tasks,
        pool=cardoon_worker_pool,
        parameters=cardoon_worker_parameters,
        enable_logging=cardoon_enable_logging,
    ) as worker:
        yield worker
