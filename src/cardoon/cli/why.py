"""`cardoon why`: where a task is, and why it does not run."""

from __future__ import annotations

import sys
from typing import Any

import click

from cardoon.cli.access import find_app, json_option, print_json, printable
from cardoon.cli.inquiry import Findings, Inquirer
from cardoon.cli.judging import describe_judgement
from cardoon.cli.main import Invocation
from cardoon.cli.reasons import Answer, Outlook, answer
from cardoon.clock import SystemClock


@click.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def why(invocation: Invocation, task_id: str, as_json: bool) -> None:  # noqa: FBT001
    """Say where the task with this id is, and why it does not run.

    It only looks: nothing is claimed, moved or quarantined. Exits with 0 if the task has ended, runs or will
    run by itself, with 1 if it will not unless somebody does something, and with 2 if nothing is known of it.
    """
    found = Inquirer(find_app(invocation).settings, clock=SystemClock()).ask(task_id)
    told = answer(found)
    if as_json:
        print_json(_describe(found, told))
    else:
        _print(found, told)
    sys.exit(int(told.outlook))


def _print(found: Findings, told: Answer) -> None:
    colour = {Outlook.GOES_ON: "green", Outlook.STUCK: "red"}.get(told.outlook, "yellow")
    name = _task_of(found)
    click.secho(told.state, fg=colour, bold=True, nl=False)
    click.echo(printable(f"  {name}[{found.id}]" if name else f"  {found.id}"))
    for reason in told.because:
        click.echo(f"  {printable(reason.text)}")
    for line in told.remedies:
        click.echo(f"  -> {printable(line)}")


def _task_of(found: Findings) -> str:
    """Its name, where somebody has signed that."""
    report, judgement = found.ending.report, found.judgement
    claims = None if judgement is None else judgement.explanation.claims
    if claims is not None and claims.id == found.id:
        return claims.task
    return "" if report is None else report.task


def _describe(found: Findings, told: Answer) -> dict[str, Any]:
    where, report, judgement = found.where, found.ending.report, found.judgement
    kept = None if where is None else where.kept
    return {
        "id": found.id,
        "state": told.state,
        "outlook": told.outlook.name.lower().replace("_", "-"),
        "task": _task_of(found) or None,
        "because": [reason._asdict() for reason in told.because],
        "remedies": told.remedies,
        "message": None
        if where is None
        else {
            "queue": where.queue,
            "priority": where.priority,
            "attempt": where.attempt,
            "crashes": where.crashes,
            "retries": where.retries,
            "due": where.due,
            "ahead": where.ahead,
            "lease_left": where.lease_left,
            "holder": where.holder or None,
            "limit": where.limit or None,
            "unique": where.unique or None,
            "paused": found.resting,
            "revoked": found.revoked,
            "waits_for": where.waits_for,
            "kept": None if kept is None else {"number": kept.number, "reason": kept.reason},
        },
        "predecessors": [
            {"id": one.id, "place": one.place, "state": one.state or None}
            for one in found.predecessors
        ],
        "result": None
        if report is None
        else {"state": report.state, "done_at": report.done_at, "worker": report.worker or None},
        "judgement": None if judgement is None else describe_judgement(judgement),
    }
