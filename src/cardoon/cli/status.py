"""`cardoon status`."""

from __future__ import annotations

from typing import Any

import click

from cardoon.cli.access import print_json, print_table
from cardoon.cli.commanding import asker, asking_options
from cardoon.cli.main import Invocation


def _mapping(told: Any) -> dict[str, Any]:
    """What a worker says, if it is what workers of ours say."""
    return told if isinstance(told, dict) else {}


@click.command("status")
@asking_options
@click.pass_obj
def status(
    invocation: Invocation,
    destination: str | None,
    timeout: float,
    as_json: bool,  # noqa: FBT001  # click passes flags so
) -> None:
    """Show which workers are online, what they run, and what they have done.

    Exits with 69 if none answered in time.

    \b
    cardoon -A tasks status
    """  # noqa: D301  # \b keeps click from filling the lines
    with asker(invocation, destination=destination, timeout=timeout, as_json=as_json) as one:
        answers = sorted(one.ask("stats", {}))
    if as_json:
        print_json({answer.worker: answer.content for answer in answers})
        return
    rows = []
    for answer in answers:
        told = _mapping(answer.content)
        pool, total = _mapping(told.get("pool")), _mapping(told.get("total"))
        rows.append(
            (
                answer.worker,
                "online",
                pool.get("implementation", "-"),
                pool.get("running", "-"),
                pool.get("max-concurrency", "-"),
                sum(int(count) for count in total.values() if isinstance(count, int)),
                f"{told.get('uptime', '-')}s",
            )
        )
    print_table(("worker", "status", "pool", "running", "at most", "taken", "uptime"), rows)
    click.echo(f"\n{len(rows)} {'node' if len(rows) == 1 else 'nodes'} online.")
