"""`cardoon upgrade settings`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cardoon.cli.access import json_option, print_json
from cardoon.cli.main import Invocation
from cardoon.upgrading.project import Report
from cardoon.upgrading.project import upgrade as upgrade_project
from cardoon.upgrading.source import Finding, Kind

_COLOURS = {Kind.CHANGED: "green", Kind.DECIDE: "yellow", Kind.NOTE: None}


@click.group()
def upgrade() -> None:
    """Rewrite a project that was written for Celery."""


@upgrade.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--django", is_flag=True, help="Settings are Django's: CELERY_, in capitals.")
@click.option("--dry-run", is_flag=True, help="Change nothing; only say what would change.")
@click.option("--no-backup", is_flag=True, help="Keep no NAME.orig beside what is rewritten.")
@click.option("--compat", is_flag=True, hidden=True)
@json_option
@click.pass_obj
def settings(
    invocation: Invocation,
    paths: tuple[Path, ...],
    django: bool,  # noqa: FBT001  # click passes flags so
    dry_run: bool,  # noqa: FBT001
    no_backup: bool,  # noqa: FBT001
    compat: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Rewrite old names of settings, and imports of celery and kombu, in PATHS.

    PATHS are files, or folders with all that is below. Names are replaced in place and nothing else is
    touched; what needs a decision is listed with its line. Exit code 1 if a file could not be read.
    """
    report = upgrade_project(
        paths, django=django or compat, write=not dry_run, backup=not no_backup
    )
    if as_json:
        print_json(_described(report))
    else:
        _show(report, dry_run=dry_run, quiet=invocation.quiet)
    sys.exit(1 if report.unreadable else 0)


def _described(report: Report) -> dict[str, object]:
    def described(one: Finding) -> dict[str, object]:
        return {"path": str(one.path), "line": one.line, "text": one.text}

    return {
        **{kind.value: [described(one) for one in report.of(kind)] for kind in Kind},
        "files": [str(path) for path in report.changed],
        "unreadable": {str(path): reason for path, reason in report.unreadable.items()},
    }


def _show(report: Report, *, dry_run: bool, quiet: bool) -> None:
    for one in report.findings:
        if quiet and one.kind is not Kind.DECIDE:
            continue
        where = f"{one.path}:{one.line}" if one.line else str(one.path)
        click.echo(f"{where}: {click.style(one.kind.value, fg=_COLOURS[one.kind])}: {one.text}")
    for path, reason in report.unreadable.items():
        click.secho(f"{path}: left alone: {reason}", fg="red", err=True)
    if quiet:
        return
    done = "would be rewritten" if dry_run else "rewritten"
    decisions = len(report.of(Kind.DECIDE))
    click.echo(f"\n{len(report.changed)} files {done}; {decisions} decisions to take")
