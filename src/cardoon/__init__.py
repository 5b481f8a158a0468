"""Cardoon: a distributed task queue that trusts nobody.

    app, task, shared, canvas, result    what users call
    calling, sender, producer            how a call becomes a signed message on its way
    executor, eager, context, retrying   how a task's body is run
    worker/                              the processes that run tasks
    message/, security/                  the wire format, and who may ask for what
    broker, brokers/, sqlite/            the contract for moving messages, and its drivers
    backend, backends/                   the contract for keeping results, and its drivers
    deployment, config, option           from settings to the parts they describe
    audit, log, clock, exceptions, states, testing, cli/

Imports go down only; `pyproject.toml` has the order, and a check holds it.

The public names are loaded when they are first used, so that `cardoon --help` need not wait for
asyncio and the cryptography.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cardoon.app import Cardoon, Celery
    from cardoon.canvas import Signature
    from cardoon.result import AsyncResult, EagerResult
    from cardoon.shared import shared_task
    from cardoon.task import Task

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Cardoon",
    "Celery",
    "EagerResult",
    "Signature",
    "Task",
    "__version__",
    "shared_task",
]

_HOMES = {
    "AsyncResult": "cardoon.result",
    "Cardoon": "cardoon.app",
    "Celery": "cardoon.app",
    "EagerResult": "cardoon.result",
    "Signature": "cardoon.canvas",
    "Task": "cardoon.task",
    "shared_task": "cardoon.shared",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cardoon' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
