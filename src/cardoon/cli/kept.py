"""`cardoon dead` and `cardoon quarantine`: what is kept for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cardoon.broker import Kept, KeptMessage
from cardoon.cli.access import json_option, open_broker, open_stores, print_json, print_table, when
from cardoon.cli.main import Invocation
from cardoon.producer import BRIDGED, RESULTS


def _group(name: str, where: Kept, restore_name: str, texts: dict[str, str]) -> click.Group:
    """The commands on one of the two places."""

    @click.group(name, help=texts["help"])
    def group() -> None:
        pass

    @group.command("list", help=texts["list"])
    @click.option("--limit", default=50, show_default=True, help="How many at most.")
    @json_option
    @click.pass_obj
    def list_kept(invocation: Invocation, limit: int, as_json: bool) -> None:  # noqa: FBT001
        with open_broker(invocation) as broker:
            messages = broker.kept(where, limit=limit)
        if as_json:
            print_json([_describe(message) for message in messages])
            return
        print_table(
            ("number", "when (UTC)", "queue", "id", "reason"),
            [(m.number, when(m.kept_at), m.queue, m.id, _reason(m)) for m in messages],
        )

    @group.command("show", help=texts["show"])
    @click.argument("number", type=int)
    @click.pass_obj
    def show(invocation: Invocation, number: int) -> None:
        with open_broker(invocation) as broker:
            found = [m for m in broker.kept(where, limit=1, after=number - 1) if m.number == number]
        if not found:
            raise click.ClickException(
                f"{name} show: there is no number {number}; `cardoon {name} list` shows them"
            )
        print_json({**_describe(found[0]), "frame": found[0].frame.hex()})

    @group.command(restore_name, help=texts["restore"])
    @click.argument("numbers", type=int, nargs=-1, required=True)
    @click.pass_obj
    def restore(invocation: Invocation, numbers: tuple[int, ...]) -> None:
        with open_stores(invocation) as (broker, backend):
            found = [m for n in numbers for m in broker.kept(where, limit=1, after=n - 1)]
            kept = [message for message in found if message.number in numbers]
            ids = [message.id for message in kept]
            _refuse_results(f"{name} {restore_name}", kept)
            if backend is not None and where is Kept.DEAD_LETTER:
                backend.forget(ids)  # how it ended before must not stand in the way of how it ends
            click.echo(f"put back {broker.restore(where, numbers)} messages")

    @group.command("purge", help=texts["purge"])
    @click.argument("numbers", type=int, nargs=-1)
    @click.option("-f", "--force", is_flag=True, help="Do not ask.")
    @click.pass_obj
    def discard(invocation: Invocation, numbers: tuple[int, ...], force: bool) -> None:  # noqa: FBT001
        with open_broker(invocation) as broker:
            if not numbers and not force:
                click.confirm("Delete all of them?", abort=True)
            click.echo(f"deleted {broker.discard(where, numbers or None)} messages")

    return group


dead = _group(
    "dead",
    Kept.DEAD_LETTER,
    "retry",
    {
        "help": "Dead letters: verified tasks that could not be completed.",
        "list": "Show the dead letters, oldest first.",
        "show": "Show one dead letter, with its frame in hexadecimal.",
        "restore": "Put dead letters back in their queues, with a clean record.",
        "purge": "Delete dead letters; all of them if no number is given.",
    },
)

quarantine = _group(
    "quarantine",
    Kept.QUARANTINE,
    "release",
    {
        "help": "Messages that were refused, kept with the reason.",
        "list": "Show what was refused, oldest first.",
        "show": "Show one refused message, with its frame in hexadecimal.",
        "restore": (
            "Put refused messages back in their queues, where they are judged anew: "
            "after a certificate was added, for instance."
        ),
        "purge": "Delete refused messages; all of them if no number is given.",
    },
)


def _refuse_results(command: str, kept: Sequence[KeptMessage]) -> None:
    for message in kept:
        if message.queue == RESULTS:
            raise click.ClickException(
                f"{command}: number {message.number} is a result, which no worker takes from a "
                "queue; leave it where it is, or purge it"
            )
        if message.queue.startswith(BRIDGED):
            raise click.ClickException(
                f"{command}: number {message.number} is a message of Celery's, which no worker takes "
                "from a queue; have its sender send it again, or purge it"
            )


def _reason(message: KeptMessage) -> str:
    return f"{message.reason}: {message.detail}" if message.detail else message.reason


def _describe(message: KeptMessage) -> dict[str, Any]:
    return {
        "number": message.number,
        "kept_at": when(message.kept_at),
        "queue": message.queue,
        "id": message.id,
        "reason": message.reason,
        "detail": message.detail,
        "bytes": len(message.frame),
        "attempt": message.attempt,
        "crashes": message.crashes,
        "retries": message.retries,
    }
