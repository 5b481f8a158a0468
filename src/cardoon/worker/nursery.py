"""The worker's end of the zygote: starts it without secrets, hears its report, has it fork."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from cardoon.config import (
    ENVIRONMENT_PREFIX,
    ROLE_VARIABLE,
    SECRETS,
    WITHHELD,
    Conf,
)
from cardoon.exceptions import CardoonError, DriftError, ImproperlyConfigured
from cardoon.sdnotify import VARIABLES
from cardoon.worker.catalogue import Catalogue, read_catalogue
from cardoon.worker.forking import ForkClient, Told
from cardoon.worker.import_guard import read_blocked
from cardoon.worker.import_watch import ImportWatch
from cardoon.worker.ipc import Frame, FrameType, IpcError, field
from cardoon.worker.notices import HEARD

logger = logging.getLogger(__name__)


class AppImportError(CardoonError):
    """The app could not be imported; `traceback` is the user's own."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


class AppReport(NamedTuple):
    """What the zygote says of the app it imported."""

    settings: Mapping[str, Any]
    catalogue: Catalogue
    main: str | None
    serializers: Mapping[str, str]
    """The names and media types of those that the app has registered; their code stays there."""
    entries: Sequence[Mapping[str, Any]] = ()
    """Its periodic tasks, where they were asked for; see `worker.beating`."""
    commands: frozenset[str] = frozenset()
    """Names of those that it has registered for remote control."""


