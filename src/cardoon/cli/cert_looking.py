"""`cardoon cert show`, `list` and `check`: what there is, and how long it is good."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from cardoon.certificates import find_certificates
from cardoon.cli.access import json_option, print_json, print_table, printable
from cardoon.cli.cert_options import Place, moment, password_from_option, read_password
from cardoon.cli.main import Invocation
from cardoon.exceptions import SecurityError
from cardoon.security.expiry import Finding, State, describe, format_seconds, judge_all
from cardoon.security.inspecting import Inspector, Thing
from cardoon.security.trust import TrustStore


@click.command()
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@password_from_option
@json_option
@click.pass_obj
def show(
    invocation: Invocation,
    paths: tuple[Path, ...],
    password_from: str | None,
    as_json: bool,  # noqa: FBT001  # click passes flags so
) -> None:
    """Say what is in files of certificates, keys, requests and lists, and what Cardoon makes of it.

    Of keys, public facts only. Exits with 1 if something would be refused.
    """
    place = Place(invocation)
    inspector = Inspector(
        _find_store(place),
        place.load_anchors(),
        now=place.clock.now(),
        warning=place.settings.security_expiry_warning,
    )
    password = read_password(password_from, "the key")
    found = [(path, thing) for path in paths for thing in inspector.inspect(path, password)]
    if as_json:
        print_json([{"path": str(path), **asdict(thing)} for path, thing in found])
    else:
        for number, (path, thing) in enumerate(found):
            if number:
                click.echo()
            _print(path, thing)
    sys.exit(any(thing.is_refused for _, thing in found))


@click.command("list")
@json_option
@click.pass_obj
def list_(invocation: Invocation, as_json: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Show what the project signs with and trusts, and how long it is good."""
    findings = _judge(Place(invocation))
    if as_json:
        print_json([_plain(one) for one in findings])
        return
    print_table(
        ("what", "name", "state", "until", "left", "file"),
        [
            (
                one.part.value,
                one.name or one.detail,
                one.state.value,
                moment(one.not_after) if one.not_after else "-",
                format_seconds(one.seconds_left) if one.not_after else "-",
                one.path,
            )
            for one in findings
        ],
    )


@click.command()
@json_option
@click.pass_obj
def check(invocation: Invocation, as_json: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Say what ends soon, has ended or cannot be read, and exit with 1 if anything does."""
    findings = [one for one in _judge(Place(invocation)) if one.needs_attention]
    if as_json:
        print_json([_plain(one) for one in findings])
    else:
        for one in findings:
            is_over = one.state is not State.EXPIRES_SOON
            click.secho(printable(describe(one)), fg="red" if is_over else "yellow")
    sys.exit(bool(findings))


def _judge(place: Place) -> list[Finding]:
    findings = judge_all(
        find_certificates(place.settings),
        now=place.clock.now(),
        warning=place.settings.security_expiry_warning,
    )
    if not findings:
        # All is well with nothing: that is what monitoring would hear of the wrong folder.
        raise SecurityError(
            f"no certificate in {place.state}, and no setting names one; go to the project's folder, or "
            "name the app with -A"
        )
    return findings


def _plain(finding: Finding) -> dict[str, object]:
    return {
        **asdict(finding),
        "seconds_left": round(finding.seconds_left),
        "needs_attention": finding.needs_attention,
    }


def _find_store(place: Place) -> Callable[[], TrustStore] | None:
    """How to open the project's trust store; None, and a word about it, where it cannot be opened."""
    sources = find_certificates(place.settings).sources
    anchors = place.settings.security_ca_certificates or [path for _, path in sources.anchors]
    open_store = partial(
        TrustStore,
        pins=sources.pins,
        anchors=anchors,
        revoked=sources.revoked,
        may_lack=sources.may_lack,
        clock=place.clock,
        skew=place.settings.security_clock_skew,
    )
    try:
        open_store()
    except SecurityError as error:
        click.secho(f"note: {error}", fg="yellow", err=True)
        return None
    return open_store


def _print(path: Path, thing: Thing) -> None:
    click.secho(f"{path}: {thing.kind}", bold=True)
    for name, value in thing.facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"  {name.replace('_', ' '):<20}{printable(str(shown))}")
    if thing.verdict:
        verdict = printable(thing.verdict)
        click.secho(f"  {'verdict':<20}{verdict}", fg="red" if thing.is_refused else "green")
