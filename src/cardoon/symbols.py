"""Objects that settings name: imported when they are first needed, by those who need them."""

from __future__ import annotations

import importlib
from typing import Any

from cardoon.exceptions import ImproperlyConfigured


def load_symbol(name: str, *, setting: str) -> Any:
    """What `package.module.name` or `package.module:name` names.

    `ImproperlyConfigured` if it is not there; what its module raises is raised.
    """
    module, mark, attribute = name.partition(":")
    if not mark:
        module, _, attribute = name.rpartition(".")
    if not module or not attribute:
        raise ImproperlyConfigured(f"{setting}: {name!r} names nothing; write package.module.name")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ImproperlyConfigured(f"{setting}: {name!r}: {error}") from error
    try:
        return getattr(found, attribute)
    except AttributeError as error:
        raise ImproperlyConfigured(f"{setting}: {name!r}: {error}") from error
