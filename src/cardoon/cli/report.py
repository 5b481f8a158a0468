"""`cardoon report`."""

from __future__ import annotations

import click

from cardoon.cli.access import find_app
from cardoon.cli.main import Invocation


@click.command()
@click.pass_obj
def report(invocation: Invocation) -> None:
    """Show versions, platform and settings, without secrets, for a report of a bug."""
    click.echo(find_app(invocation).bugreport())
