"""`cardoon doctor`: what would help an intruder here, and what mends it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import click

from cardoon import __version__
from cardoon.cli.access import find_app, print_json, printable
from cardoon.cli.canaries import check_wish, print_trial, send_canaries
from cardoon.cli.choices import CHECK_GROUPS
from cardoon.cli.codes import Exit
from cardoon.cli.exposing import expose, find_role
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.doctor.catalogue import select
from cardoon.doctor.check import Severity, State, Verdict
from cardoon.doctor.examining import count, examine, score
from cardoon.doctor.looking import look
from cardoon.doctor.reports import to_junit, to_sarif
from cardoon.doctor.telling import to_mapping
from cardoon.doctor.waivers import Book, waive

_COLOURS = {
    Severity.CRITICAL: "red",
    Severity.HIGH: "red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "yellow",
    Severity.INFO: "cyan",
}
_WIDTH = 10


@click.group(invoke_without_command=True)
@click.option(
    "-A", "--app", "own_app", metavar="MODULE[:NAME]", help="The app, as before `doctor`."
)
@click.option("--deploy", is_flag=True, help="Look at the host as well, as one that serves.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    type=click.Choice(CHECK_GROUPS),
    help="Only checks of this group; may be repeated.",
)
@click.option(
    "--only", "ids", multiple=True, metavar="ID", help="Only this check; may be repeated."
)
@click.option("--fix-hints", is_flag=True, help="Say what mends each finding.")
@click.option(
    "--send-canaries",
    "sends",
    is_flag=True,
    help="Send messages that workers must refuse, and see whether they do.",
)
@click.option(
    "--canary-queue", metavar="QUEUE", help="Where they are sent to.  [task_default_queue]"
)
@click.option("--skip", "waived", metavar="ID", help="Waive a finding from now on, with --until.")
@click.option("--until", metavar="DATE", help="The last day of the waiver, such as 2027-03-31.")
@click.option("--reason", metavar="TEXT", help="Why it is waived.")
@click.option("--json", "form", flag_value="json", help="Answer in JSON.")
@click.option("--sarif", "form", flag_value="sarif", help="Answer in SARIF 2.1.0.")
@click.option("--junit", "form", flag_value="junit", help="Answer in JUnit's XML.")
@click.pass_context
def doctor(
    context: click.Context,
    own_app: str | None,
    deploy: bool,  # noqa: FBT001  # click passes flags so
    groups: Sequence[str],
    ids: Sequence[str],
    fix_hints: bool,  # noqa: FBT001
    sends: bool,  # noqa: FBT001
    canary_queue: str | None,
    waived: str | None,
    until: str | None,
    reason: str | None,
    form: str | None,
) -> None:
    """Look for what would help an intruder, and say what mends it.

    As the user who asks, and with this environment: start it as the worker is started. Nothing is changed, and
    servers are asked a few harmless questions. With --send-canaries a handful of messages is sent as well.

    Exit codes: 0 all is well; 1 something is open, below high; 3 something of severity high; 4 something
    critical; 5 something could not be checked, and nothing is high.
    """
    invocation: Invocation = context.obj
    if own_app is not None:
        invocation.app = own_app
    if context.invoked_subcommand is not None:
        return
    checks = select(groups=groups, ids=ids, deploy=deploy)
    check_wish(checks, sends=sends, queue=canary_queue)
    settings = find_app(invocation).settings
    clock = SystemClock()
    deployment = Deployment(settings, clock=clock, role=find_role(settings))
    book = Book(deployment, clock=clock)
    if waived is not None:
        if until is None or reason is None:
            raise click.UsageError("--skip needs --until DATE and --reason TEXT")
        book.add(waived, until=until, reason=reason)
    waivers = book.read()
    folder = os.getcwd() if invocation.app else ""  # noqa: PTH109 - as `main` does
    scene = look(
        settings, clock=clock, environ=os.environ, folder=folder, complaints=book.complaints
    )
    if sends:
        scene = replace(scene, canaries=send_canaries(deployment, queue=canary_queue or ""))
    verdicts = waive(examine(scene, checks), waivers)
    match form:
        case "json":
            print_json(to_mapping(verdicts, canaries=scene.canaries))
        case "sarif":
            print_json(to_sarif(verdicts, version=__version__))
        case "junit":
            click.echo(to_junit(verdicts))
        case _:
            _print(verdicts, hints=fix_hints, quiet=invocation.quiet)
            print_trial(scene.canaries)
    sys.exit(exit_code(verdicts))


doctor.add_command(expose)


def exit_code(verdicts: Sequence[Verdict]) -> Exit:
    """What the worst of them makes; a check that could not run is never well."""
    found = {one.check.severity for one in verdicts if one.is_open}
    if Severity.CRITICAL in found:
        return Exit.CRITICAL
    if Severity.HIGH in found:
        return Exit.HIGH
    if any(one.state is State.UNCHECKED for one in verdicts):
        return Exit.UNCHECKED
    return Exit.ERROR if found - {Severity.INFO} else Exit.OK


def _print(verdicts: Sequence[Verdict], *, hints: bool, quiet: bool) -> None:
    for group in CHECK_GROUPS:
        told = [one for one in verdicts if one.check.group == group and _is_told(one, quiet=quiet)]
        if told:
            click.secho(group, bold=True)
        for one in told:
            _print_one(one, hints=hints)
    numbers = [f"{number} {one.text}" for one, number in count(verdicts).items() if number]
    unchecked = sum(one.state is State.UNCHECKED for one in verdicts)
    waived = sum(one.state is State.WAIVED for one in verdicts)
    if unchecked:
        numbers.append(f"{unchecked} could not be checked")
    if waived:
        numbers.append(f"{waived} waived")
    click.echo(f"score {score(verdicts)}: {', '.join(numbers) or 'nothing found'}")


def _is_told(verdict: Verdict, *, quiet: bool) -> bool:
    if verdict.state is State.NOT_APPLICABLE:
        return False
    return not quiet or verdict.state is not State.OK


def _print_one(verdict: Verdict, *, hints: bool) -> None:
    check, state = verdict.check, verdict.state
    match state:
        case State.FINDING:
            word, colour = check.severity.text, _COLOURS[check.severity]
        case State.UNCHECKED:
            word, colour = "unchecked", "magenta"
        case _:
            word, colour = state.value, "green"
    click.secho(f"  {word:<{_WIDTH}}", fg=colour, nl=False)
    click.echo(f"{check.id:<7} {check.title}")
    for line in verdict.evidence:
        click.echo(f"  {'':<{_WIDTH}}{printable(line)}")
    if hints and state in {State.FINDING, State.UNCHECKED}:
        click.echo(f"  {'':<{_WIDTH}}-> {check.remedy}")
