"""What commands have in common: the app, the broker, and how answers are printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from cardoon.app import Cardoon
from cardoon.audit import AuditLog
from cardoon.backend import ResultBackend
from cardoon.broker import Inspectable
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import EncodeError, ImproperlyConfigured
from cardoon.loader import look_here_first
from cardoon.loading import load_app, load_modules
from cardoon.message.plain import plain_value

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


_WANTED = "cardoon.json"


def _note_wish(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    ctx.meta[_WANTED] = wanted


answer_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_note_wish,
    help="Answer in JSON.",
)
"""`--json` of a command that says what it did with `answer`."""


def wants_json() -> bool:
    """Whether `answer_option` was given."""
    return bool(click.get_current_context().meta.get(_WANTED))


def answer(told: Any, text: str) -> None:
    """Say what was done: for programs with `answer_option`, else for people."""
    if wants_json():
        print_json(told)
    elif text:
        click.echo(text)


def find_app(invocation: Invocation) -> Cardoon:
    """The app of `-A`, or one with the project's own settings."""
    target = invocation.app
    app = Cardoon(set_as_current=False) if target is None else load_app(target)
    if invocation.config is not None:
        look_here_first()
        app.config_from_object(invocation.config)
    if target is not None:
        load_modules(app)
    app.conf.update(invocation.settings)
    return app


@contextmanager
def open_stores(invocation: Invocation) -> Iterator[tuple[Inspectable, ResultBackend | None]]:
    """The broker of the app, to look into, and its result backend."""
    deployment = Deployment(find_app(invocation).settings, clock=SystemClock())
    broker = deployment.open_broker()
    backend = None
    try:
        if not isinstance(broker, Inspectable):
            raise ImproperlyConfigured("this broker cannot be looked into")
        backend = deployment.open_backend(broker)
        yield broker, backend
    finally:
        if backend is not None:
            backend.close()
        broker.close()


@contextmanager
def open_broker(invocation: Invocation) -> Iterator[Inspectable]:
    """The broker of the app, to look into."""
    with open_stores(invocation) as (broker, _):
        yield broker


def open_audit(invocation: Invocation) -> AuditLog:
    """The audit trail, for what somebody does by hand."""
    return Deployment(find_app(invocation).settings, clock=SystemClock(), role="operator").audit()


def print_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json_of(value, indent=2))


def json_of(value: Any, **options: Any) -> str:
    """A value as JSON for people and programs: dataclasses and the like plain, the rest as text."""
    try:
        return json.dumps(value, default=_plain, **options)
    except TypeError:  # keys that no JSON has
        return json.dumps(repr(value), **options)


def _plain(value: object) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    try:
        return plain_value(value)
    except EncodeError:
        return str(value)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as what is in them; the first line in bold."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [
        max(len(heads[column]), *(len(row[column]) for row in cells))
        if cells
        else len(heads[column])
        for column in range(len(heads))
    ]

    def line(row: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        return "  ".join(padded).rstrip()

    click.secho(line(heads), bold=True)
    for row in cells:
        click.echo(line(row))


def printable(text: str) -> str:
    """Text from outside, unable to move the cursor or to look like a line of its own."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def when(seconds: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
