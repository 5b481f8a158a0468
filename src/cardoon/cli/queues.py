"""`cardoon queues`, `cardoon purge`, `cardoon pause` and `cardoon resume`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from cardoon.cli.access import (
    answer,
    answer_option,
    json_option,
    open_broker,
    print_json,
    print_table,
)
from cardoon.cli.completing import QUEUE
from cardoon.cli.main import Invocation
from cardoon.exceptions import ImproperlyConfigured
from cardoon.pausing import Pausable


@click.command()
@json_option
@click.pass_obj
def queues(invocation: Invocation, as_json: bool) -> None:  # noqa: FBT001
    """Show what lies in each queue; of a broadcast queue, in all its subscribers' together."""
    with open_broker(invocation) as broker:
        depths = broker.depths()
    if as_json:
        print_json([dataclasses.asdict(depth) for depth in depths])
        return
    print_table(
        ("queue", "ready", "limited", "scheduled", "dormant", "running", "oldest", "subscribers"),
        [
            (
                f"{depth.queue} (paused)" if depth.paused else depth.queue,
                depth.ready,
                depth.limited,
                depth.scheduled,
                depth.dormant,
                depth.leased,
                "-" if depth.oldest is None else f"{depth.oldest:.0f}s",
                depth.subscribers or "-",
            )
            for depth in depths
        ],
    )


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "-Q", "--queues", "names", metavar="NAMES", type=QUEUE, help="Only these; all by default."
)
@click.option("-X", "--exclude-queues", "without", metavar="NAMES", type=QUEUE, help="Not these.")
@answer_option
@click.pass_obj
def purge(
    invocation: Invocation,
    force: bool,  # noqa: FBT001
    names: str | None,
    without: str | None,
) -> None:
    """Delete the messages that wait in queues; what runs is left alone."""
    with open_broker(invocation) as broker:
        wanted = names.split(",") if names else [depth.queue for depth in broker.depths()]
        wanted = [name for name in wanted if name not in (without or "").split(",")]
        if not force:
            click.confirm(
                f"Delete all that waits in {', '.join(wanted) or 'no queue'}?", abort=True
            )
        count = sum(broker.purge(name) for name in wanted)
    answer({"deleted": count, "queues": wanted}, f"deleted {count} messages")


@click.command()
@click.argument("queues", nargs=-1, required=True, type=QUEUE)
@answer_option
@click.pass_obj
def pause(invocation: Invocation, queues: Sequence[str]) -> None:
    """Let QUEUES rest: workers take nothing more from them until `resume`; what runs goes on."""
    with _pausable(invocation) as broker:
        broker.pause(queues)
    told = f"paused {', '.join(queues)}; `cardoon resume` lets workers go on"
    answer({"paused": list(queues)}, told)


@click.command()
@click.argument("queues", nargs=-1, required=True, type=QUEUE)
@answer_option
@click.pass_obj
def resume(invocation: Invocation, queues: Sequence[str]) -> None:
    """Let workers go on with QUEUES."""
    with _pausable(invocation) as broker:
        broker.resume(queues)
    answer({"resumed": list(queues)}, f"resumed {', '.join(queues)}")


@contextmanager
def _pausable(invocation: Invocation) -> Iterator[Pausable]:
    with open_broker(invocation) as broker:
        if not isinstance(broker, Pausable):
            raise ImproperlyConfigured("the queues of this broker cannot be paused")
        yield broker
