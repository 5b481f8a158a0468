"""Runs the tasks of `django.tasks` (Django 6, or the package django-tasks) as tasks of Cardoon.

Each function that `@task` decorates becomes a Cardoon task of its module path, so routes, limits and
authorization hold for it by name. What a result is asked for besides its outcome (arguments, when it was
enqueued) is a signed note beside the results, since a message can be read by nobody but a worker.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from traceback import format_exception
from typing import Any

from django.core import checks
from django.db import transaction
from django.utils import timezone

from cardoon import states
from cardoon.app import Cardoon, current_application
from cardoon.calling import MAX_ID_BYTES
from cardoon.context import current_request
from cardoon.contrib.django.outbox import Outbox
from cardoon.contrib.django.task import DjangoTask
from cardoon.diverting import DIVERSION
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, RemoteError
from cardoon.loader import load_symbol
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.result import AsyncResult, EagerResult
from cardoon.sender import GroupKeeper
from cardoon.shared import shared_task

try:
    from django.tasks import signals
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import TaskContext, TaskError, TaskResult, TaskResultStatus
    from django.tasks.exceptions import TaskResultDoesNotExist
except ModuleNotFoundError:
    try:
        from django_tasks import signals
        from django_tasks.backends.base import BaseTaskBackend
        from django_tasks.base import TaskContext, TaskError, TaskResult, TaskResultStatus
        from django_tasks.exceptions import TaskResultDoesNotExist
    except ModuleNotFoundError as error:
        raise ImportError(
            f"cardoon.contrib.django.tasks: {error}; it needs Django 6, or pip install django-tasks"
        ) from error

DEFAULT_QUEUE = "default"
"""Django's name of what here is the setting `task_default_queue`."""
RUNNING = "RUNNING"
"""The state of a task that has begun, with when and where as its `meta`."""
_NOTE = "django:"
_HEADER = "django_task"
_STATUS: Mapping[str, Any] = {
    states.PENDING: TaskResultStatus.READY,
    states.RETRY: TaskResultStatus.READY,
    states.SUCCESS: TaskResultStatus.SUCCESSFUL,
    **dict.fromkeys(
        (states.FAILURE, states.REVOKED, states.REJECTED, states.IGNORED), TaskResultStatus.FAILED
    ),
}


