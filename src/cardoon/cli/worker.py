"""`cardoon worker`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cardoon import __version__
from cardoon.cli.background import (
    background_options,
    enter_background,
    expand_files,
    find_target,
    set_up_logging,
    warn_of_url,
)
from cardoon.cli.choices import POOLS
from cardoon.cli.completing import QUEUE
from cardoon.cli.main import Invocation
from cardoon.worker.options import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker

# What runs a worker is imported in the functions below: `cardoon worker --help` need not wait for it.

_NOT_HERE = {
    "statedb": "--statedb: not needed; revocations are kept in the broker",
    "disable_prefetch": "--disable-prefetch: use --prefetch-multiplier 1; ETA and what waits stay in the broker",
}
"""Options of Celery's worker that are refused, with the reason."""


def autoscale(text: str) -> tuple[int, int]:
    """The fewest and the most tasks at a time, from `MAX,MIN`."""
    most, _, least = text.partition(",")
    try:
        found = (int(least or 1), int(most))
    except ValueError:
        found = (0, 0)
    if not 1 <= found[0] <= found[1]:
        raise click.BadParameter(f"{text!r}: give MAX,MIN such as 10,2, the most and the fewest")
    return found


@click.command()
@click.option(
    "-A", "--app", "own_app", metavar="MODULE[:NAME]", help="The app, as before `worker`."
)
@click.option("-n", "--hostname", help="Name of this worker; %h, %n and %d are replaced.")
@click.option(
    "-Q",
    "--queues",
    metavar="NAMES",
    type=QUEUE,
    help="Queues to consume, with commas.  [task_queues]",
)
@click.option("-X", "--exclude-queues", metavar="NAMES", type=QUEUE, help="Queues not to consume.")
@click.option("-P", "--pool", type=click.Choice(POOLS), help="How tasks run.  [prefork]")
@click.option("-c", "--concurrency", type=int, help="Tasks at a time.  [number of CPUs]")
@click.option(
    "--autoscale", metavar="MAX[,MIN]", type=autoscale, help="Tasks at a time, as the load is."
)
@click.option("-I", "--include", metavar="MODULES", help="Further modules to import.")
@click.option(
    "--prefetch-multiplier", type=int, help="Messages claimed ahead for each slot, at most."
)
@click.option("--time-limit", type=float, help="Seconds until a task is killed.")
@click.option("--soft-time-limit", type=float, help="Seconds until a task is interrupted.")
@click.option("--max-tasks-per-child", type=int, help="Tasks until a process is replaced.")
@click.option("--max-memory-per-child", type=int, help="KiB until a process is replaced.")
@click.option("--purge", "--discard", is_flag=True, help="Delete all waiting messages first.")
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.  [worker_log_format]")
@click.option(
    "--metrics",
    metavar="ADDRESS",
    help="Serve metrics and health there: HOST:PORT or unix:PATH.  [worker_metrics_address]",
)
@click.option(
    "--require-doctor",
    type=click.Choice(["high", "critical"]),
    help="Do not start while `cardoon doctor --deploy` finds something so severe.  [doctor_require]",
)
@click.option(
    "--integrity-imports",
    type=click.Choice(["off", "record", "covered", "refuse"]),
    help="Hold each module against the baseline as it is imported.  [integrity_imports]",
)
@click.option("--integrity-baseline", metavar="FILE", help="The baseline.  [integrity_baseline]")
@click.option(
    "--integrity-key",
    metavar="FILE",
    multiple=True,
    help="Public key that approves baselines; several times for several.  [integrity_key]",
)
@background_options
@click.option(
    "-E", "--task-events", is_flag=True, help="Send events of tasks, for `cardoon events`."
)
@click.option(
    "--heartbeat-interval",
    type=click.FloatRange(0.1, 3600),
    default=HEARTBEAT_SECONDS,
    show_default=True,
    help="Seconds from one event that the worker is alive to the next.",
)
@click.option("--without-heartbeat", is_flag=True, help="Send none of those.")
@click.option("-O", "--optimization", hidden=True)
@click.option("--without-gossip", is_flag=True, hidden=True)
@click.option("--without-mingle", is_flag=True, hidden=True)
@click.option("--disable-prefetch", is_flag=True, hidden=True)
@click.option("-B", "--beat", is_flag=True, help="Send the app's periodic tasks as well.")
@click.option("-S", "--statedb", hidden=True)
@click.option("-s", "--schedule-filename", hidden=True)
@click.option("--scheduler", hidden=True)
@click.pass_obj
def worker(invocation: Invocation, /, own_app: str | None, **options: Any) -> None:
    """Start a worker.

    \b
    cardoon -A tasks worker -l info -c 4 -Q mails,images

    Stop it with Ctrl-C or SIGTERM: it claims no more, gives its tasks time to end
    (`worker_soft_shutdown_timeout`, 25 s), hands back what is left, and exits with 0. A second
    signal, or SIGQUIT, stops it at once; no task is lost. Several at once: `cardoon multi`.
    """  # noqa: D301  # \b keeps click from filling the lines
    target = _find_target(invocation, own_app, options)
    from cardoon.config import Conf, changed  # noqa: PLC0415
    from cardoon.loading import load_app, load_modules  # noqa: PLC0415
    from cardoon.log import log_formats, setup_logging  # noqa: PLC0415
    from cardoon.worker.import_watch import watch_imports  # noqa: PLC0415
    from cardoon.worker.options import WorkerOptions  # noqa: PLC0415
    from cardoon.worker.worker import Worker  # noqa: PLC0415

    name = _hostname(options["hostname"]) or f"cardoon@{os.uname().nodename}"
    expand_files(options, name)
    enter_background(options)
    settings = {**invocation.settings, **_settings(options)}
    logging_setup = set_up_logging(settings, options)
    conf = Conf()
    conf.update(settings)
    draft = conf.draft()
    imports = watch_imports(draft)
    if imports is not None:
        settings |= imports.settings
    worker_options = WorkerOptions(
        app=target,
        hostname=_hostname(options["hostname"]),
        queues=_names(options["queues"]),
        exclude_queues=_names(options["exclude_queues"]),
        settings=settings,
        logging_setup=logging_setup,
        purge=options["purge"],
        heartbeat=None if options["without_heartbeat"] else options["heartbeat_interval"],
        autoscale=options["autoscale"],
        beat=options["beat"],
        imports=imports,
    )
    in_this_process = draft.worker_pool == "solo"
    with contextlib.nullcontext() if imports is None else imports.beginning():
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
    warn_of_url(invocation)
    sys.exit(started.run())


