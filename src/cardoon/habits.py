"""Habits: the parts of Celery's App that its users are used to, beside tasks, calls and settings.

Events of the app's own life, time, the loader, results by id, and starting the command line. What
Celery's App has and this one does not is refused by name, with what to do instead.
"""

from __future__ import annotations

import functools
import os
import sys
import zoneinfo
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cardoon.app_event import AppEvent
from cardoon.clock import Clock
from cardoon.config import Conf, Settings, is_task_process
from cardoon.exceptions import ImproperlyConfigured
from cardoon.ids import make_id
from cardoon.loader import Loader
from cardoon.result import GroupResult as _GroupResult
from cardoon.result import Result, ResultSource
from cardoon.result import ResultSet as _ResultSet
from cardoon.result_store import ResultStore

_CONNECTION = (
    "there are no AMQP connections to hand out: send_task and send_many publish, and raise "
    "OperationalError where the broker does not answer in task_publish_timeout"
)
_PARTS = "the worker's parts are not made in your process; start one with worker_main or `cardoon`"
_EXCHANGED = "the app's parts cannot be exchanged"

NOT_HERE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "connection",
            "connection_for_read",
            "connection_for_write",
            "connection_or_acquire",
            "broker_connection",
            "default_connection",
            "producer_or_acquire",
            "default_producer",
            "producer_pool",
            "pool",
        ),
        _CONNECTION,
    ),
    **dict.fromkeys(("Worker", "WorkController"), _PARTS),
    **dict.fromkeys(("loader_cls", "backend_cls", "amqp_cls", "control_cls"), _EXCHANGED),
    **dict.fromkeys(("events_cls", "log_cls", "registry_cls"), _EXCHANGED),
    "Beat": "use cardoon.beat.Beat(app), or the command `cardoon beat`",
    "Pickler": "an app is not pickled; import it where it is needed",
    "config_from_cmdline": "give settings to config_from_object, or as CARDOON_ variables",
    "log": "the worker logs as --loglevel and worker_log_format say; elsewhere logging is yours",
    "select_queues": "say which queues to consume with `worker -Q`",
    "steps": "the worker's parts cannot be extended",
    "subclass_with_self": "pass the app to what needs it",
    "thread_oid": "results are not sent to reply queues",
    "type_checker": "arguments are checked unless the task has typing=False",
    "user_options": "the commands take no options of an app's own; use settings or the environment",
}
"""Attributes of Celery's App that are not here, each with the reason or what to do instead."""

_NO_ARGUMENTS = {
    **dict.fromkeys(("amqp", "control", "events", "loader", "log"), _EXCHANGED),
    "tasks": "every app has a registry of its own",
    "autofinalize": "tasks are made when they are declared, so there is nothing to wait for",
    "fixups": "import what a framework needs from cardoon.contrib",
}
"""Arguments of Celery's App that are not taken, unless they are empty."""
_NOTHING: tuple[object, ...] = (None, (), [], {})


