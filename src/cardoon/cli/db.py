"""`cardoon db`: the tables of a PostgreSQL broker or result backend."""

from __future__ import annotations

import click

from cardoon.cli.access import answer, answer_option, find_app
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.endpoints import kind_of
from cardoon.exceptions import ImproperlyConfigured
from cardoon.postgres import schema
from cardoon.postgres.location import Location, locate
from cardoon.postgres.schema_version import VERSION

_WHICH = click.option(
    "--results", is_flag=True, help="The database of result_backend, not that of broker_url."
)


@click.group()
def db() -> None:
    """Make, migrate and look at the tables of a PostgreSQL database."""


@db.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements, and connect nowhere.")
@click.option(
    "--from",
    "version",
    type=click.IntRange(0, VERSION),
    default=0,
    show_default=True,
    help="With --sql: the version that the database has; 0 for none.",
)
@_WHICH
@answer_option
@click.pass_obj
def upgrade(invocation: Invocation, as_sql: bool, version: int, results: bool) -> None:  # noqa: FBT001
    """Make the tables and functions, or bring them up to date; safe to run again.

    The user of the URL needs the right to create a schema, or to own it. Workers and clients need
    neither: see `cardoon acl`.
    """
    location = _locate(invocation, results=results)
    if as_sql:
        script = schema.script(location.schema, version=version)
        answer({"sql": script}, script.rstrip("\n"))
        return
    status = schema.upgrade(location)
    told = f"{location}: schema {status.schema} has version {status.version}"
    answer({"schema": status.schema, "version": status.version}, told)


@db.command()
@_WHICH
@answer_option
@click.pass_context
def status(ctx: click.Context, results: bool) -> None:  # noqa: FBT001
    """Say which version the tables have; exit code 1 unless this Cardoon can work with them."""
    location = _locate(ctx.obj, results=results)
    found = schema.read_status(location)
    told = (
        f"{location}: PostgreSQL {found.server}, schema {found.schema} "
        + (f"has version {found.version}" if found.version else "has no tables of Cardoon's")
        + ("" if found.is_current else f", and this Cardoon needs {VERSION}")
    )
    answer(
        {
            "server": found.server,
            "schema": found.schema,
            "version": found.version,
            "needed": VERSION,
            "current": found.is_current,
        },
        told,
    )
    if not found.is_current:
        ctx.exit(1)


def _locate(invocation: Invocation, *, results: bool) -> Location:
    deployment = Deployment(find_app(invocation).settings, clock=SystemClock())
    setting = "result_backend" if results else "broker_url"
    url = deployment.backend_url if results else deployment.broker_url
    if kind_of(url) != "postgresql":
        scheme = url.partition(":")[0]
        raise ImproperlyConfigured(
            f"{setting}: `cardoon db` is for postgresql, not {scheme or 'nothing'}; name the database "
            "with -b env:NAME or -b file:PATH, or in the app of -A"
        )
    way = deployment.way_to_backend() if results else deployment.way_to_broker()
    return locate(url, setting=setting, access=way.access, transport=way.transport)
