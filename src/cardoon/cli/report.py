"""`cardoon report`."""

from __future__ import annotations

import click

from cardoon.cli.access import answer, answer_option, find_app
from cardoon.cli.main import Invocation


@click.command()
@answer_option
@click.pass_obj
def report(invocation: Invocation) -> None:
    """Show versions, platform and settings, without secrets, for a report of a bug."""
    text = find_app(invocation).bugreport()
    answer({"report": text.splitlines()}, text)
