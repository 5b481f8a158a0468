"""`cardoon worker`."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from cardoon import __version__
from cardoon.cli.daemon import become_daemon, drop_privileges, lock_pidfile, write_pidfile
from cardoon.cli.main import Invocation
from cardoon.config import POOLS, Conf, changed
from cardoon.loading import load_app, load_modules
from cardoon.log import LEVELS, log_formats, setup_logging
from cardoon.worker.worker import Worker, WorkerOptions

_NOT_HERE = {
    "beat": "-B: this version has no beat yet",
    "task_events": "-E: this version sends no events yet",
    "autoscale": "--autoscale: this version has no autoscaler yet; use --concurrency",
    "statedb": "--statedb: not needed; revocations are kept in the broker",
}
"""Options of Celery's worker that are refused, with the reason."""


def octal(text: str) -> int:
    """A file mode given as an argument."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text):
        raise click.BadParameter(f"{text!r} is not a number in octal, such as 027")
    return int(text, 8)


@click.command()
@click.option(
    "-A", "--app", "own_app", metavar="MODULE[:NAME]", help="The app, as before `worker`."
)
@click.option("-n", "--hostname", help="Name of this worker; %h, %n and %d are replaced.")
@click.option(
    "-Q", "--queues", metavar="NAMES", help="Queues to consume, with commas.  [task_queues]"
)
@click.option("-X", "--exclude-queues", metavar="NAMES", help="Queues not to consume.")
@click.option("-P", "--pool", type=click.Choice(POOLS), help="How tasks run.  [prefork]")
@click.option("-c", "--concurrency", type=int, help="Tasks at a time.  [number of CPUs]")
@click.option("-I", "--include", metavar="MODULES", help="Further modules to import.")
@click.option(
    "--prefetch-multiplier", type=int, help="Messages claimed ahead for each slot, at most."
)
@click.option("--time-limit", type=float, help="Seconds until a task is killed.")
@click.option("--soft-time-limit", type=float, help="Seconds until a task is interrupted.")
@click.option("--max-tasks-per-child", type=int, help="Tasks until a process is replaced.")
@click.option("--max-memory-per-child", type=int, help="KiB until a process is replaced.")
@click.option("--purge", "--discard", is_flag=True, help="Delete all waiting messages first.")
@click.option(
    "-l",
    "--loglevel",
    default="warning",
    show_default=True,
    type=click.Choice(list(LEVELS), case_sensitive=False),
    help="The least level that is logged.",
)
@click.option("-f", "--logfile", help="Log there instead of the terminal.")
@click.option("-D", "--detach", is_flag=True, help="Go to the background; needs --logfile.")
@click.option("--pidfile", help="Write the process id there; refuses if that process lives.")
@click.option("--uid", help="Run as this user.")
@click.option("--gid", help="Run as this group.")
@click.option("--umask", type=octal, help="In octal.")
@click.option("-O", "--optimization", hidden=True)
@click.option("--without-gossip", is_flag=True, hidden=True)
@click.option("--without-mingle", is_flag=True, hidden=True)
@click.option("--without-heartbeat", is_flag=True, hidden=True)
@click.option("-B", "--beat", is_flag=True, hidden=True)
@click.option("-E", "--task-events", is_flag=True, hidden=True)
@click.option("--autoscale", hidden=True)
@click.option("-S", "--statedb", hidden=True)
@click.pass_obj
def worker(invocation: Invocation, /, own_app: str | None, **options: Any) -> None:
    """Start a worker.

    Stop it with Ctrl-C or SIGTERM: it claims no more, gives its tasks time to end
    (`worker_soft_shutdown_timeout`, 25 s), hands back what is left, and exits with 0. A second
    signal, or SIGQUIT, stops it at once; no task is lost.
    """
    for name, reason in _NOT_HERE.items():
        if options[name]:
            raise click.UsageError(reason)
    target = own_app or invocation.app
    if target is None:
        raise click.UsageError("-A is missing: name the module of your app, as in `-A tasks`")
    _enter_background(options)
    logging_setup = _logging_setup(invocation, options)
    settings = {**invocation.settings, **_settings(options)}
    conf = Conf()
    conf.update(settings)
    draft = conf.draft()
    worker_options = WorkerOptions(
        app=target,
        hostname=_hostname(options["hostname"]),
        queues=_names(options["queues"]),
        exclude_queues=_names(options["exclude_queues"]),
        settings=settings,
        logging_setup=logging_setup,
        purge=options["purge"],
    )
    in_this_process = draft.worker_pool == "solo"
    app = load_app(target) if in_this_process else None
    if app is not None:
        app.set_default()
        app.conf.update(settings)
        load_modules(app)
    started = Worker(worker_options, app=app)
    # In this process, the receivers of signals have had their say; it is done.
    if app is None and (formats := log_formats(changed(started.settings))):
        setup_logging(**{**logging_setup, **formats})
    started.install_signals()  # whoever reads the banner may stop it
    if not invocation.quiet:
        _print_banner(started)
    _warn_of_url(invocation)
    sys.exit(started.run())


def _enter_background(options: dict[str, Any]) -> None:
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


def _logging_setup(invocation: Invocation, options: dict[str, Any]) -> dict[str, Any]:
    """Set up logging here, and describe it for the task processes."""
    conf = Conf()
    conf.update(invocation.settings)
    formats = log_formats(dataclasses.asdict(conf.draft()))
    setup = {"level": options["loglevel"], "logfile": options["logfile"], **formats}
    setup_logging(**setup)
    return setup


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    given = {
        "worker_pool": options["pool"],
        "worker_concurrency": options["concurrency"],
        "include": options["include"],
        "worker_prefetch_multiplier": options["prefetch_multiplier"],
        "task_time_limit": options["time_limit"],
        "task_soft_time_limit": options["soft_time_limit"],
        "worker_max_tasks_per_child": options["max_tasks_per_child"],
        "worker_max_memory_per_child": options["max_memory_per_child"],
    }
    return {name: value for name, value in given.items() if value is not None}


def _names(given: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (given or "").split(",") if name.strip())


def _hostname(pattern: str | None) -> str:
    """`worker@host`, with Celery's %h (host name), %n (its first part) and %d (the rest)."""
    if not pattern:
        return ""
    host = os.uname().nodename
    short, _, domain = host.partition(".")
    for mark, value in (("%h", host), ("%n", short), ("%d", domain)):
        pattern = pattern.replace(mark, value)
    return pattern if "@" in pattern else f"{pattern}@{host}"


def _print_banner(started: Worker) -> None:
    told = started.describe()
    tasks = told.pop("tasks")
    click.secho(f"\n cardoon {__version__}  (a thistle that looks like celery)\n", bold=True)
    for name, value in told.items():
        click.echo(f"  {name:<10} {value}")
    click.echo(f"  {'tasks':<10} {len(tasks)}")
    for name in tasks:
        click.echo(f"             . {name}")
    click.echo()
    sys.stdout.flush()


def _warn_of_url(invocation: Invocation) -> None:
    for name, value in invocation.settings.items():
        if "@" in str(value):
            logging.getLogger(__name__).warning(
                "%s was given on the command line, where every user of this host can read it", name
            )
