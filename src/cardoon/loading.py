"""Finds the app that `-A` names."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from cardoon.app import Cardoon
from cardoon.exceptions import ImproperlyConfigured
from cardoon.loader import is_importable, look_here_first

_NAMES = ("app", "celery", "cardoon", "application")
_SUBMODULES = ("cardoon", "celery", "tasks")


def load_app(target: str) -> Cardoon:
    """The app of `module`, `module:attribute`, or `package` (with `package.cardoon` or `.celery`).

    The working directory is searched first, as Celery does. Errors inside the module are raised as
    they are: they are the user's to see.
    """
    look_here_first()
    name, _, attribute = target.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ImproperlyConfigured(f"-A {target!r} is not the name of a module; write module:app")
    if not is_importable(name):
        raise ImproperlyConfigured(
            f"-A {target!r}: there is no module {name!r} in {Path.cwd()} or on the Python path"
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
    app.loader.import_default_modules()


def _find_app(module: ModuleType, target: str) -> Cardoon:
    modules = [module]
    if hasattr(module, "__path__"):
        names = [f"{module.__name__}.{name}" for name in _SUBMODULES]
        modules += [importlib.import_module(name) for name in names if is_importable(name)]
    for place in modules:
        members = vars(place)
        candidates = [members.get(name) for name in _NAMES] + list(members.values())
        for candidate in candidates:
            if isinstance(candidate, Cardoon):
                return candidate
    raise ImproperlyConfigured(f"-A {target!r}: no Cardoon app in {module.__name__}")
