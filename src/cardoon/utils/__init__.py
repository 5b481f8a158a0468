"""Names that Celery users import; nothing else lives here."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from cardoon.clock import SystemClock
from cardoon.ids import make_id
from cardoon.log import LOG_LEVELS

__all__ = ["LOG_LEVELS", "cached_property", "gen_unique_id", "uuid"]

_NOT_HERE = {
    "chunks": "slice the sequence, or use task.chunks",
    "gen_task_name": "use app.gen_task_name",
    "get_cls_by_name": "import the class",
    "get_full_cls_name": "use __module__ and __qualname__",
    "import_from_cwd": "use app.loader.import_from_cwd",
    "instantiate": "import the class and call it",
    "memoize": "use functools.lru_cache",
    "noop": "write a lambda",
}


def uuid() -> str:
    """A new task id: a UUID of version 7, as text."""
    return make_id(SystemClock())


gen_unique_id = uuid


def __getattr__(name: str) -> Any:
    # An ImportError, because `from ... import` would drop the text of an AttributeError.
    if name in _NOT_HERE:
        raise ImportError(f"cardoon.utils has no {name}: {_NOT_HERE[name]}")
    raise AttributeError(f"module 'cardoon.utils' has no attribute {name!r}")
