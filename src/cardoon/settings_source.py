"""Settings and tasks from where users keep them: modules, objects, dicts, Django's settings."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from cardoon.celery_names import OLD_NAMES
from cardoon.celery_settings import REFUSED, UNNEEDED
from cardoon.config import OPTIONS
from cardoon.exceptions import ImproperlyConfigured


def read_source(source: object, *, namespace: str | None = None) -> dict[str, Any]:
    """The settings in `source`: a dict, an object, or the name of a module or of `module:object`.

    With `namespace="CELERY"` those whose name begins with `CELERY_`, in capitals as Django has them or
    not. Without, of a dict everything; of a module what is named like a setting, since a module has other
    names, too. `ImproperlyConfigured` for what cannot be imported, and for a name that is nearly a
    setting's.
    """
    if isinstance(source, str):
        source = _load(source)
    if isinstance(source, Mapping):
        found, is_strict = dict(source), True
    else:
        names = [name for name in dir(source) if not name.startswith("_")]
        found, is_strict = {name: getattr(source, name) for name in names}, False
    if namespace:
        prefix = namespace.rstrip("_").lower() + "_"
        return {
            _in_namespace(name, prefix): value
            for name, value in found.items()
            if name.lower().startswith(prefix)
        }
    return {name: value for name, value in found.items() if is_strict or _is_meant(name, value)}


def is_unfinished(source: object) -> bool:
    """Whether the module with the settings is being imported at this moment, and has not all of them yet.

    So it is where Django's settings import the project's package, and that makes the app.
    """
    if not isinstance(source, str):
        return False
    name = source.partition(":")[0]
    if name == "django.conf":
        name = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _in_namespace(name: str, prefix: str) -> str:
    """What a setting is called whose name has the prefix; CELERY_ALWAYS_EAGER is an old name."""
    plain = name.lower().removeprefix(prefix)
    return plain if plain in OPTIONS or plain in UNNEEDED else OLD_NAMES.get(name.upper(), plain)


def _load(name: str) -> object:
    module, _, attribute = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in filter(None, attribute.split(".")):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            f"config_from_object: {name!r}: {error}; write module or module:object"
        ) from error
    except AttributeError as error:
        raise ImproperlyConfigured(f"config_from_object: {name!r}: {error}") from error
    return found


def _is_meant(name: str, value: object) -> bool:
    if name in OPTIONS or name in UNNEEDED or name in REFUSED or name in OLD_NAMES:
        return True
    if not name.islower() or isinstance(value, (ModuleType, FunctionType, type)):
        return False
    return bool(difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.85))


Packages: TypeAlias = "Sequence[str] | Callable[[], Sequence[str]] | None"


def import_related(packages: Packages, related_name: str | None) -> None:
    """Import a module of each package that has it; without packages those of Django's apps."""
    found = packages() if callable(packages) else packages
    for package in _django_apps() if found is None else found:
        name = f"{package}.{related_name}" if related_name else package
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise


def _django_apps() -> Sequence[str]:
    try:
        registry = importlib.import_module("django.apps").apps
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            "autodiscover_tasks: name the packages; without Django there is no list of them"
        ) from error
    return [config.name for config in registry.get_app_configs()]
