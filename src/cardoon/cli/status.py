"""`cardoon status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from cardoon.cli.access import print_json, print_table
from cardoon.cli.commanding import asker, asking_options
from cardoon.cli.main import Invocation

_DIGITS = 12
"""Of a baseline's SHA-256 that are shown; `--json` has all."""
_LATEST = 1e11
"""Seconds since the epoch that are still read as a time."""


def _mapping(told: Any) -> dict[str, Any]:
    """What a worker says, if it is what workers of ours say."""
    return told if isinstance(told, dict) else {}


def _standing(told: dict[str, Any]) -> str:
    """Which baseline a worker is held against and how the last check ended; `-` without one."""
    if not told:
        return "-"
    findings = told.get("findings")
    more = f", {findings} {'finding' if findings == 1 else 'findings'}" if findings else ""
    digest = str(told.get("digest", ""))[:_DIGITS]
    when = _shown_time(told.get("checked_at"))
    return f"{told.get('serial', '-')} {digest} {told.get('result', '-')}{more}{when}"


def _shown_time(found: Any) -> str:
    """A time that a worker tells; nothing for 0, which is none, and for what is no time."""
    if not isinstance(found, (int, float)) or not 0 < found < _LATEST:
        return ""
    return f", {datetime.fromtimestamp(found, UTC):%Y-%m-%dT%H:%M:%SZ}"


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
    rows, has_baselines = [], False
    for answer in answers:
        told = _mapping(answer.content)
        pool, total = _mapping(told.get("pool")), _mapping(told.get("total"))
        integrity = _mapping(told.get("integrity"))
        has_baselines = has_baselines or bool(integrity)
        rows.append(
            (
                answer.worker,
                "online",
                pool.get("implementation", "-"),
                pool.get("running", "-"),
                pool.get("max-concurrency", "-"),
                sum(int(count) for count in total.values() if isinstance(count, int)),
                f"{told.get('uptime', '-')}s",
                _standing(integrity),
            )
        )
    heads = ("worker", "status", "pool", "running", "at most", "taken", "uptime", "baseline")
    wanted = len(heads) if has_baselines else len(heads) - 1
    print_table(heads[:wanted], [row[:wanted] for row in rows])
    click.echo(f"\n{len(rows)} {'node' if len(rows) == 1 else 'nodes'} online.")
