"""Finds the app that `-A` names."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

from cardoon.app import Cardoon
from cardoon.exceptions import ImproperlyConfigured
from cardoon.loader import is_importable, look_here_first

_NAMES = ("app", "celery", "cardoon", "application")
_SUBMODULES = ("cardoon", "celery", "tasks")
_FACTORIES = ("make_celery", "make_cardoon", "create_celery", "create_app", "make_app")
_EXTENSIONS = ("cardoon", "celery")
"""Where a Flask application keeps its app."""


def load_app(target: str) -> Cardoon:
    """The app of `module`, `module:attribute`, or `package` (with `package.cardoon` or `.celery`).

    The attribute may be a path (`module:shop.queue`), may be written with a dot as well
    (`module.attribute`), and may be a function to call without arguments (`module:make_app()`). Where a
    Flask application is found, the app is the one that is made for it. The working directory is searched
    first, as Celery does. Errors inside the module are raised as they are: they are the user's to see.
    """
    look_here_first()
    name, _, attribute = target.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ImproperlyConfigured(f"-A {target!r} is not the name of a module; write module:app")
    if not attribute and not is_importable(name):
        name, attribute = _split_attribute(name)
    if not is_importable(name):
        raise ImproperlyConfigured(
            f"-A {target!r}: there is no module {name!r} in {Path.cwd()} or on the Python path"
        )
    module = importlib.import_module(name)
    return _follow(module, attribute, target) if attribute else _find_app(module, target)


def load_modules(app: Cardoon) -> None:
    """Import what the settings `include` and `imports` name, and what was to be discovered."""
    app.loader.import_default_modules()


def _split_attribute(name: str) -> tuple[str, str]:
    """`module.attribute` in two, if there is such a one; else the name as it is."""
    parent, _, last = name.rpartition(".")
    if parent and is_importable(parent) and hasattr(importlib.import_module(parent), last):
        return parent, last
    return name, ""


def _follow(module: ModuleType, attribute: str, target: str) -> Cardoon:
    """The app that an attribute of a module is, leads to, or makes."""
    path = attribute.removesuffix("()")
    if not all(part.isidentifier() for part in path.split(".")):
        raise ImproperlyConfigured(
            f"-A {target!r}: {attribute!r} is not an attribute; write module:app or module:make_app()"
        )
    found: object = module
    for part in path.split("."):
        found = getattr(found, part, None)
    told = f"{module.__name__}.{path}"
    if path != attribute:
        if not callable(found):
            raise ImproperlyConfigured(f"-A {target!r}: {told} is not a function")
        found, told = found(), f"what {told}() returns"
    app = _app_of(found)
    if app is not None:
        return app
    call = f"; write {module.__name__}:{path}() to call it" if inspect.isfunction(found) else ""
    raise ImproperlyConfigured(f"-A {target!r}: {told} is not a Cardoon app{call}")


def _find_app(module: ModuleType, target: str) -> Cardoon:
    modules = [module]
    if hasattr(module, "__path__"):
        names = [f"{module.__name__}.{name}" for name in _SUBMODULES]
        modules += [importlib.import_module(name) for name in names if is_importable(name)]
    for place in modules:
        members = vars(place)
        candidates = [members.get(name) for name in _NAMES] + list(members.values())
        for candidate in candidates:
            app = _app_of(candidate)
            if app is not None:
                return app
    factories = [name for name in _FACTORIES if inspect.isfunction(getattr(module, name, None))]
    call = f"; write {module.__name__}:{factories[0]}() to call it" if factories else ""
    raise ImproperlyConfigured(f"-A {target!r}: no Cardoon app in {module.__name__}{call}")


def _app_of(found: object) -> Cardoon | None:
    """The object itself, or the app that a Flask application keeps among its extensions."""
    if isinstance(found, Cardoon):
        return found
    # Looked at from outside: a module has proxies, too, which must not be asked for anything.
    extensions = inspect.getattr_static(found, "extensions", None)
    if isinstance(extensions, dict):
        for name in _EXTENSIONS:
            if isinstance(extensions.get(name), Cardoon):
                return extensions[name]  # type: ignore[no-any-return]  # as has just been seen
    return None
