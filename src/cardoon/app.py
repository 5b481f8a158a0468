"""The application: registers tasks and sends messages. Composition root of those who send."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, Self, TypeVar, overload

from cardoon.awaiting import ResultQueue, SendQueue
from cardoon.calling import (
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    NO_OPTIONS,
    CallDefaults,
    CallOptions,
    check_options,
    check_text,
    choose_codec,
    make_call,
)
from cardoon.canvas import Signature
from cardoon.clock import Clock, SystemClock
from cardoon.config import Conf, Settings, is_task_process
from cardoon.context import Request, current_request
from cardoon.deployment import Deployment
from cardoon.eager import run_eagerly
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.ids import make_id
from cardoon.producer import Producer
from cardoon.registry import SHARED, Registry, SharedFunction
from cardoon.result import AsyncResult as _AsyncResult
from cardoon.result import EagerResult
from cardoon.retrying import publish_delays, publish_until
from cardoon.sender import Call, Handle, Report, Sender
from cardoon.task import BoundTaskDecorator, CoroutineTask, TaskDecorator, make_task
from cardoon.task import Task as _Task
from cardoon.task_options import check_task_options

P = ParamSpec("P")
R = TypeVar("R")


class Cardoon:
    """A task queue: settings, tasks, and the way to the broker.

    `Cardoon("shop")` needs nothing else: it signs with an identity of its own, made on first use, and
    keeps messages in `.cardoon/` of the project. Keyword arguments besides those named here are
    settings. Safe from threads and forks; connects on first use.
    """

    Task: type[_Task[..., Any]] = _Task
    """What `task` makes; a subclass of yours by `task_cls`."""

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] | None = None,
        task_cls: type[_Task[..., Any]] | None = None,
        set_as_current: bool = True,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.main = main
        self.clock: Clock = clock or SystemClock()
        self.conf = Conf()
        given = {"broker_url": broker, "result_backend": backend, "include": include}
        self.conf.update({name: value for name, value in given.items() if value is not None})
        self.conf.update(settings)
        if task_cls is not None:
            self.Task = task_cls
        self.tasks = Registry()
        self._producer: tuple[int, Settings, Producer] | None = None
        self._link: Sender | None = None
        self._start_afresh()
        _apps.add(self)
        for shared in SHARED:
            self.register_shared(shared)
        if set_as_current:
            self.set_default()

    # Tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> _Task[P, R]: ...
    @overload
    def task(self, /, *, bind: Literal[True], **options: Any) -> BoundTaskDecorator: ...
    @overload
    def task(self, /, **options: Any) -> TaskDecorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a task of a function: `@app.task`, or `@app.task(name=..., bind=True, ...)`.

        See `cardoon.task.Task` for the options; an unknown one is an `InvalidTaskError`.
        """
        if function is not None:
            return self._register_function(function, options)
        return lambda decorated: self._register_function(decorated, options)

    def register_task(self, task: _Task[P, R]) -> _Task[P, R]:
        """Make a task of an instance of a `Task` subclass."""
        if not isinstance(task, _Task):
            raise InvalidTaskError(f"register_task: {task!r} is not an instance of a Task subclass")
        if not task.name:
            task.name = self.gen_task_name(type(task).__name__, type(task).__module__)
        check_text("task name", task.name, MAX_NAME_BYTES)
        for option, value in check_task_options(task.name, task.given_options()).items():
            setattr(task, option, value)
        self.tasks.add(task)
        task.bind(self)
        return task

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task that was given none: module and function.

        A script run as `__main__` is named after the app, or after its file, so that the worker, which
        imports it, knows its tasks by the same names.
        """
        if module == "__main__":
            path = getattr(sys.modules["__main__"], "__file__", None)
            module = self.main or (Path(path).stem if path else "__main__")
        return f"{module}.{name}"

    # Calling

    def send(
        self, task: _Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> _AsyncResult[Any]:
        """Call a task; see `Task.apply_async`."""
        task.check_arguments(args, kwargs)
        if self.settings.task_always_eager:
            return self.run_eagerly(task, args, kwargs, **options)
        checked = check_options(options)
        call = self._make_call(task.name, args, kwargs, checked, task.call_defaults)
        return self._publish([call], checked)[0]

    def send_calls(
        self, task: _Task[..., Any], calls: Iterable[Any], **options: Any
    ) -> list[_AsyncResult[Any]]:
        """Call a task many times in one transaction; see `Task.send_many`."""
        pairs = [_split_call(task.name, call) for call in calls]
        for args, kwargs in pairs:
            task.check_arguments(args, kwargs)
        if self.settings.task_always_eager:
            return [self.run_eagerly(task, args, kwargs, **options) for args, kwargs in pairs]
        checked = check_options(options)
        if checked.task_id is not None:
            raise InvalidTaskError("send_many: one task_id cannot name many calls")
        defaults = task.call_defaults
        return self._publish(
            [self._make_call(task.name, args, kwargs, checked, defaults) for args, kwargs in pairs],
            checked,
        )

    async def asend(
        self, task: _Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> _AsyncResult[Any]:
        """Call a task from a coroutine; concurrent calls are stored together."""
        task.check_arguments(args, kwargs)
        if self.settings.task_always_eager:
            # A task that is a coroutine needs a loop of its own, which one thread cannot have twice.
            return await asyncio.to_thread(self.run_eagerly, task, args, kwargs, **options)
        checked = check_options(options)
        call = self._make_call(task.name, args, kwargs, checked, task.call_defaults)
        if checked.timeout is not None or checked.retry is not None or checked.retry_policy:
            return (await asyncio.to_thread(self._publish, [call], checked))[0]
        return _AsyncResult(call.id, source=self, request=await self._sends.send(call))

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> _AsyncResult[Any]:
        """Call a task by name. It need not be known here; then its arguments are not checked."""
        if name in self.tasks:
            return self.send(self.tasks[name], args or (), kwargs or {}, **options)
        check_text("task name", name, MAX_NAME_BYTES)
        checked = check_options(options)
        settings = self.settings
        defaults = CallDefaults(
            queue=settings.task_default_queue,
            codec=choose_codec(None, settings.task_compression),
            priority=settings.task_default_priority,
            ignore_result=settings.task_ignore_result,
        )
        call = self._make_call(name, args or (), kwargs or {}, checked, defaults)
        return self._publish([call], checked)[0]

    def send_many(self, signatures: Iterable[Signature]) -> list[_AsyncResult[Any]]:
        """Send many signatures, of different tasks if need be, all or none."""
        found = [(self.tasks[one.task], one.args, one.kwargs, one.options) for one in signatures]
        for task, args, kwargs, _ in found:
            task.check_arguments(args, kwargs)
        if self.settings.task_always_eager:
            return [
                self.run_eagerly(task, args, kwargs, **rest) for task, args, kwargs, rest in found
            ]
        calls = [
            self._make_call(task.name, args, kwargs, check_options(rest), task.call_defaults)
            for task, args, kwargs, rest in found
        ]
        return self._publish(calls, NO_OPTIONS)

    def apply_task(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> EagerResult[Any]:
        """Run a task by name, here and now."""
        return self.run_eagerly(self.tasks[name], args, kwargs, **options)

    def run_eagerly(
        self, task: _Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> EagerResult[Any]:
        """Run one call here and now, with its retries; see `Task.apply`."""
        throw = options.pop("throw", self.settings.task_eager_propagates)
        checked = check_options(options)
        around = current_request()
        request = Request(
            task=task.name,
            id=checked.task_id or self.new_id(),
            args=tuple(args),
            kwargs=dict(kwargs),
            retries=checked.retries,
            max_retries=checked.max_retries,
            headers=dict(checked.headers or {}),
            hostname=None if around is None else around.hostname,
            is_eager=True,
            called_directly=False,
        )
        result: EagerResult[Any] = run_eagerly(task, request, source=self)
        linked = checked.link if result.successful() else checked.link_error
        for callback in linked:
            Signature(callback, caller=self).apply(
                (result.result,) if result.successful() else (result.id,)
            )
        if throw:
            result.get()
        return result

    def signature(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Signature:
        """A call to make later, by name."""
        return Signature(name, args, kwargs, options, immutable=immutable, caller=self)

    def AsyncResult(self, task_id: str) -> _AsyncResult[Any]:  # noqa: N802  # Celery's name
        """The handle on the result of a task that was sent elsewhere or before."""
        check_text("task_id", task_id, MAX_ID_BYTES)
        return _AsyncResult(task_id, source=self)

    # The parts that are built on first use

    @property
    def settings(self) -> Settings:
        """The frozen settings of this moment."""
        return self.conf.settings()

    @property
    def sender(self) -> Sender:
        """The way to the broker and the result backend; made anew after a fork or a new setting."""
        if self._link is not None:
            return self._link
        made = self._producer
        if made is not None and made[0] == os.getpid() and made[1] is self.settings:
            return made[2]
        if is_task_process():
            raise ImproperlyConfigured(
                "a task was called while the worker imports the app; call it from a task"
            )
        with self._lock:
            return self._connect()

    @property
    def max_result_bytes(self) -> int:
        """How large a decoded result may be."""
        return self.settings.message_max_bytes

    async def wait_for(self, handle: Handle) -> Report:
        """A final result, for a coroutine."""
        return await self._results.wait_for(handle)

    def setup_security(
        self,
        allowed_serializers: Sequence[str] | None = None,
        key: str | None = None,
        key_password: str | None = None,
        cert: str | None = None,
        store: str | None = None,
        digest: str | None = None,
        serializer: str = "json",
    ) -> None:
        """Sign everything with the key and certificates of the settings, and accept nothing else.

        Reads them at once, so that a wrong path or a key of the wrong certificate is an error here and
        not at the first message. `ImproperlyConfigured` and `SecurityError` say which and what to do.
        """
        choose_codec(serializer, None)
        given = {
            "security_key": key,
            "security_key_password": key_password,
            "security_certificate": cert,
            "security_cert_store": store,
            "security_digest": digest,
        }
        accept = ["auth", *(name for name in allowed_serializers or () if name != "auth")]
        self.conf.update(
            {name: value for name, value in given.items() if value is not None},
            task_serializer="auth",
            result_serializer="auth",
            accept_content=accept,
        )
        settings = self.settings
        for name in ("security_key", "security_certificate", "security_cert_store"):
            if not getattr(settings, name):
                raise ImproperlyConfigured(
                    f"setup_security: {name} is not set; it needs security_key, "
                    "security_certificate and security_cert_store"
                )
        if not is_task_process():  # a process that runs task code must never read the key
            Deployment(settings, clock=self.clock).check_identity()

    def attach(self, link: Sender) -> None:
        """Send through `link` instead of an own connection: what task processes do."""
        self._link = link

    def detach(self) -> None:
        """Undo `attach`."""
        self._link = None

    def set_default(self) -> None:
        """Make this the app of shared tasks."""
        _current.append(self)
        del _current[:-1]

    def close(self) -> None:
        """Let go of every connection; the next use connects again."""
        with self._lock:
            made, self._producer = self._producer, None
        if made is not None and made[0] == os.getpid():
            made[2].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cardoon {self.main or '__main__'}>"

    def new_id(self) -> str:
        """A fresh task id."""
        return make_id(self.clock)

    def _connect(self) -> Producer:
        settings = self.settings
        made = self._producer
        if made is not None and made[0] == os.getpid():
            if made[1] is settings:
                return made[2]
            made[2].close()
        producer = Producer(Deployment(settings, clock=self.clock))
        self._producer = (os.getpid(), settings, producer)
        return producer

    def _start_afresh(self) -> None:
        """Locks and queues without users; also in a forked child, where their users are gone."""
        self._lock = threading.RLock()  # protects the producer
        self._sends = SendQueue(lambda calls: self._sign_and_store(calls, NO_OPTIONS))
        self._results = ResultQueue(lambda: self.sender)

    def _make_call(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
        defaults: CallDefaults,
    ) -> Call:
        call = make_call(
            name,
            (args, kwargs),
            options,
            defaults=defaults,
            settings=self.settings,
            clock=self.clock,
            new_id=self.new_id,
        )
        running = current_request()
        if running is not None and running.id is not None and call.parent is None:
            return call._replace(root=call.root or running.root_id, parent=running.id)
        return call

    def _publish(self, calls: Sequence[Call], options: CallOptions) -> list[_AsyncResult[Any]]:
        return [
            _AsyncResult(call.id, source=self, request=digest)
            for call, digest in zip(calls, self._sign_and_store(calls, options), strict=True)
        ]

    def _sign_and_store(self, calls: Sequence[Call], options: CallOptions) -> Sequence[bytes]:
        settings = self.settings
        timeout = options.timeout or settings.task_publish_timeout
        again = settings.task_publish_retry if options.retry is None else options.retry
        policy = options.retry_policy or settings.task_publish_retry_policy
        return publish_until(
            lambda left: self.sender.send(calls, timeout=left),
            timeout=timeout,
            delays=publish_delays(policy) if again else iter(()),
            clock=self.clock,
        )

    def _register_function(self, function: Any, options: Mapping[str, Any]) -> _Task[..., Any]:
        if not callable(function) or not hasattr(function, "__qualname__"):
            raise InvalidTaskError(f"@app.task: {function!r} is not a function; wrap it in a def")
        if isinstance(function, type):
            raise InvalidTaskError(f"@app.task: {function!r} is a class; use register_task")
        rest = dict(options)
        name = rest.pop("name", None) or self.gen_task_name(function.__name__, function.__module__)
        check_text("task name", name, MAX_NAME_BYTES)
        base = rest.pop("base", None) or self.Task
        if not (isinstance(base, type) and issubclass(base, _Task)):
            raise InvalidTaskError(f"task {name!r}: base={base!r} is not a subclass of Task")
        return self.register_task(make_task(function, name=name, base=base, options=rest))

    def register_shared(self, shared: SharedFunction) -> None:
        """Make a `shared_task` one of this app's."""
        self._register_function(shared.function, {**shared.options, "name": shared.name})


Celery = Cardoon

_apps: weakref.WeakSet[Cardoon] = weakref.WeakSet()
_current: list[Cardoon] = []


def _after_fork() -> None:
    for app in known_applications():
        app._start_afresh()  # noqa: SLF001  # one hook for all, since hooks cannot be taken back


os.register_at_fork(after_in_child=_after_fork)


def current_application() -> Cardoon:
    """The app that was made last, or made default; `ImproperlyConfigured` if there is none."""
    if not _current:
        raise ImproperlyConfigured("there is no app yet; create one with Cardoon(...)")
    return _current[-1]


def known_applications() -> list[Cardoon]:
    """Every app of this process."""
    return list(_apps)


def _split_call(name: str, call: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(call, (tuple, list)):
        return call, {}
    if isinstance(call, dict):
        return (), call
    raise InvalidTaskError(
        f"{name}.send_many: {call!r} is neither a tuple of positional arguments nor a dict of "
        "keyword arguments; for one argument write (value,)"
    )
