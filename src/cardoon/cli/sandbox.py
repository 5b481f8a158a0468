"""`cardoon sandbox`: what tasks may reach where they run, and what this machine can enforce on them."""

from __future__ import annotations

import sys

import click

from cardoon.cli.access import json_option, print_json, print_table
from cardoon.cli.sandbox_showing import show
from cardoon.sandbox.layers import HELPFUL, NEEDED, REMEDIES
from cardoon.sandbox.probing import probe
from cardoon.sandbox.profile import Level


@click.group()
def sandbox() -> None:
    """What tasks may reach where they run, with the pool `isolated`."""


sandbox.add_command(show)


@sandbox.command()
@click.option(
    "--level",
    type=click.Choice([one.text for one in Level]),
    default=Level.CONFINED.text,
    show_default=True,
    help="The level that is needed here.",
)
@json_option
def check(level: str, as_json: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Try each layer in a process that ends afterwards, and say which level that makes.

    As the user who asks: a worker that runs as another may see something else. Exits with 1 if the level
    that is needed is not reached.
    """
    layers = probe()
    needed = Level.parse(level)
    missing = {one.name for one in layers.missing_for(Level.STRICT)}
    missing |= {name for name in HELPFUL if not layers[name].is_on}
    if as_json:
        print_json(
            {
                "reached": layers.reached.text,
                "needed": needed.text,
                "layers": [
                    {
                        "name": one.name,
                        "on": one.is_on,
                        "seen": one.detail,
                        "level": NEEDED[one.name].text if one.name in NEEDED else None,
                        "remedy": REMEDIES[one.name] if one.name in missing else None,
                    }
                    for one in layers.values()
                ],
            }
        )
    else:
        print_table(
            ("layer", "", "for", "seen"),
            [
                (
                    one.name,
                    "on" if one.is_on else "off",
                    NEEDED[one.name].text if one.name in NEEDED else "more",
                    one.detail,
                )
                for one in layers.values()
            ],
        )
        click.echo()
        click.echo(f"level reached: {layers.reached.text}")
        for name in sorted(missing):
            click.echo(f"for {name}: {REMEDIES[name]}")
    sys.exit(layers.reached < needed)