class Habits:
    """What an app offers by Celery's names."""

    conf: Conf
    clock: Clock
    main: str | None

    on_configure: AppEvent
    """Sent before the settings are read for the first time; receivers may change them."""
    on_after_configure: AppEvent
    """Sent when they have been read: when a worker starts, when something is sent, or when you look."""
    on_after_finalize: AppEvent
    """Sent when every task is known: when a worker has imported them, or before the first send."""
    on_after_fork: AppEvent
    """Sent in a process forked from one that has the app."""

    def on_init(self) -> None:
        """Called when the app has been made; for subclasses."""

    def prepare_config(self, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is to be set of what `config_from_object` found; for subclasses."""
        return found

    @property
    def settings(self) -> Settings:
        """The frozen settings of this moment."""
        raise NotImplementedError

    # Its life

    @property
    def configured(self) -> bool:
        """Whether the settings have been read."""
        return self.on_after_configure.happened

    @property
    def finalized(self) -> bool:
        """Whether the tasks are known, and `on_after_finalize` has been sent."""
        return self.on_after_finalize.happened

    def finalize(self, auto: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # Celery's signature
        """Say that every task is known. A worker and the first send do it by themselves."""
        self.settings  # noqa: B018  # sends on_after_configure
        self.on_after_finalize.send(sender=self)

    def add_defaults(self, defaults: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Set what has not been set; a function is called now."""
        found = defaults() if callable(defaults) else defaults
        given = self.conf.explicit
        self.conf.update({name: value for name, value in found.items() if name not in given})

    def either(self, default_key: str, *defaults: Any) -> Any:
        """The first of `defaults` that is not None, else the setting `default_key`."""
        return next((one for one in defaults if one is not None), self.conf.get(default_key))

    # Time

    @property
    def timezone(self) -> tzinfo:
        """The time zone that naive datetimes are in."""
        name = self.settings.timezone
        return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)

    def now(self) -> datetime:
        """The time in that zone."""
        return datetime.fromtimestamp(self.clock.now(), self.timezone)

    def uses_utc_timezone(self) -> bool:
        """Whether that zone is UTC."""
        return self.timezone is UTC

    # Its parts

    @functools.cached_property
    def loader(self) -> Loader:
        """Imports task modules."""
        return Loader(self)  # type: ignore[arg-type]  # a Habits is always one half of an app

    @functools.cached_property
    def backend(self) -> ResultStore:
        """Results by id, in bulk."""
        return ResultStore(self)  # type: ignore[arg-type]  # as above

    @functools.cached_property
    def oid(self) -> str:
        """An id of this app in this process."""
        return make_id(self.clock)

    @property
    def GroupResult(self) -> Groups:  # noqa: N802  # Celery's name
        """`app.GroupResult.restore(id)`, and handles on groups."""
        return Groups(self)  # type: ignore[arg-type]  # as above

    @property
    def ResultSet(self) -> type[_ResultSet]:  # noqa: N802  # Celery's name
        """Several results, waited for together."""
        return _ResultSet

    # The command line

    def start(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Become the command line of this app: `python tasks.py worker` is `cardoon -A tasks worker`.

        This process is replaced by a fresh one, so that a worker has no code of yours beside its keys;
        nothing after the call runs, and what was set by hand in this process is gone. The app must be
        found in a module, by a name; `ImproperlyConfigured` where it is not.
        """
        given = list(sys.argv[1:] if argv is None else argv)
        if given and Path(given[0]).name in {"celery", "cardoon"}:
            del given[0]
        if is_task_process():
            raise ImproperlyConfigured(
                "app.start() was called while the worker imports the app; put it under "
                "`if __name__ == '__main__':`"
            )
        target, folder = find_home(self)
        paths = [folder, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        sys.stdout.flush()
        sys.stderr.flush()
        command = [sys.executable, "-m", "cardoon", "-A", target, *given]
        os.execve(sys.executable, command, environment)  # noqa: S606  # our own interpreter, no shell

    def worker_main(self, argv: Sequence[str] | None = None) -> NoReturn:
        """`start` a worker: `app.worker_main(["worker", "-l", "info"])`."""
        given = list(sys.argv[1:] if argv is None else argv)
        self.start(given if "worker" in given else ["worker", *given])

    def bugreport(self) -> str:
        """Versions, platform and settings, without secrets, for a report of a bug."""
        python, host = ".".join(map(str, sys.version_info[:3])), os.uname()
        return (
            f"software -> cardoon:{_version()} py:{python}\n"
            f"platform -> system:{host.sysname} arch:{host.machine} "
            f"imp:{sys.implementation.name}\n"
            f"app      -> {self!r}\n"
            f"settings -> {self.settings!r}"
        )

    if not TYPE_CHECKING:  # or a type checker would take any name for one that is here

        def __getattr__(self, name: str) -> Any:
            """Only for what is not there."""
            if hasattr(type(self), name):
                # A property that raised an AttributeError; it raises the same one again.
                return object.__getattribute__(self, name)
            if name in NOT_HERE:
                raise AttributeError(f"app.{name} is Celery's and not here: {NOT_HERE[name]}")
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )

    def _begin(self) -> None:
        """Make the events; before anything else is done with the app."""
        self.on_configure = AppEvent("app.on_configure")
        self.on_after_configure = AppEvent("app.on_after_configure")
        self.on_after_finalize = AppEvent("app.on_after_finalize")
        self.on_after_fork = AppEvent("app.on_after_fork", once=False)
        self.conf.watch(
            self._before_configure,
            lambda: self.on_after_configure.send(sender=self, source=self.conf),
        )

    def _before_configure(self) -> None:
        """Called before the settings are read for the first time."""
        self.on_configure.send(sender=self)


class Groups:
    """Makes and restores handles on groups of one app."""

    def __init__(self, app: ResultSource) -> None:
        self._app = app

    def __call__(self, id: str, results: Iterable[Result] = ()) -> _GroupResult:
        """A handle on these results, under an id."""
        return _GroupResult(id, results, source=self._app)

    def restore(self, id: str) -> _GroupResult | None:
        """The group that was saved under an id; None if there is none."""
        return _GroupResult.restore(id, app=self._app)


def take_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among an app's keyword arguments, Celery's other ones dealt with."""
    settings = dict(given.get("changes") or {})
    for name, value in given.items():
        if name in _NO_ARGUMENTS:
            if value not in _NOTHING and not (name == "autofinalize" and value is True):
                raise ImproperlyConfigured(f"Cardoon({name}=...): {_NO_ARGUMENTS[name]}")
        elif name != "changes":
            settings[name] = value
    return settings


def find_home(app: object) -> tuple[str, str]:
    """Where a fresh process finds an app, as `module:name`, and the folder that must be on its path."""
    main = ("", "")
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "cardoon":
            continue
        held = getattr(module, "__dict__", {})
        attribute = next((one for one, value in list(held.items()) if value is app), None)
        if attribute is None:
            continue
        if name != "__main__":
            return f"{name}:{attribute}", sys.path[0]
        spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
        if spec is not None:
            main = (f"{spec.name}:{attribute}", sys.path[0])
        elif file is not None:
            main = (f"{Path(file).stem}:{attribute}", str(Path(file).resolve().parent))
    if not main[0]:
        raise ImproperlyConfigured(
            f"app.start(): no module holds {app!r} by a name, so a fresh process could not import it; "
            "give it one, and start `cardoon -A module worker`"
        )
    return main


def _version() -> str:
    return str(getattr(sys.modules["cardoon"], "__version__", "?"))
