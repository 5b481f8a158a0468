"""`cardoon migrate`."""

from __future__ import annotations

import contextlib
import sys
import time

import click

from cardoon.app import Cardoon
from cardoon.cli.access import find_app, json_option, open_audit, print_json
from cardoon.cli.codes import Exit
from cardoon.cli.completing import QUEUE
from cardoon.cli.main import Invocation
from cardoon.cli.migrating import Mover, Plan, Store, Tally, heeding_signals, open_store
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment


@click.command(
    epilog="Example: `cardoon -A tasks migrate redis://old rediss://new -Q mails`. Stop senders first, or point them "
    "at DST; see docs/cli.md."
)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option(
    "-n", "--limit", type=click.IntRange(0), default=0, help="So many at most; 0 for all."
)
@click.option(
    "-t",
    "--timeout",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    help="Seconds without a further message until it ends.",
)
@click.option("-a", "--ack-messages", is_flag=True, hidden=True)
@click.option("-T", "--tasks", metavar="NAMES", help="Only these tasks, with commas.")
@click.option("-Q", "--queues", metavar="NAMES", type=QUEUE, help="Only these queues, with commas.")
@click.option(
    "-F", "--forever", is_flag=True, help="Go on until Ctrl-C, as more comes or falls due."
)
@json_option
@click.pass_obj
def migrate(
    invocation: Invocation,
    source: str,
    destination: str,
    limit: int,
    timeout: float,
    ack_messages: bool,  # noqa: FBT001  # click passes flags so
    tasks: str | None,
    queues: str | None,
    forever: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Move the messages that wait from the broker SRC to DST, signed as they are, each verified on the way.

    SRC and DST are URLs, or env:NAME or file:PATH, so that nobody reads a password on the command line. What
    does not verify goes to the quarantine of SRC. What is revoked stays so. Interrupted at any moment, it has
    lost nothing: run it again. What is not due stays until it is (-F waits for it); what is unique, limited or
    part of a workflow stays for workers of SRC. Attempts and retries are counted anew at DST.
    """
    del (
        ack_messages
    )  # Celery copies without it, and both copies would run; here a move is the only way
    clock = SystemClock()
    app = find_app(invocation)
    settings = app.settings
    started = time.monotonic()

    def tell(tally: Tally) -> None:
        nonlocal started
        if not invocation.quiet and time.monotonic() - started > 1.0:
            started = time.monotonic()
            click.echo(f"moved {tally.moved}, refused {tally.refused.total()}", err=True)

    with (
        open_store(settings, source, clock=clock, name="SRC") as old,
        open_store(settings, destination, clock=clock, name="DST") as new,
        contextlib.closing(open_audit(invocation)) as audit,
        heeding_signals() as stopped,
    ):
        names = _names(queues) or _find_queues(old, app)
        gate = Deployment(settings, clock=clock).make_gate(settings.accept_content)
        mover = Mover(old, new, gate, clock=clock, audit=audit)
        mover.copy_revocations(max_bytes=settings.message_max_bytes)
        plan = Plan(names, frozenset(_names(tasks)), limit, timeout, forever)
        tally = mover.run(plan, stopped=stopped, on_progress=tell)
        audit.record(
            "operator.migrate",
            queues=",".join(names),
            moved=tally.moved,
            refused=tally.refused.total(),
        )
    if as_json:
        print_json(tally.describe())
    else:
        _print(tally)
    if tally.interrupted:
        sys.exit(Exit.WAITED)


def _names(given: str | None) -> list[str]:
    return [name.strip() for name in (given or "").split(",") if name.strip()]


def _find_queues(old: Store, app: Cardoon) -> list[str]:
    """Those that the source has; those of the settings where it has none any more."""
    found = [one.queue for one in old.depths()]
    return found or sorted({row[3] for row in app.amqp.queues.bindings()})


def _print(tally: Tally) -> None:
    click.echo(f"moved {tally.moved} messages, and {tally.revocations} revocations")
    for reason, count in tally.refused.items():
        click.secho(f"{count} in the quarantine of SRC: {reason}", fg="red")
    for why, count in tally.left.items():
        click.secho(f"{count} left at SRC: {why}", fg="yellow")
    if tally.waiting:
        click.secho(
            f"{tally.waiting} left at SRC: not due; run it again then, or with -F", fg="yellow"
        )
    if tally.leased:
        click.secho(f"{tally.leased} left at SRC: on loan; run it again in a minute", fg="yellow")
    if tally.interrupted:
        click.secho("interrupted; run it again to go on", fg="yellow", err=True)