class CardoonBackend(BaseTaskBackend):
    """A backend of `TASKS`.

    `QUEUES` are queues of Cardoon by the same names, but for `default`, which is the app's default
    queue. `OPTIONS` may name the `app`, as `module:name`, where it is not the current one.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        unknown = sorted(set(self.options) - {"app"})
        if unknown:
            raise ImproperlyConfigured(
                f"TASKS[{alias!r}]: unknown OPTIONS {unknown}; there is 'app'"
            )
        self._tasks: dict[str, Any] = {}

    @property
    def app(self) -> Cardoon:
        """The app that sends and runs the tasks."""
        name = self.options.get("app")
        found = load_symbol(name) if name else current_application()
        if isinstance(found, Cardoon):
            return found
        raise ImproperlyConfigured(f"TASKS[{self.alias!r}]: {name!r} is not a Cardoon app")

    def validate_task(self, task: Any) -> None:
        """Refuse what cannot run; what can is made known to workers."""
        super().validate_task(task)
        path = task.module_path
        if path not in self._tasks:
            self._tasks[path] = task
            shared_task(name=path, base=DjangoTask, typing=False)(_carrier(task))

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Send a call. `TypeError` for arguments that do not fit, or that JSON has not."""
        self.validate_task(task)
        context = (None,) if task.takes_context else ()
        inspect.signature(task.func).bind(*context, *args, **kwargs)
        app = self.app
        result = _result(task, app.new_id(), args, kwargs, timezone.now())
        self._keep_note(app, result)
        sent = app.tasks[task.module_path].apply_async(
            tuple(result.args),
            result.kwargs,
            task_id=result.id,
            queue=None if task.queue_name == DEFAULT_QUEUE else task.queue_name,
            priority=_priority(task.priority),
            eta=task.run_after,
            headers={_HEADER: _told(task, result)},
        )
        signals.task_enqueued.send(type(self), task_result=result)
        if isinstance(sent, EagerResult):
            _show(result, sent)
        return result

    def get_result(self, result_id: str) -> Any:
        """The task as it stands now; `TaskResultDoesNotExist` for an id that this backend has not sent.

        Of a task that task code has enqueued nothing is known before it begins, and its arguments never.
        """
        app = self.app
        if len(_NOTE + result_id) > MAX_ID_BYTES:
            raise TaskResultDoesNotExist(result_id)
        try:
            handle = app.AsyncResult(result_id)
        except InvalidTaskError as error:
            raise TaskResultDoesNotExist(result_id) from error
        sender = app.sender
        note = sender.load_group(_NOTE + result_id) if isinstance(sender, GroupKeeper) else None
        report = sender.load([handle.handle]).get(result_id)
        if note is not None:
            content = decode_body(note.codec, note.body, max_bytes=app.max_result_bytes)
            path, args, kwargs, told = content["note"]
        elif report is not None:
            path, args, kwargs, told = report.task, [], {}, {}
        else:
            raise TaskResultDoesNotExist(result_id)
        task = self._tasks.get(path) or self._import(path)
        if task is None:
            raise TaskResultDoesNotExist(result_id)
        result = _result(
            _as_sent(task, told), result_id, args, kwargs, _moment(told.get("enqueued"))
        )
        if report is not None:
            handle.accept(report)
            _show(result, handle)
        return result

    def check(self, **_: Any) -> Iterable[Any]:
        """What Django's checks say of this backend."""
        try:
            self.app  # noqa: B018  # raises
        except (ImproperlyConfigured, ImportError) as error:
            yield checks.Error(
                f"TASKS[{self.alias!r}]: {error}",
                hint="Make the app in the project's package, or name it in OPTIONS: {'app': 'shop.celery:app'}.",
                id="cardoon.E001",
            )

    def _keep_note(self, app: Cardoon, result: Any) -> None:
        """Keep what the message says of the task, behind the commit where the message waits for one."""
        sender = app.sender
        if not isinstance(sender, GroupKeeper) or app.settings.task_always_eager:
            return  # task code cannot sign
        task = result.task
        note = [task.module_path, result.args, result.kwargs, _told(task, result)]
        body = encode_body({"note": note}, JSON)
        diversion = DIVERSION.get()
        if not isinstance(diversion, Outbox):
            sender.save_group(_NOTE + result.id, JSON, body)
            return

        def keep() -> None:
            sender.save_group(_NOTE + result.id, JSON, body)

        transaction.on_commit(keep, using=diversion.alias, robust=True)

    def _import(self, path: str) -> Any:
        """The task of a module that this process has not imported yet; None if there is none."""
        try:
            load_symbol(path)
        except ImproperlyConfigured:
            return None
        return self._tasks.get(path)


def _carrier(task: Any) -> Any:
    """What a worker runs for a task: its function, with context, signals and states."""
    if inspect.iscoroutinefunction(task.func):

        @functools.wraps(task.func)
        async def carry_async(*args: Any, **kwargs: Any) -> Any:
            with _begun(task, args, kwargs) as run:
                return run.end(await task.func(*run.context, *args, **kwargs))

        return carry_async

    @functools.wraps(task.func)
    def carry(*args: Any, **kwargs: Any) -> Any:
        with _begun(task, args, kwargs) as run:
            return run.end(task.func(*run.context, *args, **kwargs))

    return carry


class _Run:
    """One run of a task, and what Django is told of it."""

    def __init__(self, task: Any, result: Any) -> None:
        self.result = result
        self.context = (TaskContext(task_result=result),) if task.takes_context else ()

    def end(self, value: Any) -> Any:
        """It has returned: its value, in JSON's types. `TypeError` where JSON has none."""
        found = _normalize(value)
        _change(self.result, status=TaskResultStatus.SUCCESSFUL, _return_value=found)
        return found


