"""`cardoon sandbox show`: which sandbox each task gets, and who has said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cardoon.app import Cardoon
from cardoon.builtins import PREFIX
from cardoon.calling import check_options
from cardoon.cli.access import find_app, json_option, print_json, print_table
from cardoon.cli.main import Invocation
from cardoon.cli.tasks import find_task
from cardoon.exceptions import ImproperlyConfigured
from cardoon.sandbox.merging import Choice, Profiles, Row
from cardoon.sandbox.profile import Sandbox
from cardoon.security.policing import load_rules
from cardoon.worker.catalogue import AppCatalogue
from cardoon.worker.isolating import profiles_of


@click.command()
@click.argument("task", required=False)
@click.option("--queue", help="As if it came from this queue; by default from where it is sent.")
@json_option
@click.pass_obj
def show(invocation: Invocation, task: str | None, queue: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show the sandbox of TASK, field by field, or of every task of the app in a line.

    It is what settings, code and policy file ask for; `cardoon sandbox check` says what this machine can
    hold. With -A, a name without a dot is one of the app's own tasks.
    """
    app = find_app(invocation)
    profiles = profiles_of(app.settings, AppCatalogue(app.tasks, app.settings), read_rows(app))
    if task is not None:
        _show_one(app, profiles, find_task(app, task), queue, as_json=as_json)
        return
    names = sorted(name for name in app.tasks if not name.startswith(PREFIX))
    found = [(name, *_look(app, profiles, name, queue)) for name in names]
    if as_json:
        print_json([_as_json(*one) for one in found])
    else:
        rows = [(name, place, one.profile.level.text, one.source) for name, place, one in found]
        print_table(("task", "queue", "level", "because"), rows)


def read_rows(app: Cardoon) -> tuple[Row, ...]:
    """The `[[sandbox]]` of the app's policy file; none if it has no such file."""
    path = app.settings.security_policy
    return load_rules(Path(path).expanduser()).sandboxes if path else ()


def describe_profile(profile: Sandbox) -> dict[str, Any]:
    """The fields in words that people can read: none and unlimited as such."""
    words = {}
    for name, value in profile.to_mapping().items():
        match value:
            case None:
                words[name] = _MISSING.get(name, "unlimited")
            case []:
                words[name] = "none"
            case list():
                words[name] = ", ".join(value)
            case _:
                words[name] = str(value)
    return words


_MISSING = {
    "network": "none",
    "uid": "nobody, where the worker is root",
    "gid": "nobody, where the worker is root",
    "cwd": "its private directory, or /",
}


def _show_one(
    app: Cardoon, profiles: Profiles, task: str, queue: str | None, *, as_json: bool
) -> None:
    if task not in app.tasks:
        raise ImproperlyConfigured(f"task {task!r} is not known here; name one of the app's tasks")
    place, found = _look(app, profiles, task, queue)
    if as_json:
        print_json(_as_json(task, place, found))
        return
    told = {"task": task, "queue": place, "because": found.source}
    for name, value in {**told, **describe_profile(found.profile)}.items():
        click.echo(f"{name:<10} {value}")


def _look(app: Cardoon, profiles: Profiles, task: str, queue: str | None) -> tuple[str, Choice]:
    """Where a task is sent to, unless that is said, and its sandbox there."""
    place = queue or app.router.find(check_options({}, method="sandbox"), app.defaults_of(task))
    return str(place), profiles.choose(task, str(place))


def _as_json(task: str, queue: str, found: Choice) -> dict[str, Any]:
    profile = found.profile.to_mapping()
    return {"task": task, "queue": queue, "because": found.source, "sandbox": profile}
