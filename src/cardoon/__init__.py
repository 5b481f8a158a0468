"""Cardoon: a distributed task queue that trusts nobody.

    app, task, shared, canvas, result    what users call
    calling, sender, producer            how a call becomes a signed message on its way
    control, stamps, lookup              revocations, labels, and where a message lies
    executor, eager, context, retrying   how a task's body is run
    worker/                              the processes that run tasks
    message/, security/                  the wire format, and who may ask for what
    broker, brokers/, sqlite/            the contract for moving messages, and its drivers
    backend, backends/                   the contract for keeping results, and its drivers
    deployment, config, option           from settings to the parts they describe
    schedules, timetable, cronfields     when periodic tasks are due
    audit, log, clock, exceptions, states, testing, contrib/, cli/

Imports go down only; `pyproject.toml` has the order, and a check holds it.

The public names are loaded when they are first used, so that `cardoon --help` need not wait for
asyncio and the cryptography.

For pytest, which would warn of it where our fixtures are loaded late: PYTEST_DONT_REWRITE
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cardoon import states
    from cardoon.app import Cardoon, Celery, bugreport, current_app, current_task
    from cardoon.canvas import (
        Signature,
        chain,
        chord,
        chunks,
        group,
        maybe_signature,
        signature,
        xmap,
        xstarmap,
    )
    from cardoon.canvas import signature as subtask
    from cardoon.result import AsyncResult, EagerResult, GroupResult, ResultSet
    from cardoon.sandbox.profile import Level, Sandbox
    from cardoon.shared import shared_task
    from cardoon.task import Task
    from cardoon.utils import uuid

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Cardoon",
    "Celery",
    "EagerResult",
    "GroupResult",
    "Level",
    "ResultSet",
    "Sandbox",
    "Signature",
    "Task",
    "__version__",
    "bugreport",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "states",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]

_HOMES = {
    "AsyncResult": "cardoon.result",
    "Cardoon": "cardoon.app",
    "Celery": "cardoon.app",
    "EagerResult": "cardoon.result",
    "GroupResult": "cardoon.result",
    "Level": "cardoon.sandbox.profile",
    "ResultSet": "cardoon.result",
    "Sandbox": "cardoon.sandbox.profile",
    "Signature": "cardoon.canvas",
    "Task": "cardoon.task",
    "bugreport": "cardoon.app",
    "chain": "cardoon.canvas",
    "chord": "cardoon.canvas",
    "chunks": "cardoon.canvas",
    "current_app": "cardoon.app",
    "current_task": "cardoon.app",
    "group": "cardoon.canvas",
    "maybe_signature": "cardoon.canvas",
    "shared_task": "cardoon.shared",
    "signature": "cardoon.canvas",
    "subtask": "cardoon.canvas:signature",
    "uuid": "cardoon.utils",
    "xmap": "cardoon.canvas",
    "xstarmap": "cardoon.canvas",
}


_MODULES = ("signals", "states")
"""Modules that are used as attributes of the package, as in `cardoon.states.SUCCESS`."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        try:
            return importlib.import_module(f"cardoon.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"module 'cardoon' has no attribute {name!r}") from error
    if name not in _HOMES:
        raise AttributeError(f"module 'cardoon' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)