class Nursery:
    """Starts the zygote and asks it for children. Used by one thread at a time."""

    def __init__(
        self,
        app: str,
        *,
        logging_setup: Mapping[str, Any],
        include: Sequence[str] = (),
        worker: Mapping[str, Any] | None = None,
        beat: bool = False,
        imports: ImportWatch | None = None,
    ) -> None:
        self._imports = imports
        self._init = {
            "app": app,
            "beat": beat,
            "include": list(include),
            "path": sys.path,
            "argv": sys.argv[:1],
            "logging": dict(logging_setup),
            "worker": {"hostname": "", "pid": os.getpid(), **(worker or {})},
        }
        self._begin: dict[str, Any] | None = None
        self._notices: socket.socket | None = None
        self.on_restart: Callable[[], None] = lambda: None
        """Called when another zygote has taken the place of one that died."""
        self._withheld: frozenset[str] = frozenset()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: ForkClient | None = None

    def start(self, *, passed: tuple[str, ...] = ()) -> AppReport:
        """Start the zygote and wait until it has imported the app.

        Variables that hold a secret of the app's settings are withheld from it. Which ones those are is
        known only after an import, so an environment that has any is cleaned and the zygote started
        anew, and the one that saw them is gone before the first task. `passed` are left alone.
        """
        report = self._start_once()
        secret = _secret_variables(report.settings, os.environ) - set(passed)
        if secret - self._withheld:
            self.stop()
            self._withheld = frozenset(secret)
            seen = self._start_once()
            self._warn_of_literals(report.settings, seen.settings)
        else:
            self._warn_of_literals(report.settings, report.settings)
        return report

    def restart(self) -> None:
        """Start another zygote in place of one that died."""
        self.stop()
        self._start_once()
        if self._begin is not None:
            self.begin(self._begin)
        self.on_restart()

    def begin(self, told: Mapping[str, Any]) -> frozenset[str]:
        """Have the signals sent that come before the first child; returns which others are heard.

        `told` is what the worker knows of itself by now. `AppImportError` if a receiver refused.
        """
        assert self._control is not None
        self._begin = dict(told)
        self._control.ask(FrameType.BEGIN, self._begin)
        try:
            while not (frames := [frame for frame, _ in self.receive()]):
                pass
        except IpcError:
            self.stop()
            raise AppImportError(
                "the process that imports the app died in worker_init", ""
            ) from None
        [frame] = frames
        if "error" in frame.head:
            self._fail(frame)
        names = field(frame, "signals", list)
        return frozenset(name for name in names if isinstance(name, str)) & HEARD

    def take_notices(self) -> socket.socket:
        """The channel to the receivers of the present zygote; the caller closes it."""
        assert self._notices is not None
        taken, self._notices = self._notices, None
        return taken

    @property
    def pid(self) -> int | None:
        """The zygote's process."""
        return None if self._process is None else self._process.pid

    def fileno(self) -> int:
        """The control socket, for selectors."""
        assert self._control is not None
        return self._control.fileno()

    def fork(self, descriptors: Sequence[int], head: Mapping[str, Any]) -> None:
        """Ask for a child with these descriptors: its end of a channel, and perhaps of a journal."""
        assert self._control is not None
        self._control.ask(FrameType.FORK, head, descriptors)

    def make_nest(self, descriptors: Sequence[int], head: Mapping[str, Any]) -> None:
        """Ask for a nest with its end of a control socket, and perhaps of one to the warden."""
        assert self._control is not None
        self._control.ask(FrameType.NEST, head, descriptors)

    def receive(self) -> list[Told]:
        """What the zygote says, besides what its guard of imports says. `IpcError` when it is gone."""
        assert self._control is not None
        told = self._control.receive()
        if self._imports is not None:
            for frame, _ in told:
                if frame.type is FrameType.BARRED:
                    self._imports.take(read_blocked(frame))
        return [one for one in told if one[0].type is not FrameType.BARRED]

    def stop(self) -> None:
        """End the zygote, and with it every child; safe twice."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start_once(self) -> AppReport:
        guard = None if self._imports is None else self._imports.tell()
        ours, theirs = socket.socketpair()
        self._notices, notices = socket.socketpair()
        with theirs, notices:
            descriptors = (theirs.fileno(), notices.fileno())
            self._process = subprocess.Popen(
                # -P: nothing in the working directory takes the place of a standard module.
                [sys.executable, "-P", "-m", "cardoon.worker.zygote", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                env=self._environment(),
            )
        self._control = ForkClient(ours)
        self._control.ask(FrameType.INIT, {**self._init, "imports": guard})
        while True:
            try:
                frames = self.receive()
            except IpcError:
                self.stop()
                raise AppImportError("the process that imports the app died", "") from None
            for frame, _ in frames:
                return self._read_report(frame)

    def _read_report(self, frame: Frame) -> AppReport:
        head = frame.head
        if "error" in head:
            self._fail(frame)
        return AppReport(
            head["settings"],
            read_catalogue(head["tasks"]),
            head["main"],
            head["serializers"],
            head["entries"],
            frozenset(map(str, head.get("commands", ()))),
        )

    def _fail(self, frame: Frame) -> NoReturn:
        self.stop()
        if frame.head.get("drifted"):
            raise DriftError(str(frame.head["error"]))
        raise AppImportError(str(frame.head["error"]), str(frame.head.get("traceback", "")))

    def _environment(self) -> dict[str, str]:
        """The worker's environment, without Cardoon's settings, what holds a secret, and the way to systemd."""
        environment = {
            name: WITHHELD + name if name in self._withheld else value
            for name, value in os.environ.items()
            if not name.startswith(ENVIRONMENT_PREFIX) and name not in VARIABLES
        }
        environment[ROLE_VARIABLE] = "task"
        return environment

    def _warn_of_literals(self, first: Mapping[str, Any], last: Mapping[str, Any]) -> None:
        """A password in the source code is in the memory of every process that imports it."""
        for name in SECRETS:
            value = last.get(name)
            if value and value == first.get(name) and _holds_password(name, str(value)):
                logger.warning(
                    "%s is written in the app's source, where task code can read it; "
                    "use env:NAME or file:PATH",
                    name,
                )


def check_pool_settings(conf: Conf) -> None:
    """Refuse settings that a pool of processes cannot honour."""
    if conf.settings().broker_url.startswith("memory:"):
        raise ImproperlyConfigured(
            "broker_url: memory:// lives inside one process, so a worker started by itself would never "
            "see a message; use sqlite:///FILE"
        )


def _secret_variables(settings: Mapping[str, Any], environ: Mapping[str, str]) -> set[str]:
    """Variables that a secret setting names, or whose value it is."""
    found = set()
    for name in SECRETS:
        value = str(settings.get(name) or "")
        if value.startswith("env:"):
            found.add(value.removeprefix("env:"))
        elif value:
            found |= {variable for variable, held in environ.items() if held == value}
    return found & set(environ)


def _holds_password(name: str, value: str) -> bool:
    if value.startswith(("env:", "file:", WITHHELD)):
        return False
    if name.endswith("password"):
        return True
    try:
        return bool(urlsplit(value).password)
    except ValueError:
        return False
