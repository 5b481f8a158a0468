"""The backend of `django.tasks`: `TASKS = {"default": {"BACKEND": "cardoon.contrib.django.tasks.CardoonBackend"}}`.

Imported whenever tasks of installed apps are discovered, by projects without `django.tasks`, too; so what
needs that is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cardoon.contrib.django.task_backend import CardoonBackend

__all__ = ["CardoonBackend"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("cardoon.contrib.django.task_backend"), name)