def _find_target(invocation: Invocation, own_app: str | None, options: dict[str, Any]) -> str:
    """The app that is named; `UsageError` for none, and for options that are not to be had."""
    for name, reason in _NOT_HERE.items():
        if options[name]:
            raise click.UsageError(reason)
    if options["autoscale"] and options["pool"] == "solo":
        raise click.UsageError("--autoscale: the pool solo runs one task at a time; use another -P")
    target = find_target(invocation, own_app)
    if invocation.config is not None:
        raise click.UsageError(
            f"--config {invocation.config}: a worker imports no code of yours; have the app itself call "
            f"app.config_from_object({invocation.config!r})"
        )
    return target


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    given = {
        "worker_pool": options["pool"],
        "worker_concurrency": options["autoscale"][0]
        if options["autoscale"]
        else options["concurrency"],
        "include": options["include"],
        "worker_prefetch_multiplier": options["prefetch_multiplier"],
        "task_time_limit": options["time_limit"],
        "task_soft_time_limit": options["soft_time_limit"],
        "worker_max_tasks_per_child": options["max_tasks_per_child"],
        "worker_max_memory_per_child": options["max_memory_per_child"],
        "worker_metrics_address": options["metrics"],
        "worker_log_format": "json" if options["log_json"] else None,
        "worker_send_task_events": options["task_events"] or None,
        "beat_scheduler": options["scheduler"],
        "syslog_address": options["syslog"] or None,
        "doctor_require": options["require_doctor"],
        "integrity_imports": options["integrity_imports"],
        "integrity_baseline": options["integrity_baseline"],
        "integrity_key": options["integrity_key"] or None,
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
