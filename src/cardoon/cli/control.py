"""`cardoon control`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cardoon.calling import MAX_ID_BYTES, check_text
from cardoon.cli.access import find_app
from cardoon.cli.commanding import asker, asking_options, list_commands, read_arguments
from cardoon.cli.main import Invocation
from cardoon.commands import CONTROL, TERMINATE
from cardoon.control import read_signal
from cardoon.message.protocol import REVOKE, REVOKE_BY_STAMPS
from cardoon.stamps import parse_wanted


@click.command("control")
@click.argument("command", required=False)
@click.argument("arguments", nargs=-1)
@click.option("--list", "as_list", is_flag=True, help="List what there is.")
@asking_options
@click.pass_obj
def control(
    invocation: Invocation,
    command: str | None,
    arguments: Sequence[str],
    as_list: bool,  # noqa: FBT001  # click passes flags so
    destination: str | None,
    timeout: float,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Have workers carry out COMMAND, and show what each answers.

    Exits with 69 if none answered in time, and with 1 if one answered with an error. A revocation holds also
    for workers that are started later.

    \b
    cardoon -A tasks control rate_limit tasks.add 10/m
    cardoon -A tasks control add_consumer slow -d worker1@host
    cardoon -A tasks control terminate SIGTERM 3f1c...
    cardoon -A tasks control --list
    """  # noqa: D301  # \b keeps click from filling the lines
    if as_list:
        find_app(invocation)
        list_commands(CONTROL)
        return
    if command is None:
        raise click.UsageError("do what? `cardoon control --list` says what there is")
    with asker(invocation, destination=destination, timeout=timeout, as_json=as_json) as one:
        name, given = _read(command, arguments)
        one.show(one.ask(name, given))


def _read(command: str, words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The command and its arguments; revocations are written as Celery's are."""
    if command == TERMINATE:
        if len(words) < 2:  # a signal and an id
            raise click.UsageError("terminate: give a signal and ids, such as SIGTERM 3f1c...")
        return REVOKE, _revocation(words[1:], terminate=True, signal=words[0])
    if command == REVOKE:
        if not words:
            raise click.UsageError("revoke: give ids")
        return REVOKE, _revocation(words, terminate=False, signal="SIGTERM")
    if command == REVOKE_BY_STAMPS:
        stamps: dict[str, list[str]] = {}
        for word in words:
            name, _, value = word.partition("=")
            stamps.setdefault(name, []).append(value)
        wanted = parse_wanted(stamps, method=command)
        return command, {"headers": dict(wanted), "terminate": False, "signal": "SIGTERM"}
    return command, read_arguments(command, words, CONTROL)


def _revocation(ids: Sequence[str], *, terminate: bool, signal: str) -> dict[str, Any]:
    for one in ids:
        check_text("task_id", one, MAX_ID_BYTES)
    return {"ids": list(ids), "terminate": terminate, "signal": read_signal(signal)}
