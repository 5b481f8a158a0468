"""`cardoon graph`: pictures in the language of Graphviz, or as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import click

from cardoon.calling import check_options
from cardoon.cli.access import find_app, json_option, print_json, printable
from cardoon.cli.main import Invocation

_PARTS = (
    ("worker", "zygote", "starts"),
    ("zygote", "task process", "forks"),
    ("worker", "beginning", "runs"),
    ("worker", "consumer", "runs"),
    ("worker", "settler", "runs"),
    ("worker", "keeper", "runs"),
    ("worker", "desk", "runs"),
    ("worker", "herald", "runs"),
    ("beginning", "broker", "declares queues"),
    ("consumer", "broker", "claims messages"),
    ("consumer", "gate", "has messages verified"),
    ("consumer", "task process", "gives jobs"),
    ("task process", "settler", "outcomes"),
    ("settler", "broker", "results, settlements"),
    ("keeper", "broker", "renews leases, hears revocations"),
    ("task process", "desk", "asks"),
    ("desk", "broker", "sends for tasks"),
    ("herald", "zygote", "signals"),
)
"""As docs/internals.md tells it."""

text_option = click.option(
    "--text", is_flag=True, help="Plain text in place of Graphviz' language."
)


class Edge(NamedTuple):
    """From one thing to another, and what that means."""

    start: str
    end: str
    label: str = ""


@click.group(epilog="Example: `cardoon -A tasks graph tasks | dot -Tsvg > tasks.svg`.")
def graph() -> None:
    """Draw where tasks go, who called whom, and what a worker is made of."""


@graph.command()
@text_option
@json_option
def bootsteps(text: bool, as_json: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Draw the processes and threads of a worker, which has no bootsteps to plug into.

    \b
    cardoon graph bootsteps | dot -Tpng > worker.png
    """  # noqa: D301  # \b keeps click from filling the lines
    _print("worker", [Edge(*part) for part in _PARTS], (), text=text, as_json=as_json)


@graph.command()
@text_option
@json_option
@click.pass_obj
def tasks(invocation: Invocation, text: bool, as_json: bool) -> None:  # noqa: FBT001
    """Draw which queue each task of the app goes to, by its settings.

    \b
    cardoon -A tasks graph tasks --text
    """  # noqa: D301
    app = find_app(invocation)
    edges, alone = [], []
    for name in sorted(app.tasks):
        if name.startswith(("cardoon.", "celery.")):
            continue
        task = app.tasks[name]
        defaults = app.defaults_of(name)
        own = task.given_options()
        if defaults.per_call is None:
            edges.append(
                Edge(name, f"queue {app.router.find(check_options(own, method='graph'), defaults)}")
            )
        else:
            alone.append(f"{name} (by its arguments; see `cardoon routes`)")
    _print("tasks", edges, alone, text=text, as_json=as_json)


@graph.command()
@click.argument("task_id")
@text_option
@json_option
@click.pass_obj
def canvas(invocation: Invocation, task_id: str, text: bool, as_json: bool) -> None:  # noqa: FBT001
    """Draw what the task with this id has called, and what that has called, with their states.

    \b
    cardoon -A tasks graph canvas 5f2d3a...
    """  # noqa: D301
    with find_app(invocation) as app:
        found = app.AsyncResult(task_id).build_graph(intermediate=True)
        labels = {node: f"{node.id} {node.state}" for node in found.nodes}
        edges = [Edge(labels[start], labels[end]) for start, end in found.edges]
        named = {name for edge in edges for name in edge[:2]}
        alone = [name for name in labels.values() if name not in named]
    _print("canvas", edges, alone, text=text, as_json=as_json)


@graph.command(hidden=True)
def workers() -> None:
    """Celery's picture of its workers, which it has to ask."""
    raise click.UsageError(
        "graph workers: `cardoon status` lists workers, and `cardoon queues` what they have on loan; "
        "`cardoon graph tasks` draws which queues tasks go to"
    )


def _print(
    name: str, edges: Sequence[Edge], alone: Iterable[str], *, text: bool, as_json: bool
) -> None:
    several = list(alone)
    if as_json:
        print_json({"edges": [edge._asdict() for edge in edges], "alone": several})
        return
    if text:
        for start, end, label in edges:
            click.echo(printable(f"{start} -> {end}{f': {label}' if label else ''}"))
        for one in several:
            click.echo(printable(one))
        return
    click.echo(f"digraph {name} {{")
    for start, end, label in edges:
        told = f" [label={_quote(label)}]" if label else ""
        click.echo(f"  {_quote(start)} -> {_quote(end)}{told};")
    for one in several:
        click.echo(f"  {_quote(one)};")
    click.echo("}")


def _quote(text: str) -> str:
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
