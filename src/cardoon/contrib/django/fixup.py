"""What changes about an app in a Django project; an app does it by itself, see `cardoon.fixups`.

In clients: `DjangoTask` as the base of tasks, Django's time zone as the app's. In workers, besides:
Django is set up and checked before tasks are imported, and connections live as long as those of a view.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

import django
from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.management.base import BaseCommand
from django.db import Error as DatabaseError
from django.db import connections

from cardoon.app import Cardoon
from cardoon.contrib.django.task import DjangoTask
from cardoon.signals import (
    import_modules,
    task_postrun,
    task_prerun,
    worker_before_create_process,
    worker_init,
    worker_process_init,
)
from cardoon.task import Task

__all__ = ["DjangoFixup", "install"]

logger = logging.getLogger(__name__)

SKIP_VARIABLE = "CELERY_SKIP_CHECKS"
"""What `cardoon --skip-checks` sets, under Celery's name."""


class _Begun(NamedTuple):
    """How a task has begun."""

    within: frozenset[str] = frozenset()
    """The databases in whose transactions: none, but in tests."""
    context: ThreadSensitiveContext | None = None
    """Of a coroutine: what its own thread is known by, if it comes to need one."""
    token: Token[ThreadSensitiveContext] | None = None


_begun: ContextVar[_Begun | None] = ContextVar("cardoon_django_begun", default=None)
_inherited: list[Any] = []
"""Connections of the process that this one was forked from. To close them would end them there, too."""


def install(app: Cardoon) -> DjangoFixup:
    """Adapt an app to Django; an app does it by itself where `DJANGO_SETTINGS_MODULE` is set."""
    if app.Task is Task:
        app.Task = DjangoTask
    fixup = DjangoFixup(app)
    app.on_configure.connect(fixup.configure)  # which keeps it as long as the app
    import_modules.connect(fixup.set_up)
    worker_init.connect(fixup.begin)
    return fixup


class DjangoFixup:
    """What Django's presence changes about one app."""

    def __init__(self, app: Cardoon) -> None:
        self._app = weakref.ref(app)

    def configure(self, **_: Any) -> None:
        """Take Django's `TIME_ZONE`, if the project sets it and the app has no `timezone` of its own.

        Where nobody has read the project's settings, as in a command for operators, nor does this.
        """
        app = self._app()
        if app is None or not settings.configured:
            return
        if settings.is_overridden("TIME_ZONE") and settings.TIME_ZONE:
            app.add_defaults({"timezone": settings.TIME_ZONE})

    def set_up(self, sender: Any = None, **_: Any) -> None:
        """Before tasks are imported: what `manage.py` does at its start."""
        app = self._app()
        if app is None or sender is not app:
            return
        if not apps.ready:
            with _logging_kept(hijacked=app.settings.worker_hijack_root_logger):
                django.setup()
        self.configure()  # of an app that has its settings from elsewhere
        if not os.environ.get(SKIP_VARIABLE):
            BaseCommand().check()  # writes warnings, and raises errors

    def begin(self, sender: Any = None, **_: Any) -> None:
        """When a worker starts: mind the connections from now on."""
        if getattr(sender, "app", None) is not self._app():
            return
        task_prerun.connect(before_task, dispatch_uid=__name__)
        task_postrun.connect(after_task, dispatch_uid=__name__)
        worker_before_create_process.connect(before_fork, dispatch_uid=__name__)
        worker_process_init.connect(after_fork, dispatch_uid=__name__)
        before_fork()


def before_task(task: Any = None, **_: Any) -> None:
    """Begin as a request does: without queries of others, and connections that are too old or broken.

    The blocking parts of a coroutine get a thread of their own, as those of an asynchronous view.
    """
    if task is None or task.request.is_eager:
        return
    within = []
    for connection in connections.all(initialized_only=True):
        connection.queries_log.clear()
        if connection.in_atomic_block:
            within.append(connection.alias)
        else:
            connection.close_if_unusable_or_obsolete()
    context = token = None
    if iscoroutinefunction(task.run):
        context = ThreadSensitiveContext()
        token = SyncToAsync.thread_sensitive_context.set(context)
    _begun.set(_Begun(frozenset(within), context, token))


def after_task(task: Any = None, **_: Any) -> None:
    """End as a request does: connections closed as `CONN_MAX_AGE` says, caches closed."""
    if task is None or task.request.is_eager:
        return
    begun = _begun.get() or _Begun()
    _begun.set(None)
    if begun.context is not None and begun.token is not None:
        _end_thread(begun.context, begun.token)
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        elif connection.alias not in begun.within:
            _roll_back(connection, task)
    caches.close_all()


def before_fork(**_: Any) -> None:
    """Close what is open, so that a new process inherits nothing."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
        if _has_pool(connection):
            connection.close_pool()
    caches.close_all()


def after_fork(**_: Any) -> None:
    """Leave alone what was inherited nevertheless: to close it would end it in the other process, too."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None:
            _inherited.append(connection)
            del connections[connection.alias]
    caches.close_all()


def _end_thread(context: ThreadSensitiveContext, token: Token[ThreadSensitiveContext]) -> None:
    """Have the thread of a coroutine's blocking parts, if it had any, close its connections, and end."""
    SyncToAsync.thread_sensitive_context.reset(token)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None)
    if executor is not None:
        executor.submit(connections.close_all)
        executor.shutdown(wait=False)


def _roll_back(connection: Any, task: Any) -> None:
    """A task has left a transaction open: an interrupt may have come where Django could not undo it.

    Whatever ran on this connection afterwards would never be committed, so it is given up.
    """
    logger.error(
        "task %s[%s] left a transaction on database %r open; it is rolled back",
        task.name,
        task.request.id,
        connection.alias,
    )
    del connections[connection.alias]
    if connection.connection is not None:
        try:
            with connection.wrap_database_errors:
                connection.connection.close()
        except DatabaseError as error:
            logger.warning("database %r: %s", connection.alias, error)


def _has_pool(connection: Any) -> bool:
    # Asking for `connection.pool` would make one.
    return connection.alias in getattr(connection, "_connection_pools", ())


@contextmanager
def _logging_kept(*, hijacked: bool) -> Iterator[None]:
    """Let `LOGGING` add what it says, and take nothing from the worker's own logging.

    A dictionary without `disable_existing_loggers` disables every logger there is. Where the worker has
    taken the root logger (`worker_hijack_root_logger`), it keeps it.
    """
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    tasks = logging.getLogger("cardoon.task")
    enabled = [one for one in _loggers() if not one.disabled]
    task_handlers, propagates = tasks.handlers[:], tasks.propagate
    try:
        yield
    finally:
        for one in enabled:
            one.disabled = False
        if hijacked and handlers:
            root.setLevel(level)
            root.handlers[:] = handlers
            tasks.handlers[:], tasks.propagate = task_handlers, propagates


def _loggers() -> Sequence[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [one for one in known if isinstance(one, logging.Logger)]
