"""`cardoon events`: the view of a cluster, a line an event, or a camera's pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import click

from cardoon.app import Cardoon
from cardoon.cli.access import find_app, printable
from cardoon.cli.background import enter_background, octal, refuse_executable
from cardoon.cli.main import Invocation
from cardoon.config import Settings
from cardoon.events import State
from cardoon.events.snapshot import Polaroid
from cardoon.exceptions import ImproperlyConfigured
from cardoon.loader import load_symbol
from cardoon.log import LEVELS, log_formats, setup_logging

_HEAD = ("type", "timestamp", "hostname")
_LESS = frozenset({*_HEAD, "utcoffset", "clock", "local_received", "uuid"})
"""Fields that a dumped line says first, or leaves to `--json`."""


@click.command()
@click.option("-d", "--dump", is_flag=True, help="Print a line for each event.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
@click.option("--limit", type=click.IntRange(1), help="With these two: end after so many events.")
@click.option(
    "--timeout", type=float, help="With these two: end when none came for so many seconds."
)
@click.option("-c", "--camera", metavar="MODULE:NAME", help="Take pictures with this camera.")
@click.option(
    "-F",
    "--frequency",
    "--freq",
    type=click.FloatRange(0.01, 86_400),
    default=1.0,
    show_default=True,
    help="Seconds from one picture to the next.",
)
@click.option("-r", "--maxrate", metavar="RATE", help="At most so many pictures: 10/m.")
@click.option("-D", "--detach", is_flag=True, help="With a camera: go to the background.")
@click.option(
    "-l",
    "--loglevel",
    default="warning",
    type=click.Choice(list(LEVELS), case_sensitive=False),
    help="The least level that is logged.",
)
@click.option("-f", "--logfile", help="Log there instead of the terminal.")
@click.option("--pidfile", help="Write the process id there.")
@click.option("--uid", help="Run as this user.")
@click.option("--gid", help="Run as this group.")
@click.option("--umask", type=octal, help="In octal.")
@click.option("--executable", hidden=True, expose_value=False, callback=refuse_executable)
@click.pass_obj
def events(invocation: Invocation, /, **options: Any) -> None:
    """Watch workers and tasks, live.

    Shows what workers tell of themselves, and of tasks where they were started with -E. Keys: arrows move,
    Enter looks closer, w and t list workers and tasks, / filters, p pauses, r revokes, q ends, ? helps.

    \b
    cardoon -A tasks events             the view
    cardoon -A tasks events --dump      a line for each event
    cardoon -A tasks events --json      the same for programs
    cardoon -A tasks events -c cams:Cam -F 10
    """  # noqa: D301  # \b keeps click from filling the lines
    _check(options)
    if options["camera"]:
        _photograph(invocation, options)
    elif options["dump"] or options["as_json"]:
        _log(options["loglevel"], options)
        with find_app(invocation) as app, _ended_by_signals():
            _print_events(app, options)
    else:
        from cardoon.cli.event_screen import show  # noqa: PLC0415  # curses is not everywhere

        _log("critical", options)  # a line would spoil the screen
        with find_app(invocation) as app:
            show(app)


def _log(level: str, options: Mapping[str, Any]) -> None:
    formats = log_formats(dataclasses.asdict(Settings()))
    setup_logging(level=level, logfile=options["logfile"], **formats)


def _check(options: Mapping[str, Any]) -> None:
    if options["camera"] and (options["dump"] or options["as_json"]):
        raise click.UsageError("--camera takes pictures, and --dump and --json print; use one")
    for name in ("limit", "timeout"):
        if options[name] is not None and not (options["dump"] or options["as_json"]):
            raise click.UsageError(f"--{name} is for --dump and --json")
    if options["detach"] and not (options["camera"] and options["logfile"]):
        raise click.UsageError("--detach is for a --camera, and needs --logfile")


def _print_events(app: Cardoon, options: Mapping[str, Any]) -> None:
    line = _json_line if options["as_json"] else dumped
    receiver = app.events.Receiver()
    try:
        for event in receiver.itercapture(options["limit"], options["timeout"]):
            sys.stdout.write(f"{line(event)}\n")
            sys.stdout.flush()
    except TimeoutError:
        pass  # as was asked for
    if receiver.refused and options["as_json"] is False:
        count = sum(receiver.refused.values())
        click.echo(f"{count} frames were refused; see the audit trail", err=True)


def _json_line(event: Mapping[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"))


def dumped(event: Mapping[str, Any]) -> str:
    """An event as a line for people; what it says can neither move the cursor nor end the line."""
    kind, moment, node = (event[name] for name in _HEAD)
    clock = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    uuid = f" {event['uuid']}" if "uuid" in event else ""
    rest = [
        f"{name}={value}"
        for name, value in event.items()
        if name not in _LESS and value is not None
    ]
    return printable(" ".join([clock, str(node), f"{kind}{uuid}", *rest]))


def _photograph(invocation: Invocation, options: Mapping[str, Any]) -> None:
    enter_background(options)
    _log(options["loglevel"], options)
    with find_app(invocation) as app, _ended_by_signals():
        state = app.events.State()
        kind = load_symbol(options["camera"])
        if not callable(kind):
            raise ImproperlyConfigured(f"--camera {options['camera']}: it is no camera class")
        camera = kind(state, freq=options["frequency"], maxrate=options["maxrate"], app=app)
        if not isinstance(camera, Polaroid):
            raise ImproperlyConfigured(
                f"--camera {options['camera']}: it is no subclass of cardoon.events.snapshot.Polaroid"
            )
        with camera:
            app.events.Receiver(handlers={"*": state.event}).capture()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C end it as if it had ended by itself."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


class Watch:
    """Captures events in a thread of its own, into a state."""

    def __init__(self, app: Cardoon, *, on_failure: Callable[[BaseException], None]) -> None:
        self.state = State()
        self.receiver = app.events.Receiver(handlers={"*": self.state.event})
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End within about a second."""
        self.receiver.should_stop = True
        self._thread.join(2.0)

    def _run(self) -> None:
        try:
            self.receiver.capture()
        except Exception as error:  # noqa: BLE001  # the screen says so, and ends
            self._on_failure(error)
