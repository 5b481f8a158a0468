"""The application: registers tasks and sends messages. Composition root of those who send."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, ParamSpec, Self, TypeVar, cast, overload

from cardoon.annotating import annotate
from cardoon.annotations import Annotations
from cardoon.awaiting import ResultQueue, SendQueue
from cardoon.builtins import register_builtins
from cardoon.calling import (
    MAX_NAME_BYTES,
    NO_OPTIONS,
    check_options,
    check_text,
)
from cardoon.calls import Calls
from cardoon.canvas import Signature
from cardoon.canvas.signatures import set_default_caller
from cardoon.clock import Clock, SystemClock
from cardoon.config import Conf, Settings, is_task_process
from cardoon.context import current_request
from cardoon.control import Control
from cardoon.decorators import BoundTaskDecorator, CoroutineTask, TaskDecorator
from cardoon.deployment import Deployment, require_signatures
from cardoon.events import Events
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.fixups import fix_up
from cardoon.habits import Habits, take_arguments
from cardoon.loader import load_symbol
from cardoon.producer import Producer
from cardoon.registry import SHARED, Registry, SharedFunction
from cardoon.result import set_default_source
from cardoon.schedules import BaseSchedule
from cardoon.scheduling import Schedules
from cardoon.sender import Sender
from cardoon.settings_source import Packages, import_related, is_unfinished, read_source
from cardoon.standin import Current, StandIn
from cardoon.task import Task as _Task
from cardoon.task import make_task
from cardoon.task_options import check_task_options
from cardoon.timetable import EMPTY, parse_entry

__path__ = [str(Path(__file__).with_suffix(""))]
"""Where `cardoon.app.log` and its like are, since `celery.app` is a package."""

P = ParamSpec("P")
R = TypeVar("R")


class Cardoon(Calls, Habits):
    """A task queue: settings, tasks, and the way to the broker.

    `Cardoon("shop")` needs nothing else: it signs with an identity of its own, made on first use, and
    keeps messages in `.cardoon/` of the project. Keyword arguments besides those named here are
    settings. Safe from threads and forks; connects on first use.
    """

    Task: type[_Task[..., Any]] = _Task
    """What `task` makes; a subclass of yours by `task_cls`."""
    task_cls: type[_Task[..., Any]] | str | None = None

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] | None = None,
        task_cls: type[_Task[..., Any]] | str | None = None,
        set_as_current: bool = True,
        config_source: object = None,
        config_source_silent: bool = False,
        namespace: str | None = None,
        strict_typing: bool = True,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.main = main
        self.clock: Clock = clock or SystemClock()
        self.conf = Conf()
        self._unread: list[tuple[str, bool, str | None, Mapping[str, Any]]] = []
        self._begin()
        given = {"broker_url": broker, "result_backend": backend, "include": include}
        self.conf.update({name: value for name, value in given.items() if value is not None})
        if config_source is not None:
            self.config_from_object(config_source, config_source_silent, namespace=namespace)
        self.conf.update(take_arguments(settings))
        base = task_cls or self.task_cls
        if base is not None:
            self.Task = load_symbol(base) if isinstance(base, str) else base
        self.strict_typing = strict_typing
        self.tasks = Registry()
        self._producer: tuple[int, Settings, Producer] | None = None
        self._link: Sender | None = None
        self._annotated: Annotations = ()
        self._discoveries: list[tuple[Packages, str | None]] = []
        self._start_afresh()
        fix_up(self)
        _apps.add(self)
        register_builtins(self)
        for shared in SHARED:
            self.register_shared(shared)
        if set_as_current:
            self.set_current()
        self.on_init()

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
        if self._annotated:
            annotate(task, self._annotated)
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

    def add_periodic_task(
        self,
        schedule: float | timedelta | BaseSchedule,
        sig: Signature | _Task[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to `beat_schedule`, and return its name: by default what the call looks like.

        `sig` is a task or a signature of one; `args` and `kwargs` come before those it has, and `opts`
        are options of `apply_async`. Another entry of this name is replaced.
        """
        call: object = sig.signature() if isinstance(sig, _Task) else sig
        if not isinstance(call, Signature) or type(call).subtask_type:
            raise InvalidTaskError(
                f"add_periodic_task: {sig!r} is not a task or its signature; of a canvas make a task"
            )
        call = call.clone(args, kwargs, **opts)
        check_options(call.options, method="add_periodic_task")
        key = name or repr(call)
        wanted = {"task": call.task, "schedule": schedule, **_parts_of(call)}
        try:
            entry = parse_entry(key, wanted)
        except ValueError as error:
            raise InvalidTaskError(f"add_periodic_task: it {error}") from error
        present = self.conf.explicit.get("beat_schedule", EMPTY)
        self.conf.update(beat_schedule=present.with_entry(key, entry))
        return key

    # The parts that are built on first use

    @property
    def settings(self) -> Settings:
        """The frozen settings of this moment."""
        settings = self.conf.settings()
        if settings.task_annotations is not self._annotated:
            self._annotate(settings.task_annotations)
        return settings

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
        self.finalize()
        with self._lock:
            return self._connect()

    def config_from_object(
        self,
        obj: object,
        silent: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        force: bool = False,  # noqa: ARG002, FBT001, FBT002
        namespace: str | None = None,
    ) -> None:
        """Take settings from an object, a dict, or the name of a module or of `module:object`.

        Read at once, or, if that module is still being imported, when a setting is first asked for. With `namespace="CELERY"` those that begin with `CELERY_`, as in
        `app.config_from_object("django.conf:settings", namespace="CELERY")`. What was set before stays
        unless it is named here. `silent` takes a module that is not there for an empty one.
        """
        if is_unfinished(obj):
            self._unread.append((cast("str", obj), silent, namespace, dict(self.conf.explicit)))
        else:
            self._read_config(obj, namespace, silent=silent)

    def config_from_envvar(self, variable_name: str, silent: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take settings from the module that an environment variable names."""
        name = os.environ.get(variable_name)
        if name:
            self.config_from_object(name, silent=silent)
        elif not silent:
            raise ImproperlyConfigured(
                f"config_from_envvar: the environment has no variable {variable_name!r}"
            )

    def autodiscover_tasks(
        self,
        packages: Sequence[str] | Callable[[], Sequence[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
    ) -> None:
        """Import `tasks` of each package when the app is first needed, or now with `force`.

        Without `packages` those of Django's `INSTALLED_APPS`. A package without the module is skipped;
        what its import raises is raised.
        """
        self._discoveries.append((packages, related_name))
        if force:
            self.discover()

    def discover(self) -> None:
        """Carry out what `autodiscover_tasks` asked for; what a worker does at its start."""
        while self._discoveries:
            packages, related_name = self._discoveries.pop(0)
            import_related(packages, related_name)

    @property
    def control(self) -> Control:
        """Commands to every worker: `app.control.revoke(task_id)`."""
        return Control(self)

    @property
    def events(self) -> Events:
        """Events of workers and tasks: `app.events.Receiver(handlers=...)`, `State()`, `Dispatcher()`."""
        return Events(self)

    @property
    def schedules(self) -> Schedules:
        """Periodic tasks that are added and changed while everything runs: `app.schedules.add(...)`."""
        return Schedules(self)

    @property
    def current_task(self) -> _Task[..., Any] | None:
        """The task that runs in this thread or coroutine."""
        request = current_request()
        return None if request is None else self.tasks.get(request.task)

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
        given = {
            "security_key": key,
            "security_key_password": key_password,
            "security_certificate": cert,
            "security_cert_store": store,
            "security_digest": digest,
        }
        require_signatures(
            self.conf, given, accept=allowed_serializers or (), serializer=serializer
        )
        if not is_task_process():  # a process that runs task code must never read the key
            Deployment(self.settings, clock=self.clock).check_identity()

    def attach(self, link: Sender) -> None:
        """Send through `link` instead of an own connection: what task processes do."""
        self._link = link

    def detach(self) -> None:
        """Undo `attach`."""
        self._link = None

    def set_current(self) -> None:
        """Make this the app of shared tasks and of `current_app` in this thread."""
        _current.choose_here(self)

    @contextmanager
    def attached(self, link: Sender) -> Iterator[None]:
        """Send through `link` meanwhile, and then as before."""
        before, self._link = self._link, link
        try:
            yield
        finally:
            self._link = before

    def set_default(self) -> None:
        """`set_current` in this thread, and in all that have not called it."""
        _current.choose_everywhere(self)

    def create_task_cls(self) -> type[_Task[..., Any]]:
        """The class of this app's tasks."""
        return self.Task

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

    def _before_configure(self) -> None:
        """Read what could not be read when it was named; what has been set since then stays."""
        unread, self._unread = self._unread, []
        for at, (source, silent, namespace, before) in enumerate(unread):
            since = {
                name: value
                for name, value in self.conf.explicit.items()
                if name not in before or before[name] is not value
            }
            try:
                self._read_config(source, namespace, silent=silent)
            except BaseException:
                self._unread = unread[at:]  # so that the next use says the same
                raise
            self.conf.update(since)
        super()._before_configure()

    def _read_config(self, source: object, namespace: str | None, *, silent: bool) -> None:
        try:
            found = read_source(source, namespace=namespace)
        except ImproperlyConfigured as error:
            if silent and isinstance(error.__cause__, ModuleNotFoundError):
                return
            raise
        self.conf.update(self.prepare_config(found))

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

    def _annotate(self, annotations: Annotations) -> None:
        """Change the tasks as new settings say; those that come later are changed as they come."""
        with self._lock:
            before, self._annotated = self._annotated, annotations
            try:
                for task in self.tasks.values():
                    annotate(task, annotations)
            except BaseException:
                self._annotated = before  # so that the next use says the same
                raise

    def _register_function(self, function: Any, options: Mapping[str, Any]) -> _Task[..., Any]:
        if not callable(function) or not hasattr(function, "__qualname__"):
            raise InvalidTaskError(f"@app.task: {function!r} is not a function; wrap it in a def")
        if isinstance(function, type):
            raise InvalidTaskError(f"@app.task: {function!r} is a class; use register_task")
        rest = dict(options) if self.strict_typing else {"typing": False, **options}
        name = rest.pop("name", None) or self.gen_task_name(function.__name__, function.__module__)
        check_text("task name", name, MAX_NAME_BYTES)
        base = rest.pop("base", None) or self.Task
        if not (isinstance(base, type) and issubclass(base, _Task)):
            raise InvalidTaskError(f"task {name!r}: base={base!r} is not a subclass of Task")
        return self.register_task(make_task(function, name=name, base=base, options=rest))

    def register_shared(self, shared: SharedFunction) -> None:
        """Make a `shared_task` one of this app's."""
        self._register_function(shared.function, {**shared.options, "name": shared.name})


def _parts_of(call: Signature) -> dict[str, Any]:
    return {"args": call.args, "kwargs": call.kwargs, "options": call.options}


Celery = Cardoon

_apps: weakref.WeakSet[Cardoon] = weakref.WeakSet()
_current: Current[Cardoon] = Current()


def _after_fork() -> None:
    for app in known_applications():
        app._start_afresh()  # noqa: SLF001  # one hook for all, since hooks cannot be taken back
        app.on_after_fork.send(sender=app)


os.register_at_fork(after_in_child=_after_fork)


def current_application() -> Cardoon:
    """The app that was made last, or made current here or default; `ImproperlyConfigured` without any."""
    found = _current.get()
    if found is None:
        raise ImproperlyConfigured("there is no app yet; create one with Cardoon(...)")
    return found


@contextmanager
def current_application_kept(meanwhile: Any = None) -> Iterator[None]:
    """Whatever becomes the current app within the block, such as `meanwhile`: then the old one is."""
    with _current.kept():
        if meanwhile is not None:
            _current.choose_everywhere(meanwhile)
        yield


set_default_caller(current_application)
set_default_source(current_application)


def app_or_default(app: Cardoon | None = None) -> Cardoon:
    """The app itself, or the current one."""
    return current_application() if app is None else app


def _find_task() -> _Task[..., Any] | None:
    app = _current.get()
    return None if app is None else app.current_task


# Stand-ins, typed as what they stand for.
current_app = default_app = cast("Cardoon", StandIn("current_app", current_application))
current_task = cast("_Task[..., Any]", StandIn("current_task", _find_task))


def bugreport(app: Cardoon | None = None) -> str:
    """Versions, platform and settings of an app, or of the current one."""
    return app_or_default(app).bugreport()


def known_applications() -> list[Cardoon]:
    """Every app of this process."""
    return list(_apps)
