"""`cardoon limits`: whose limit holds messages back."""

from __future__ import annotations

import dataclasses

import click

from cardoon.broker import Limiting, LimitUse
from cardoon.cli.access import json_option, open_broker, print_json, print_table
from cardoon.cli.main import Invocation


@click.command()
@click.option("--limit", default=50, show_default=True, help="How many keys at most.")
@json_option
@click.pass_obj
def limits(invocation: Invocation, limit: int, as_json: bool) -> None:  # noqa: FBT001
    """Show which keys hold messages back, those with the most waiting first."""
    with open_broker(invocation) as broker:
        if not isinstance(broker, Limiting):
            raise click.ClickException("limits: this broker keeps none")
        uses = broker.limits(limit=limit)
    if as_json:
        print_json([dataclasses.asdict(use) for use in uses])
        return
    print_table(
        ("key", "waiting", "running", "rate", "next"),
        [
            (
                use.key,
                use.waiting,
                f"{use.running} of {use.most}" if use.most else "-",
                _rate(use),
                "-" if use.opens_in is None else f"{use.opens_in:.1f}s",
            )
            for use in uses
        ],
    )


def _rate(use: LimitUse) -> str:
    """As it was probably written: in the unit in which it is a whole number, if there is one."""
    if not use.gap:
        return "-"
    rates = [(seconds / use.gap, unit) for unit, seconds in (("s", 1), ("m", 60), ("h", 3600))]
    whole = [(rate, unit) for rate, unit in rates if rate > 0.5 and abs(rate - round(rate)) < 1e-6]
    rate, unit = (whole or rates[-1:])[0]
    return f"{rate:g}/{unit}"
