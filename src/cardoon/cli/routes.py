"""`cardoon routes` and `cardoon list`: where messages go, by the app's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cardoon.app import Cardoon
from cardoon.calling import check_options
from cardoon.cli.access import find_app, json_option, print_json, print_table
from cardoon.cli.completing import QUEUE, TASK
from cardoon.cli.main import Invocation
from cardoon.cli.tasks import find_task, json_list, json_object


@click.command()
@click.argument("name", type=TASK)
@click.option("-a", "--args", type=json_list, default="[]", help="Arguments: a JSON list.")
@click.option(
    "-k", "--kwargs", type=json_object, default="{}", help="Keyword arguments: an object."
)
@click.option("--queue", type=QUEUE, metavar="NAME", help="As if the call named this queue.")
@click.option("--exchange", help="As if the call named this exchange.")
@click.option("--routing-key", help="As if the call named this routing key.")
@json_option
@click.pass_obj
def routes(
    invocation: Invocation,
    /,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    as_json: bool,  # noqa: FBT001
    **place: str | None,
) -> None:
    """Show where a call of the task NAME would go, and what decides that. Sends nothing."""
    app = find_app(invocation)
    given = {option: value for option, value in place.items() if value is not None}
    told = _explain(app, find_task(app, name), args, kwargs, given)
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        click.echo(f"{key:<9} {value}")


def _explain(
    app: Cardoon, name: str, args: list[Any], kwargs: dict[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    task = app.tasks.get(name)
    own = {} if task is None else task.given_options()
    options = check_options(given, method="routes")
    defaults = app.defaults_of(name)
    if defaults.per_call is not None:
        options, defaults = defaults.per_call(args, kwargs, options)
    route, pattern = app.router.lookup(name, args, kwargs, {**own, **given}, task)
    levels = {
        "the call": given,
        "the task's own options": own,
        f"task_routes, {pattern}": route,
    }
    return {
        "task": name if task is not None else f"{name}, which is not known here",
        "queue": app.router.find(options, defaults),
        "because": _who_decides(levels),
        "priority": defaults.priority,
    }


def _who_decides(levels: Mapping[str, Mapping[str, Any]]) -> str:
    """The first that names a queue or an exchange, or, if none does, a routing key."""
    for options in (("queue", "exchange"), ("routing_key",)):
        for who, said in levels.items():
            found = {name: said[name] for name in options if said.get(name) is not None}
            if found:
                told = ", ".join(f"{name}={str(value)!r}" for name, value in found.items())
                return f"{who}: {told}"
    return "nobody says otherwise: task_default_queue"


@click.group(name="list")
def list_() -> None:
    """Show what the settings of the app declare."""


@list_.command()
@json_option
@click.pass_obj
def bindings(invocation: Invocation, as_json: bool) -> None:  # noqa: FBT001
    """Show by which exchange and routing key each queue of `task_queues` is reached."""
    found = find_app(invocation).amqp.queues.bindings()
    heads = ("exchange", "type", "routing key", "queue")
    if as_json:
        print_json([dict(zip(heads, row, strict=True)) for row in found])
    else:
        print_table(heads, found)
