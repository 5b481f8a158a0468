"""What commands have in common that run until they are stopped: logging, and going to the background."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from cardoon.cli.choices import LEVELS
from cardoon.cli.daemon import become_daemon, drop_privileges, lock_pidfile, write_pidfile
from cardoon.cli.main import Invocation
from cardoon.cli.nodes import Node


def wait_for_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on, instead of ending this process at once."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def octal(text: str) -> int:
    """A file mode given as an argument."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text):
        raise click.BadParameter(f"{text!r} is not a number in octal, such as 027")
    return int(text, 8)


def refuse_executable(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Celery's `--executable` is refused with what does the same."""
    if value is not None and not ctx.resilient_parsing:
        raise click.UsageError(
            f"--executable {value}: start that Python itself: {value} -m cardoon -A ... {ctx.info_name}",
            ctx,
        )


_OPTIONS = (
    click.option(
        "-l",
        "--loglevel",
        default="warning",
        show_default=True,
        type=click.Choice(LEVELS, case_sensitive=False),
        help="The least level that is logged.",
    ),
    click.option(
        "-f", "--logfile", help="Log there instead of the terminal; %n is the node's name."
    ),
    click.option(
        "--syslog",
        metavar="URL",
        multiple=True,
        help="Send audit records and the log there: tls://HOST:PORT, tcp://, udp:// or unix:/dev/log; "
        "several times for several.  [syslog_address]",
    ),
    click.option("-D", "--detach", is_flag=True, help="Go to the background; needs --logfile."),
    click.option("--pidfile", help="Write the process id there; refuses if that process lives."),
    click.option("--uid", help="Run as this user."),
    click.option("--gid", help="Run as this group."),
    click.option("--umask", type=octal, help="In octal."),
    click.option("--executable", hidden=True, expose_value=False, callback=refuse_executable),
)


def background_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that runs until it is stopped: its log, and how it goes to the background."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def find_target(invocation: Invocation, own_app: str | None) -> str:
    """The app that `-A` names, before the command or behind it; `UsageError` for none."""
    target = own_app or invocation.app
    if target is None:
        raise click.UsageError("-A is missing: name the module of your app, as in `-A tasks`")
    return target


def expand_files(options: dict[str, Any], node: str) -> None:
    """Replace %n, %h, %d and the like in the names of files, as Celery does."""
    named = Node(node, ())
    for name in ("logfile", "pidfile"):
        if options[name]:
            options[name] = named.expand(options[name])


def enter_background(options: Mapping[str, Any]) -> None:
    """Take the user, the pid file and the background that the options name."""
    if options["detach"] and not options["logfile"]:
        raise click.UsageError("--detach needs --logfile: there is no terminal to log to")
    if options["umask"] is not None:
        os.umask(options["umask"])
    if options["uid"] or options["gid"]:
        drop_privileges(options["uid"], options["gid"])
    pidfile = Path(options["pidfile"]).absolute() if options["pidfile"] else None
    lock = lock_pidfile(pidfile) if pidfile else -1
    if options["detach"]:
        become_daemon(Path(options["logfile"]).expanduser())
    if pidfile:
        write_pidfile(lock, pidfile)


def set_up_logging(settings: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Set up logging here, and describe it for the task processes."""
    from cardoon.config import Conf  # noqa: PLC0415  # --help need not wait for it
    from cardoon.log import log_formats, setup_logging  # noqa: PLC0415

    conf = Conf()
    conf.update(settings)
    formats = log_formats(dataclasses.asdict(conf.draft()))
    setup = {"level": options["loglevel"], "logfile": options["logfile"], **formats}
    setup_logging(**setup)
    return setup


def warn_of_url(invocation: Invocation) -> None:
    """Say so if the command line shows a password."""
    for name, value in invocation.settings.items():
        if "@" in str(value):
            import logging  # noqa: PLC0415

            logging.getLogger(__name__).warning(
                "%s was given on the command line, where every user of this host can read it", name
            )
