"""`cardoon beat`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import click

from cardoon import __version__
from cardoon.beat.service import Beat
from cardoon.cli.background import (
    background_options,
    enter_background,
    expand_files,
    find_target,
    set_up_logging,
    warn_of_url,
)
from cardoon.cli.main import Invocation
from cardoon.config import changed
from cardoon.loading import load_app
from cardoon.log import log_formats, setup_logging
from cardoon.worker.banner import signer_name
from cardoon.worker.host import safe_url

logger = logging.getLogger(__name__)

_ONCE = ("-D", "--detach", "--uid", "--gid", "--umask")
"""Options that have had their effect when a beat begins anew in the same process."""


@click.command()
@click.option("-A", "--app", "own_app", metavar="MODULE[:NAME]", help="The app, as before `beat`.")
@click.option(
    "--max-interval",
    type=click.FloatRange(min=0.05),
    metavar="SECONDS",
    help="How soon a change of the schedule is seen, at the latest.  [5]",
)
@click.option("-S", "--scheduler", metavar="NAME", help="Celery's own, or none: there is one.")
@click.option("-s", "--schedule", hidden=True)
@background_options
@click.pass_obj
def beat(invocation: Invocation, /, own_app: str | None, **options: Any) -> None:
    """Send the periodic tasks of an app.

    \b
    cardoon -A tasks beat -l info
    cardoon -A tasks beat -l info      # a second one, on another host: each tick is sent once all the same

    Stop it with Ctrl-C or SIGTERM: what is being sent is finished. SIGHUP has it begin anew with the app's
    present code. There is no schedule file: how far each entry was sent is kept in the broker's store.
    """  # noqa: D301  # \b keeps click from filling the lines
    target = find_target(invocation, own_app)
    settings = dict(invocation.settings)
    if options["scheduler"]:
        settings["beat_scheduler"] = options["scheduler"]
    if options["syslog"]:
        settings["syslog_address"] = options["syslog"]
    expand_files(options, f"beat@{os.uname().nodename}")
    enter_background(options)
    setup = set_up_logging(settings, options)
    if options["schedule"]:
        logger.warning("-s %s is not needed: the broker's store keeps it", options["schedule"])
    app = load_app(target)
    app.set_default()
    app.conf.update(settings)
    started = Beat(app, max_interval=options["max_interval"])
    if formats := log_formats(changed(app.settings)):
        setup_logging(**{**setup, **formats})
    handler = _Signals(started)
    if not invocation.quiet:
        _print_banner(started)
    warn_of_url(invocation)
    started.run()
    if handler.wants_anew:
        arguments = again(sys.argv[1:])
        logger.warning("beginning anew")
        os.execv(sys.executable, [sys.executable, "-m", "cardoon", *arguments])  # noqa: S606


def again(arguments: list[str]) -> list[str]:
    """The arguments for beginning anew in the same process, which is in the background already."""
    left = []
    rest = iter(arguments)
    for one in rest:
        name, mark, _ = one.partition("=")
        if name not in _ONCE:
            left.append(one)
        elif name.startswith("--") and name != "--detach" and not mark:
            next(rest, None)
    return left


class _Signals:
    """SIGTERM and SIGINT stop a beat, and stop it at once the second time; SIGHUP begins it anew."""

    def __init__(self, started: Beat) -> None:
        self.wants_anew = False
        self._beat = started
        self._asked = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._asked += 1
        if number == signal.SIGHUP:
            self.wants_anew = True
        elif self._asked > 1:
            os._exit(1)
        # Locks may be held by the code that this interrupts, so another thread does the work.
        threading.Thread(target=self._beat.request_stop, daemon=True).start()


def _print_banner(started: Beat) -> None:
    deployment, entries = started.deployment, started.app.settings.beat_schedule
    told = {
        "app": started.app.main or "__main__",
        "identity": signer_name(deployment) or "none: messages are not signed",
        "broker": safe_url(deployment.broker_url),
        "zone": started.app.settings.timezone,
        "schedule": entries.describe() if entries else "no entries",
    }
    click.secho(f"\n cardoon {__version__} beat\n", bold=True)
    for name, value in told.items():
        click.echo(f"  {name:<10} {value}")
    click.echo()
    sys.stdout.flush()
