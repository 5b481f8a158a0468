"""Finds the app that `-A` names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from cardoon.app import Cardoon
from cardoon.exceptions import ImproperlyConfigured

_NAMES = ("app", "celery", "cardoon", "application")
_SUBMODULES = ("cardoon", "celery", "tasks")


def load_app(target: str) -> Cardoon:
    """The app of `module`, `module:attribute`, or `package` (with `package.cardoon` or `.celery`).

    The working directory is searched first, as Celery does. Errors inside the module are raised as
    they are: they are the user's to see.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    name, _, attribute = target.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ImproperlyConfigured(f"-A {target!r} is not the name of a module; write module:app")
    if not _exists(name):
        raise ImproperlyConfigured(
            f"-A {target!r}: there is no module {name!r} in {here} or on the Python path"
        )
    module = importlib.import_module(name)
    if attribute:
        found = getattr(module, attribute, None)
        if isinstance(found, Cardoon):
            return found
        raise ImproperlyConfigured(f"-A {target!r}: {name}.{attribute} is not a Cardoon app")
    return _find_app(module, target)


def load_modules(app: Cardoon) -> None:
    """Import what the settings `include` and `imports` name, and what was to be discovered."""
    app.discover()
    for name in (*app.settings.include, *app.settings.imports):
        if not _exists(name):
            raise ImproperlyConfigured(f"include: there is no module {name!r} on the Python path")
        importlib.import_module(name)


def _find_app(module: ModuleType, target: str) -> Cardoon:
    modules = [module]
    if hasattr(module, "__path__"):
        names = [f"{module.__name__}.{name}" for name in _SUBMODULES]
        modules += [importlib.import_module(name) for name in names if _exists(name)]
    for place in modules:
        members = vars(place)
        candidates = [members.get(name) for name in _NAMES] + list(members.values())
        for candidate in candidates:
            if isinstance(candidate, Cardoon):
                return candidate
    raise ImproperlyConfigured(f"-A {target!r}: no Cardoon app in {module.__name__}")


def _exists(name: str) -> bool:
    """Whether there is such a module. What its packages raise on import is for the user to see."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return False
        raise
    except ValueError:  # a module that was not found by name, such as __main__
        return name in sys.modules
