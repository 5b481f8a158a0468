"""`cardoon doctor --send-canaries`: what workers do with messages that they must refuse."""

from __future__ import annotations

from collections.abc import Collection

import click

from cardoon.cli.access import printable
from cardoon.deployment import Deployment
from cardoon.doctor.check import Check
from cardoon.doctor.lures import Trial
from cardoon.doctor.luring import try_canaries
from cardoon.syslog.service import sending

JUDGED = ("MSG-01", "MSG-02", "MSG-03")
"""The checks that canaries tell something to."""


def check_wish(checks: Collection[Check], *, sends: bool, queue: str | None) -> None:
    """`UsageError` where canaries would tell nothing to any of these checks, or are named and not sent."""
    if queue is not None and not sends:
        raise click.UsageError("--canary-queue is for --send-canaries; give that as well")
    if sends and not any(one.id in JUDGED for one in checks):
        raise click.UsageError(
            f"--send-canaries is for {', '.join(JUDGED)}, and none of them is asked; name one with --only"
        )


def send_canaries(deployment: Deployment, *, queue: str) -> Trial:
    """Send them, and tell what became of them."""
    with sending(deployment.audit(), deployment.settings, clock=deployment.clock):
        return try_canaries(deployment, queue=queue)


def print_trial(trial: Trial | None) -> None:
    """For people: each canary, and what is left of them."""
    if trial is None:
        return
    click.echo(f"canaries {trial.ids}-*, sent to queue {printable(trial.queue)!r}")
    for one in trial.sightings:
        click.echo(f"  {printable(str(one))}")
    if trial.doubt:
        click.echo(f"  {printable(trial.doubt)}")
    if trial.left:
        click.echo(f"  left there: {printable(trial.left)}")
