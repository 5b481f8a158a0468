"""Imports the modules that hold an app's tasks: `app.loader`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from cardoon.config import Settings
from cardoon.exceptions import ImproperlyConfigured
from cardoon.signals import import_modules


class Loading(Protocol):
    """What a loader needs of an app."""

    @property
    def settings(self) -> Settings:
        """The frozen settings of this moment."""
        ...

    def discover(self) -> None:
        """Carry out what `autodiscover_tasks` asked for."""
        ...

    def finalize(self) -> None:
        """Say that the app's tasks are known."""
        ...

    def autodiscover_tasks(
        self,
        packages: Sequence[str] | Callable[[], Sequence[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
    ) -> None:
        """Import the tasks of packages."""
        ...


class Loader:
    """Imports what an app's settings name."""

    def __init__(self, app: Loading) -> None:
        self._app = app

    @property
    def default_modules(self) -> tuple[str, ...]:
        """What the settings `include` and `imports` name."""
        settings = self._app.settings
        return (*settings.include, *settings.imports)

    def import_default_modules(self) -> list[ModuleType]:
        """Import those, and what was to be discovered: what a worker does at its start.

        Receivers of `import_modules` come first; what they raise is raised.
        """
        self._app.settings  # noqa: B018  # read before tasks are made, so that on_after_configure is first
        for _, answer in import_modules.send(sender=self._app):
            if isinstance(answer, Exception):
                raise answer
        self._app.discover()
        found = [self._import_included(name) for name in self.default_modules]
        self._app.finalize()
        return found

    def import_task_module(self, module: str) -> ModuleType:
        """Import a module that declares tasks; `ImportError` as Python raises it."""
        return importlib.import_module(module)

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        """`importlib.import_module`."""
        return importlib.import_module(module, package)

    def import_from_cwd(self, module: str, package: str | None = None) -> ModuleType:
        """Import a module, looking into the working directory first."""
        look_here_first()
        return importlib.import_module(module, package)

    def autodiscover_tasks(self, packages: Sequence[str], related_name: str = "tasks") -> None:
        """Import `tasks` of each package, now."""
        self._app.autodiscover_tasks(packages, related_name, True)

    def _import_included(self, name: str) -> ModuleType:
        if not is_importable(name):
            raise ImproperlyConfigured(f"include: there is no module {name!r} on the Python path")
        return importlib.import_module(name)


def load_symbol(name: str) -> Any:
    """What `module:name` or `module.name` means; `ImproperlyConfigured` if there is no such thing."""
    module, mark, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not (module and mark and attribute):
        raise ImproperlyConfigured(f"{name!r} does not name a class; write module:Class")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(f"{name!r}: {error}; write module:Class") from error
    except AttributeError as error:
        raise ImproperlyConfigured(f"{name!r}: {error}") from error


def look_here_first() -> None:
    """Put the working directory on the Python path."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def is_importable(name: str) -> bool:
    """Whether there is such a module. What its packages raise on import is for the user to see."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return False
        raise
    except ValueError:  # a module that was not found by name, such as __main__
        return name in sys.modules
