"""`cardoon replay`: since when the store knows what was carried out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import click

from cardoon.cli.access import (
    answer,
    answer_option,
    json_option,
    open_audit,
    open_broker,
    print_json,
    when,
)
from cardoon.cli.main import Invocation
from cardoon.exceptions import ImproperlyConfigured
from cardoon.security.replay import ReplayGuard


@click.group()
def replay() -> None:
    """Since when it is known what was carried out."""


@replay.command()
@json_option
@click.pass_obj
def show(invocation: Invocation, as_json: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Show since when the store remembers; begins that in a store that is empty.

    What was signed before is refused, as `before-epoch`.
    """
    with _open_guard(invocation) as guard:
        memory = guard.memory()
    if as_json:
        print_json({"since": memory.since, "number": memory.number})
    else:
        click.echo(f"since {when(memory.since)} (UTC), message {memory.number}")


@replay.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@answer_option
@click.pass_obj
def renew(invocation: Invocation, force: bool) -> None:  # noqa: FBT001
    """Have the store begin to remember at this moment.

    For one that was restored from a backup, or has lost writes: what was carried out meanwhile it does not
    know. All that was signed before now goes to the quarantine when it is taken from its queue, unless the
    store knows it.
    """
    if not force:
        click.confirm("Refuse what was signed before now?", abort=True)
    with _open_guard(invocation) as guard:
        memory = guard.begin_anew()
    with contextlib.closing(open_audit(invocation)) as audit:
        audit.record("operator.renew_epoch", since=when(memory.since), number=memory.number)
    told = f"since {when(memory.since)} (UTC), message {memory.number}"
    answer({"since": memory.since, "number": memory.number}, told)


@contextmanager
def _open_guard(invocation: Invocation) -> Iterator[ReplayGuard]:
    with open_broker(invocation) as broker:
        if not isinstance(broker, ReplayGuard):
            raise ImproperlyConfigured("this broker cannot remember what was carried out before")
        yield broker