@contextmanager
def _begun(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[_Run]:
    """Tell that the task begins, and how it ends."""
    request = current_request()
    assert request is not None  # whoever calls a task makes one
    told = request.headers.get(_HEADER) or {}
    task = _as_sent(task, told)
    result = _result(task, request.id or "", args, kwargs, _moment(told.get("enqueued")))
    now, host = timezone.now(), request.hostname or ""
    hosts = [host] * (request.retries + 1)
    _change(result, status=TaskResultStatus.RUNNING, started_at=now, last_attempted_at=now)
    _change(result, worker_ids=hosts)
    backend = task.get_backend()
    if not request.called_directly:
        meta = {"started": now.isoformat(), "workers": hosts}
        backend.app.tasks[task.module_path].update_state(state=RUNNING, meta=meta)
    signals.task_started.send(type(backend), task_result=result)
    try:
        yield _Run(task, result)
    except BaseException as error:
        path = f"{type(error).__module__}.{type(error).__qualname__}"
        result.errors.append(
            TaskError(exception_class_path=path, traceback="".join(format_exception(error)))
        )
        _change(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
        signals.task_finished.send(type(backend), task_result=result)
        raise
    _change(result, finished_at=timezone.now())
    signals.task_finished.send(type(backend), task_result=result)


def _show(result: Any, seen: AsyncResult[Any]) -> None:
    """Write into a result how its task stands."""
    state, value = seen.state, seen.result
    status = _STATUS.get(state, TaskResultStatus.RUNNING)
    _change(result, status=status)
    if status == TaskResultStatus.RUNNING and isinstance(value, Mapping) and "started" in value:
        started = _moment(value["started"])
        _change(result, started_at=started, last_attempted_at=started)
        _change(result, worker_ids=[str(one) for one in value.get("workers", ())])
    if state not in states.READY_STATES:
        return
    workers = [seen.worker] * (seen.retries + 1) if seen.worker else []
    _change(result, finished_at=seen.date_done, worker_ids=workers)
    if status == TaskResultStatus.SUCCESSFUL:
        _change(result, _return_value=value)
    else:
        result.errors[:] = [_error(value, seen.traceback)]


def _error(value: object, traceback: str | None) -> Any:
    path = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, RemoteError):
        path = f"{value.module}.{value.type_name}" if value.module else value.type_name
    return TaskError(exception_class_path=path, traceback=traceback or str(value))


def _result(
    task: Any, id: str, args: Sequence[Any], kwargs: Mapping[str, Any], enqueued: datetime | None
) -> Any:
    return TaskResult(
        task=task,
        id=id,
        status=TaskResultStatus.READY,
        enqueued_at=enqueued,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=task.backend,
        errors=[],
        worker_ids=[],
    )


def _told(task: Any, result: Any) -> dict[str, Any]:
    """What is kept of a task's options, and when it was enqueued."""
    return {
        "enqueued": result.enqueued_at.isoformat(),
        "priority": task.priority,
        "queue": task.queue_name,
        "after": None if task.run_after is None else task.run_after.isoformat(),
    }


def _as_sent(task: Any, told: Mapping[str, Any]) -> Any:
    """The task with the options that it was sent with."""
    if not told:
        return task
    return dataclasses.replace(
        task,
        priority=told["priority"],
        queue_name=told["queue"],
        run_after=_moment(told["after"]),
    )


def _change(result: Any, **values: Any) -> None:
    for name, value in values.items():  # frozen for users; backends are meant to write so
        object.__setattr__(result, name, value)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _priority(given: int) -> int:
    """Django's -100 to 100 as 0 to 9, both most urgent last; 0 is 4."""
    return (given + 100) * 9 // 200


def _normalize(value: Any) -> Any:
    """The value in JSON's types."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.decode()
        case Mapping():
            return {str(key): _normalize(item) for key, item in value.items()}
        case list() | tuple():
            return [_normalize(item) for item in value]
        case _:
            raise TypeError(
                f"a task of Django's returned {type(value).__name__}, which JSON has not"
            )
