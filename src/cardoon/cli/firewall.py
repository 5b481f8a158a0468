"""`cardoon firewall`: the rules of this host, from the settings; and whether they are loaded."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from cardoon.audit import AuditLog, find_log
from cardoon.cli.access import (
    answer,
    answer_option,
    find_app,
    json_of,
    printable,
    wants_json,
)
from cardoon.cli.background import wait_for_signals
from cardoon.cli.codes import Exit
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import OperationalError
from cardoon.firewall.judging import Finding, Verdict, judge
from cardoon.firewall.nft import Nft
from cardoon.firewall.planning import ROLES, Plan, make_plan, servers_of
from cardoon.firewall.state import write_state
from cardoon.firewall.telling import Teller
from cardoon.syslog.service import sending

LOADED = "firewall.loaded"
"""In the audit trail, with the digest of what was loaded."""

_ROLE = click.option(
    "--role", type=click.Choice(ROLES), help="What this host is.  [default: firewall_role]"
)
_DIGEST = click.option(
    "--digest", metavar="HEX", help="Of the rules, as `print` told it elsewhere; one more test."
)


@click.group()
def firewall() -> None:
    """The rules of this host's firewall, from the settings: print, load and check them."""


@firewall.command("print")
@_ROLE
@answer_option
@click.pass_obj
def print_(invocation: Invocation, role: str | None) -> None:
    """Print the rules for nft, and what they keep from working. Changes nothing.

    \b
    cardoon -A tasks firewall print > /etc/nftables.d/cardoon.nft
    """  # noqa: D301  # \b keeps click from filling the lines
    plan = _planner(invocation, role)()
    _say_notes(plan)
    answer(_told(plan), _text(plan).rstrip())


@firewall.command()
@_ROLE
@answer_option
@click.pass_obj
def load(invocation: Invocation, role: str | None) -> None:
    """Load the rules, all at once, and look whether they are there. Needs root.

    Connections that are open stay; rules of other tables are not touched. They are gone after the next start of
    the host, unless what `print` says is loaded there, too.
    """
    make = _planner(invocation, role)
    plan = make()
    nft = Nft()
    nft.load(plan.ruleset.text())
    finding = judge(lambda: plan, nft)
    if finding.verdict is not Verdict.OK:
        raise OperationalError(
            f"firewall: what was loaded is not what nft lists: {finding.describe()}"
        )
    audit = _open_trail(_deployment(invocation))
    audit.record(
        LOADED, digest=finding.digest, rules=sum(len(one.rules) for one in plan.ruleset.chains)
    )
    audit.close()
    _say_notes(plan)
    answer(_told(plan), f"loaded, digest {finding.digest}")


@firewall.command()
@_ROLE
@_DIGEST
@answer_option
@click.pass_obj
def check(invocation: Invocation, role: str | None, digest: str | None) -> None:
    """Say whether the rules of the settings are loaded, and name each difference. Needs root.

    Exit codes: 0 they are; 1 they are not; 69 nft could not be asked.
    """
    nft = Nft()
    finding = judge(_planner(invocation, role), nft)
    if finding.verdict is Verdict.UNKNOWN:
        raise OperationalError(finding.reason)
    is_known = digest is None or digest.lower() == finding.digest
    told = _told_finding(finding)
    told["others"] = others = nft.others()
    lines = [f"{finding.verdict.value}, digest {finding.digest or 'none'}"]
    lines += [str(one) for one in finding.differences]
    if not is_known:
        told["verdict"] = Verdict.CHANGED.value
        lines.append(f"digest: not the one that was asked for, {digest}")
    lines += [f"beside it: {one}" for one in others]
    answer(told, "\n".join(map(printable, lines)))
    sys.exit(Exit.OK if is_known and finding.verdict is Verdict.OK else Exit.ERROR)


