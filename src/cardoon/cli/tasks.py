"""`cardoon call` and `cardoon result`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

from cardoon import states
from cardoon.app import Cardoon
from cardoon.cli.access import find_app, json_of, json_option, print_json, printable
from cardoon.cli.completing import QUEUE, TASK
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured
from cardoon.result import AsyncResult


def json_list(text: str) -> list[Any]:
    """A JSON list given as an argument."""
    found = _parse_json(text, "'[1, 2]'")
    if not isinstance(found, list):
        raise click.BadParameter(f"{text!r} is not a JSON list, such as '[1, 2]'")
    return found


def json_object(text: str) -> dict[str, Any]:
    """A JSON object given as an argument."""
    found = _parse_json(text, "'{\"x\": 1}'")
    if not isinstance(found, dict):
        raise click.BadParameter(f"{text!r} is not a JSON object, such as '{{\"x\": 1}}'")
    return found


def _parse_json(text: str, example: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON, such as {example}: {error}") from error


def expiry(text: str) -> float | datetime:
    """Seconds from now, or a time; without a zone it is one of the setting `timezone`."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is neither a number of seconds nor an ISO 8601 time, such as 2026-12-31T18:00:00Z"
        ) from error


def find_task(app: Cardoon, name: str) -> str:
    """The full name of a task that may be given without its module."""
    if name not in app.tasks and "." not in name:
        return next((known for known in app.tasks if known.rpartition(".")[2] == name), name)
    return name


@click.command()
@click.argument("name", type=TASK)
@click.option("-a", "--args", type=json_list, default="[]", help="Arguments: a JSON list.")
@click.option(
    "-k", "--kwargs", type=json_object, default="{}", help="Keyword arguments: an object."
)
@click.option("--eta", metavar="ISO8601", help="Not before this time.")
@click.option("--countdown", type=float, help="Not before so many seconds from now.")
@click.option(
    "--expires",
    metavar="SECONDS|ISO8601",
    type=expiry,
    help="Not later than so many seconds from now, or than this time.",
)
@click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent.")
@click.option("--queue", type=QUEUE, metavar="NAME", help="Send to this queue.")
@click.option("--exchange", help="Send to the queue that is bound to it by the routing key.")
@click.option("--routing-key", help="Send to the queue that is bound by it.")
@click.option("--serializer", help="How the arguments are written: json, msgpack, yaml, ...")
@click.option("--wait", is_flag=True, help="Wait for the result and show it.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait.")
@json_option
@click.pass_obj
def call(
    invocation: Invocation,
    /,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    eta: str | None,
    wait: bool,  # noqa: FBT001
    timeout: float,
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    """Send a task by NAME, and print its id; or, with --wait, its result.

    With -A, a name without a dot is one of the app's own tasks.
    """
    app = find_app(invocation)
    name = find_task(app, name)
    given = {option: value for option, value in options.items() if value is not None}
    if eta is not None:
        try:
            given["eta"] = datetime.fromisoformat(eta)
        except ValueError as error:
            raise click.BadParameter(f"--eta {eta!r} is no ISO 8601 time") from error
    if invocation.app is not None and name not in app.tasks:
        _warn_of_name(app, name)
    with app:
        sent = app.send_task(name, args, kwargs, **given)
        if wait:
            sent.get(timeout, propagate=False)
            _show(sent, as_json=as_json, with_traceback=False)
        elif as_json:
            print_json({"id": sent.id})
        else:
            click.echo(sent.id)


def _warn_of_name(app: Cardoon, name: str) -> None:
    """Say that the app has no such task: a worker may have one, so it is sent."""
    import difflib  # noqa: PLC0415 - only for somebody who mistyped

    known = {one: one for one in app.tasks} | {one.rpartition(".")[2]: one for one in app.tasks}
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {printable(known[close[0]])!r}?" if close else "."
    click.secho(
        f"warning: the app has no task {printable(name)!r}{hint} It is sent for workers that may have it",
        fg="yellow",
        err=True,
    )


@click.command()
@click.argument("task_id")
@click.option("-t", "--task", hidden=True, expose_value=False)
@click.option("--traceback", "with_traceback", is_flag=True, help="Show the traceback, too.")
@json_option
@click.pass_obj
def result(
    invocation: Invocation,
    task_id: str,
    with_traceback: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show the state and result of the task with this id; exit code 1 if it failed."""
    with find_app(invocation) as app:
        if Deployment(app.settings, clock=SystemClock()).backend_url.startswith("rpc:"):
            raise ImproperlyConfigured(
                f"result {task_id}: result_backend is rpc://, so the result goes to the process that sent the "
                "task, and nobody else can read it; wait for it there (`cardoon call --wait`), or use a "
                "backend that keeps results"
            )
        found: AsyncResult[Any] = app.AsyncResult(task_id)
        _show(found, as_json=as_json, with_traceback=with_traceback)


def _show(found: AsyncResult[Any], *, as_json: bool, with_traceback: bool) -> None:
    state, value, traceback = found.state, found.result, found.traceback
    raised = state in states.EXCEPTION_STATES
    shown = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else value
    if as_json:
        print_json(
            {
                "id": found.id,
                "state": state,
                "result": shown,
                "traceback": traceback,
                "isolation": found.isolation,
                "violations": [one._asdict() for one in found.violations],
            }
        )
    elif raised:
        click.echo(f"{state}: {shown}", err=True)
        if with_traceback and traceback:
            click.echo(traceback, err=True)
        for one in found.violations:
            click.echo(one.describe(), err=True)
    elif state == states.SUCCESS:
        click.echo(json_of(shown, ensure_ascii=False))
    else:
        click.echo(state)
    if state in states.PROPAGATE_STATES:  # one that is to be retried has not failed yet
        raise SystemExit(1)
