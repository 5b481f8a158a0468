"""Where what Celery's and kombu's modules hold is to be found here: the map of a change of import root."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ROOTS = ("celery", "kombu")


class Place(NamedTuple):
    """A name here: a module, and what it is called there."""

    module: str
    name: str


MODULES: Mapping[str, str] = {
    **{
        f"celery{path}": f"cardoon{path}"
        for path in (
            "",
            ".app",
            ".app.base",
            ".app.control",
            ".app.log",
            ".app.registry",
            ".app.task",
            ".app.utils",
            ".canvas",
            ".contrib.abortable",
            ".contrib.django",
            ".contrib.django.task",
            ".contrib.pytest",
            ".contrib.testing",
            ".contrib.testing.app",
            ".contrib.testing.worker",
            ".events",
            ".events.dispatcher",
            ".events.receiver",
            ".events.snapshot",
            ".events.state",
            ".exceptions",
            ".result",
            ".schedules",
            ".signals",
            ".states",
            ".utils",
            ".utils.log",
            ".utils.nodenames",
            ".worker.control",
        )
    },
    "celery._state": "cardoon.app",
    "celery.contrib": "cardoon.contrib",
    "celery.worker": "cardoon.worker",
    "kombu": "cardoon.queues",
    "kombu.common": "cardoon.queues",
    "kombu.entity": "cardoon.queues",
    "kombu.exceptions": "cardoon.exceptions",
    "kombu.log": "cardoon.utils.log",
    "kombu.serialization": "cardoon.serialization",
    "kombu.utils": "cardoon.utils",
    "kombu.utils.uuid": "cardoon.utils",
}
"""Modules that have a counterpart, names and all, but for those below."""

_RENAMED = {
    "celery.chord_signature": "cardoon:chord",
    "celery.maybe_subtask": "cardoon:maybe_signature",
    "celery._state.get_current_app": "cardoon.app:current_application",
    "celery.contrib.testing.app.TestApp": "cardoon.contrib.testing.app:TestApp",
}

_NO_AMQP = "there are no AMQP connections here; Cardoon's brokers move its messages"
_NO_MODULE = {
    "celery.app": "the parts of Celery's App that Cardoon has are attributes of the app",
    "celery.apps": "the worker is started with the command `cardoon`",
    "celery.backends": "read results with AsyncResult, or in bulk with app.backend",
    "celery.beat": "entries come from beat_schedule or app.schedules; run `cardoon beat`, or cardoon.beat.Beat(app)",
    "celery.bin": "the command is `cardoon`; it takes no options of an app's own",
    "celery.bootsteps": "the worker's parts cannot be extended",
    "celery.concurrency": "choose a pool with worker_pool: prefork, isolated, threads, asyncio or solo",
    "celery.contrib": "of the modules in celery.contrib it is not one that Cardoon has",
    "celery.decorators": "it left Celery long ago; use app.task or shared_task",
    "celery.events": "the view of a cluster is `cardoon events`; see cardoon.events",
    "celery.fixups": "import what a framework needs from cardoon.contrib",
    "celery.loaders": "use app.config_from_object, and app.loader to import modules",
    "celery.local": "use werkzeug.local, or the object itself",
    "celery.platforms": "the command `cardoon worker` has --detach, --pidfile, --uid and --gid",
    "celery.security": "messages are signed anyway; see app.setup_security",
    "celery.task": "it left Celery long ago; use app.task or shared_task",
    "celery.utils": "Celery's helpers are not mirrored; the standard library has most of them",
    "celery.worker": "the worker's parts cannot be exchanged",
    **dict.fromkeys(
        ("kombu", "kombu.common", "kombu.connection", "kombu.messaging", "kombu.mixins"), _NO_AMQP
    ),
    **dict.fromkeys(("kombu.pools", "kombu.simple", "kombu.transport", "kombu.pidbox"), _NO_AMQP),
    "celery": "Cardoon has nothing of that name",
}
"""Why there is no such module, by the longest name that fits."""

_NO_NAME = {
    ("kombu", "Connection"): _NO_AMQP,
    ("kombu", "Consumer"): _NO_AMQP,
    ("kombu", "Producer"): _NO_AMQP,
    ("kombu", "connections"): _NO_AMQP,
    ("kombu", "producers"): _NO_AMQP,
    ("celery._state", "_tls"): "use current_app and app.set_current",
}


def is_mapped(module: str) -> bool:
    """Whether a module is Celery's or kombu's."""
    return module.partition(".")[0] in ROOTS


def find_place(module: str, name: str) -> Place | None:
    """Where a name of a module of Celery's is here, if it can be; None if the module has no counterpart."""
    renamed = _RENAMED.get(f"{module}.{name}")
    if renamed is not None:
        home, _, called = renamed.partition(":")
        return Place(home, called)
    home = MODULES.get(module, "")
    if not home or (module, name) in _NO_NAME:
        return None
    return Place(home, name)


def why_absent(module: str, name: str) -> str:
    """Why a name in a module of Celery's, or a module in a package, is not here; what to do instead."""
    full = f"{module}.{name}" if module else name
    if full in MODULES:
        return f"{MODULES[full]} is not in this version"
    if (module, name) in _NO_NAME:
        return _NO_NAME[module, name]
    known = full
    while known not in _NO_MODULE:
        known = known.rpartition(".")[0]
    if known in ROOTS and module in MODULES:
        return f"{MODULES[module]} has no {name!r} in this version"
    return _NO_MODULE[known]
