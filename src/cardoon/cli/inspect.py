"""`cardoon inspect`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cardoon.cli.access import find_app
from cardoon.cli.commanding import asker, asking_options, list_commands, read_arguments
from cardoon.cli.main import Invocation
from cardoon.commands import INSPECT


@click.command("inspect")
@click.argument("command", required=False)
@click.argument("arguments", nargs=-1)
@click.option("--list", "as_list", is_flag=True, help="List what can be asked.")
@asking_options
@click.pass_obj
def inspect(
    invocation: Invocation,
    command: str | None,
    arguments: Sequence[str],
    as_list: bool,  # noqa: FBT001  # click passes flags so
    destination: str | None,
    timeout: float,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Ask workers COMMAND, such as `active`, and show what each answers.

    Exits with 69 if none answered in time, and with 1 if one answered with an error.

    \b
    cardoon -A tasks inspect active
    cardoon -A tasks inspect query_task 3f1c... -d worker1@host -t 5
    cardoon -A tasks inspect --list
    """  # noqa: D301  # \b keeps click from filling the lines
    if as_list:
        find_app(invocation)
        list_commands(INSPECT)
        return
    if command is None:
        raise click.UsageError("ask what? `cardoon inspect --list` says what there is")
    with asker(invocation, destination=destination, timeout=timeout, as_json=as_json) as one:
        one.show(one.ask(command, read_arguments(command, arguments, INSPECT)))