@firewall.command()
@_ROLE
@click.option(
    "--interval",
    type=click.FloatRange(1.0, 3600.0),
    default=30.0,
    show_default=True,
    help="Seconds between looks.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Tell workers, in this file.  [default: firewall_state]",
)
@click.option("--once", is_flag=True, help="Look once, and end; for a timer.")
@answer_option
@click.pass_obj
def watch(
    invocation: Invocation,
    role: str | None,
    interval: float,
    state: Path | None,
    once: bool,  # noqa: FBT001  # click passes flags so
) -> None:
    """Check again and again, as root, and write what is found where workers read it.

    So workers need no right to look at rules, which is the right to change them. Says when the verdict changes,
    in the audit trail and to syslog as well.
    """
    make = _planner(invocation, role)
    deployment = _deployment(invocation)
    configured = deployment.settings.firewall_state
    path = state or (Path(configured) if configured else None)
    if path is None and not once:
        click.echo("no firewall_state, so no worker is told", err=True)
    audit = _open_trail(deployment)
    teller = Teller(action="alert", audit=audit, clock=deployment.clock)
    with sending(audit, deployment.settings, clock=deployment.clock):
        for finding in _looks(make, interval=None if once else interval):
            if path is not None:
                write_state(path, finding, now=deployment.clock.now(), interval=interval)
            teller.take(finding)
    sys.exit(_code(finding))


def _looks(make: Callable[[], Plan], *, interval: float | None) -> Iterator[Finding]:
    """One, or one after the other until this process is to end; says those that are news."""
    stop, nft = threading.Event() if interval is None else wait_for_signals(), Nft()
    said: Finding | None = None
    while True:
        finding = judge(make, nft)
        if said is None or (said.verdict, said.digest) != (finding.verdict, finding.digest):
            said = finding
            told = _told_finding(finding)
            click.echo(json_of(told) if wants_json() else printable(finding.describe()))
        yield finding
        if interval is None or stop.wait(interval):
            return


def _deployment(invocation: Invocation) -> Deployment:
    return Deployment(find_app(invocation).settings, clock=SystemClock(), role="operator")


def _open_trail(deployment: Deployment) -> AuditLog:
    """The audit trail; without a file where its folder is another user's, who could not write to a file of root's."""
    path = find_log(deployment.settings, deployment.state_directory)
    folder = next(one for one in path.absolute().parents if one.exists())
    if folder.stat().st_uid == os.geteuid():
        return deployment.audit()
    note = f"note: {folder} is another user's, so nothing is recorded there; set CARDOON_SECURITY_AUDIT_LOG"
    click.secho(note, fg="yellow", err=True)
    return AuditLog(None, clock=deployment.clock, source=deployment.role)


def _planner(invocation: Invocation, role: str | None) -> Callable[[], Plan]:
    """Makes the plan anew each time, since names may have got other addresses."""
    deployment = _deployment(invocation)
    settings, servers = deployment.settings, servers_of(deployment)
    return lambda: make_plan(settings, servers, role=role or settings.firewall_role)


def _text(plan: Plan) -> str:
    """The rules under a head that says what they are."""
    head = [
        "# Made by `cardoon firewall print`; change the settings, not this file.",
        f"# digest {plan.ruleset.table().digest()}",
        *(f"# {name}: {', '.join(found)}" for name, found in sorted(plan.resolved.items())),
    ]
    return "\n".join([*head, plan.ruleset.text()])


def _told(plan: Plan) -> dict[str, Any]:
    return {
        "digest": plan.ruleset.table().digest(),
        "resolved": plan.resolved,
        "notes": plan.notes,
        "ruleset": plan.ruleset.text(),
    }


def _told_finding(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict.value,
        "digest": finding.digest,
        "expected": finding.expected,
        "differences": [one._asdict() for one in finding.differences],
        "reason": finding.reason,
    }


def _say_notes(plan: Plan) -> None:
    for note in plan.notes:
        click.secho(f"note: {note}", fg="yellow", err=True)


def _code(finding: Finding) -> Exit:
    match finding.verdict:
        case Verdict.OK:
            return Exit.OK
        case Verdict.UNKNOWN:
            return Exit.UNAVAILABLE
        case Verdict.ABSENT | Verdict.CHANGED:
            return Exit.ERROR
