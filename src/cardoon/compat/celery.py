"""Lets `import celery` mean Cardoon, for code whose imports cannot be changed yet.

    from cardoon.compat import celery

    celery.install()  # before the first `import celery`: first in the package that `-A` names

From then on `celery`, `kombu` and their modules are stand-ins whose names are Cardoon's. What has no
counterpart is an `ImportError` that says what to do. `install` must be called in every process that
imports the code, as it is when it stands in the code's own package; nothing happens by importing this
module alone.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from cardoon import __version__
from cardoon.celery_modules import MODULES, ROOTS, find_place, why_absent
from cardoon.exceptions import ImproperlyConfigured

LEVEL = (5, 7, 0)
"""The version of Celery whose names are here; libraries that look at `celery.VERSION` see it."""


def install(*, kombu: bool = True) -> None:
    """Have `celery` mean Cardoon from now on, and `kombu` as well unless it is False; safe twice.

    `ImproperlyConfigured` if the real ones have been imported: part of the process would use one, and
    part the other.
    """
    roots = ROOTS if kombu else ("celery",)
    finder = next((one for one in sys.meta_path if isinstance(one, _Finder)), None)
    for root in roots:
        present = sys.modules.get(root)
        if present is not None and not isinstance(present, StandInModule):
            where = getattr(present, "__file__", None) or "unknown"
            raise ImproperlyConfigured(
                f"cardoon.compat.celery: the real {root} has been imported already, from {where}; call "
                "install() before anything imports it"
                + (", or install(kombu=False)" if root == "kombu" else "")
            )
    if finder is None:
        sys.meta_path.insert(0, _Finder(set(roots)))
    else:
        finder.roots |= set(roots)


def uninstall() -> None:
    """Undo `install`; what has been imported by then stays as it is where it is in use."""
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Finder)]
    for name, module in list(sys.modules.items()):
        if isinstance(module, StandInModule):
            del sys.modules[name]


class StandInModule(ModuleType):
    """A module of Celery's that holds nothing, and finds its names in Cardoon's."""

    def __getattr__(self, name: str) -> Any:
        module = self.__name__
        if f"{module}.{name}" in MODULES:
            return importlib.import_module(f"{module}.{name}")
        place = find_place(module, name)
        try:
            if place is not None:
                return getattr(importlib.import_module(place.module), place.name)
        except (AttributeError, ImportError):
            pass  # said below, with what to do instead
        raise AttributeError(f"{module}.{name} is not in Cardoon: {_why(f'{module}.{name}')}")

    def __dir__(self) -> list[str]:
        home = importlib.import_module(MODULES[self.__name__])
        return sorted({*super().__dir__(), *getattr(home, "__all__", ()), *dir(home)})


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the stand-ins."""

    def __init__(self, roots: set[str]) -> None:
        self.roots = roots

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # as importlib calls it
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """A stand-in's spec; an `ImportError` that says why for what has no counterpart.

        Python asks also for a name of a module that is not there, as in `from celery import x`; it would
        drop the text of a `ModuleNotFoundError`.
        """
        if fullname.partition(".")[0] not in self.roots:
            return None
        home = MODULES.get(fullname)
        if home is None or not (fullname in ROOTS or _is_there(home)):
            raise ImportError(f"{fullname} is not in Cardoon: {_why(fullname)}", name=fullname)
        return importlib.machinery.ModuleSpec(fullname, _Loader(), is_package=True)


class _Loader(importlib.abc.Loader):
    """Makes the stand-ins."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty one."""
        return StandInModule(spec.name, f"Stands in for {spec.name}; see cardoon.compat.celery.")

    def exec_module(self, module: ModuleType) -> None:
        """Say what it offers to `import *`, and which version it is of."""
        home = MODULES[module.__name__]
        names = getattr(importlib.import_module(home), "__all__", None) if _is_there(home) else None
        if names is not None:
            module.__dict__["__all__"] = [name for name in names if name != "__version__"]
        if module.__name__ in ROOTS:
            level = ".".join(map(str, LEVEL))
            module.__dict__["VERSION"] = (*LEVEL, "", "")
            module.__dict__["__version__"] = f"{level}+cardoon.{__version__}"


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return False
        raise
    return True


def _why(fullname: str) -> str:
    """Why a module, or a name in one, is not here."""
    module, _, name = fullname.rpartition(".")
    home = MODULES.get(module)
    if home is not None and fullname not in MODULES and _is_there(home):
        try:
            getattr(importlib.import_module(home), name, None)
        except ImportError as error:  # our own module knows the name, and says why not
            return str(error)
    return why_absent(module, name)
