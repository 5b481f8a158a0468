"""`cardoon integrity`: make, sign and check the list of what files are."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from cardoon.cli.access import (
    answer,
    answer_option,
    find_app,
    json_option,
    print_json,
    wants_json,
)
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured, SecurityError
from cardoon.integrity.approval import signature_path
from cardoon.integrity.approved import Place, make_place, open_approved
from cardoon.integrity.baseline import Baseline, open_baseline, sign_baseline, write_baseline
from cardoon.integrity.comparison import Comparison
from cardoon.integrity.covering import default_rules
from cardoon.integrity.findings import BITS, Finding, Kind, dump, escape, exit_code, summarize
from cardoon.integrity.manifest import Head
from cardoon.integrity.records import RecordCheck
from cardoon.integrity.rules import Rules, read_rules
from cardoon.integrity.serials import highest_serial
from cardoon.integrity.walk import Walk
from cardoon.integrity.watching import FileWatch
from cardoon.security.identity import load_key
from cardoon.security.keys import PrivateKey

_Command = TypeVar("_Command", bound=Callable[..., Any])
_WAIT_SECONDS, _SETTLING_SECONDS = 60.0, 0.2
_MOST_TOLD = 10_000
"""Findings in an answer; beyond, only their number is told."""


def _file_option(name: str, told: str) -> Callable[[_Command], _Command]:
    return click.option(name, type=click.Path(dir_okay=False), help=told)


_BASELINE = _file_option("--baseline", "Instead of `integrity_baseline`.")
_PUBLIC_KEY = _file_option("--public-key", "Instead of `integrity_key`: who approves baselines.")
_KEY = _file_option("--key", "Sign at once with this private key. Better sign elsewhere.")


@click.group()
def integrity() -> None:
    """Hold this host's files against a signed list of them.

    \b
    cardoon -A tasks integrity init --baseline host.baseline
    cardoon integrity sign host.baseline --key approver.key     where the key is
    cardoon -A tasks integrity check
    """  # noqa: D301  # \b keeps click from filling the lines


@integrity.command()
@_BASELINE
@click.option("--rules", "rules_file", help="TOML file with what to cover, for `integrity_rules`.")
@click.option("--root", "roots", multiple=True, help="Cover this file or folder, and no other.")
@click.option("--host", help="Name of the host; `*` for a baseline of any host.")
@_KEY
@answer_option
@click.pass_obj
def init(
    invocation: Invocation,
    baseline: str | None,
    rules_file: str | None,
    roots: tuple[str, ...],
    host: str | None,
    key: str | None,
) -> None:
    """Make a baseline of the files as they are, to be signed before it counts.

    Look at what it covers with `integrity show`. Exits with 32 if some files could not be read.
    """
    deployment = _deploy(invocation)
    path = _find_baseline(deployment, baseline)
    if path.exists():
        raise ImproperlyConfigured(f"{path} is there already; use `cardoon integrity update`")
    rules = _choose_rules(deployment, rules_file, roots, path)
    _make(deployment, path, rules, host=host or socket.gethostname(), key=key, at_least=1)


@integrity.command()
@_BASELINE
@_KEY
@answer_option
@click.pass_obj
def update(invocation: Invocation, baseline: str | None, key: str | None) -> None:
    """Make the next baseline, by the rules of the last one; tell first what has changed.

    It takes the place of the last one, and counts when it is signed: until then workers refuse it.
    """
    deployment = _deploy(invocation)
    path = _find_baseline(deployment, baseline)
    with open_baseline(path) as last:
        head = last.head
        findings = list(Comparison(head.rules, last.lines()))
    if not wants_json():
        for finding in findings[:_MOST_TOLD]:
            click.echo(str(finding))
    _make(deployment, path, head.rules, host=head.host, key=key, at_least=head.serial + 1)


@integrity.command()
@click.argument("path", type=click.Path(dir_okay=False))
@_file_option("--key", "The private key, in PEM form.")
@answer_option
def sign(path: str, key: str | None) -> None:
    """Approve the baseline in the file PATH; writes PATH.sig. Needs no app, and no other file."""
    if key is None:
        raise click.UsageError("name the private key with --key FILE")
    with open_baseline(Path(path)) as opened:
        written = sign_baseline(opened, _load_private(key))
        told = _describe(opened)
    answer({**told, "signature": str(written)}, f"{_tell(told)}\nsigned: {written}")


@integrity.command()
@_BASELINE
@_PUBLIC_KEY
@click.option(
    "--incremental", is_flag=True, help="Read only what looks changed, and 1% of the rest."
)
@answer_option
@click.pass_obj
def check(
    invocation: Invocation,
    baseline: str | None,
    public_key: str | None,
    incremental: bool,  # noqa: FBT001  # click passes flags so
) -> None:
    """Say which files are not what the baseline says, and how.

    Exits with the sum of 4 (files were added), 8 (removed), 16 (changed) and 32 (could not be read); with 1 for
    a baseline that does not count: not signed by `integrity_key`, changed, another host's, or an older one.
    """
    deployment = _deploy(invocation)
    kinds: Counter[Kind] = Counter()
    findings: list[Finding] = []
    with _open(deployment, baseline, public_key) as opened:
        comparison = Comparison(opened.head.rules, opened.lines(), quick=incremental)
        for finding in comparison:
            kinds[finding.kind] += 1
            if len(findings) < _MOST_TOLD:
                findings.append(finding)
            if not wants_json():
                click.echo(str(finding))
        told = {
            **_describe(opened),
            "entries": comparison.entries,
            "files_read": comparison.files,
            "bytes_read": comparison.size,
            "found": {kind.value: kinds[kind] for kind in BITS},
        }
    _record(deployment, told, findings)
    if wants_json():
        print_json({**told, "findings": [one.to_json() for one in findings]})
    else:
        click.echo(f"{comparison.entries} entries, {kinds.total()} findings; {_tell(told)}")
    sys.exit(exit_code(kinds))


@integrity.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False))
@answer_option
def records(folders: tuple[str, ...]) -> None:
    """Hold installed packages against what their wheels recorded; needs no baseline, and no app.

    Looks at all of `sys.path`, or at these FOLDERS: for files that are not what RECORD says, that are gone, and
    for `.pth` files and modules at the top that no RECORD lists. Exits as `check` does.
    """
    looked = RecordCheck(folders or sys.path)
    found = list(looked)
    told = {"records": looked.records, "files_read": looked.files}
    shown = [*map(str, found[:_MOST_TOLD])]
    shown.append(f"{looked.records} packages, {looked.files} files, {len(found)} findings")
    answer({**told, "findings": [one.to_json() for one in found[:_MOST_TOLD]]}, "\n".join(shown))
    sys.exit(exit_code(one.kind for one in found))


@integrity.command()
@_BASELINE
@_PUBLIC_KEY
@click.option("--once", is_flag=True, help="End after the first change that makes a finding.")
@json_option
@click.pass_obj
def watch(
    invocation: Invocation,
    baseline: str | None,
    public_key: str | None,
    once: bool,  # noqa: FBT001  # click passes flags so
    as_json: bool,  # noqa: FBT001
) -> None:
    """Say what is not as it was, and from then on what changes, until interrupted.

    With --json, each finding is one line of JSON. Exits as `check` does.
    """
    deployment = _deploy(invocation)
    told: set[Finding] = set()
    found: list[Finding] = []

    def check(*, quick: bool) -> None:
        with _open(deployment, baseline, public_key) as opened:
            found[:] = Comparison(opened.head.rules, opened.lines(), quick=quick)
        for finding in found:
            if finding not in told:
                click.echo(dump(finding) if as_json else str(finding))
        told.clear()
        told.update(found)

    with _open(deployment, baseline, public_key) as opened:
        rules = opened.head.rules
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(FileWatch(rules)) as changes:
        check(quick=False)
        while not (once and found):
            changed = changes.wait(_WAIT_SECONDS)
            if changed or changed is None:
                changes.wait(_SETTLING_SECONDS)
                check(quick=changed is not None)
    sys.exit(exit_code(one.kind for one in found))


@integrity.command()
@_BASELINE
@_PUBLIC_KEY
@answer_option
@click.pass_obj
def show(invocation: Invocation, baseline: str | None, public_key: str | None) -> None:
    """Show what a baseline covers, and whether it counts here. Exits with 1 if it does not."""
    deployment = _deploy(invocation)
    path = _find_baseline(deployment, baseline)
    with open_baseline(path) as opened:
        told = {**_describe(opened), "rules": opened.head.rules.to_mapping()}
    try:
        with _open(deployment, baseline, public_key):
            objection = ""
    except (SecurityError, ImproperlyConfigured) as error:
        objection = str(error)
    if wants_json():
        print_json({**told, "counts": not objection, "objection": objection})
    else:
        click.echo(_tell(told))
        for name, value in told["rules"].items():
            click.echo(
                f"{name}: {', '.join(map(escape, [value] if name == 'attributes' else value))}"
            )
        click.echo(f"does not count: {escape(objection)}" if objection else "counts here")
    sys.exit(bool(objection))


def _deploy(invocation: Invocation) -> Deployment:
    return Deployment(find_app(invocation).settings, clock=SystemClock(), role="operator")


def _find_baseline(deployment: Deployment, given: str | None) -> Path:
    named = given or deployment.settings.integrity_baseline
    if not named:
        raise ImproperlyConfigured(
            "integrity_baseline is not set: name the file with --baseline, or in the settings"
        )
    return Path(named).expanduser()


@contextlib.contextmanager
def _open(
    deployment: Deployment, baseline: str | None, public_key: str | None
) -> Iterator[Baseline]:
    path = _find_baseline(deployment, baseline)
    keys = (public_key,) if public_key else deployment.settings.integrity_key
    place: Place = make_place(str(path), keys, deployment.state_directory)
    with open_approved(place) as opened:
        yield opened


def _choose_rules(
    deployment: Deployment, rules_file: str | None, roots: tuple[str, ...], path: Path
) -> Rules:
    settings = deployment.settings
    chosen = rules_file or ("" if roots else settings.integrity_rules)
    if chosen and roots:
        raise click.UsageError("--root and --rules say both what to cover; give one of them")
    if chosen:
        return read_rules(chosen)
    if roots:
        return Rules(tuple(str(Path(root).absolute()) for root in roots))
    trusted = settings.security_ca_certificates
    more = (
        settings.security_policy,
        settings.integrity_rules,
        *settings.integrity_key,
        *settings.security_cert_store,
        *settings.security_revoked,
        *(trusted.values() if isinstance(trusted, dict) else trusted),
    )
    files = [one for one in more if one and not any(sign in one for sign in "*?[")]
    apart = [str(deployment.state_directory), str(path), str(signature_path(path))]
    if settings.security_audit_log:
        apart.append(settings.security_audit_log)
    return default_rules(files, apart=apart)


def _make(
    deployment: Deployment, path: Path, rules: Rules, *, host: str, key: str | None, at_least: int
) -> None:
    serial = max(at_least, highest_serial(deployment.state_directory) + 1)
    created = datetime.fromtimestamp(deployment.clock.now(), UTC).isoformat(timespec="seconds")
    private = None if key is None else _load_private(key)
    written = write_baseline(path, Head(serial, host, created, rules), Walk(rules))
    with open_baseline(path) as made:
        told: dict[str, Any] = {**_describe(made), "entries": written.entries, "path": str(path)}
        told["unreadable"] = written.unreadable
        if private is not None:
            told["signature"] = str(sign_baseline(made, private))
    with contextlib.closing(deployment.audit()) as audit:
        audit.record(
            "integrity.baseline_made", path=path, serial=serial, host=host, digest=told["digest"]
        )
    then = "" if private is not None else f"; sign it: cardoon integrity sign {path} --key KEY"
    answer(told, f"{path}: {written.entries} entries, {_tell(told)}{then}")
    if written.unreadable:
        click.echo(f"{written.unreadable} could not be read; run it as somebody who may", err=True)
        sys.exit(exit_code([Kind.UNREADABLE]))


def _describe(opened: Baseline) -> dict[str, Any]:
    head = opened.head
    return {
        "serial": head.serial,
        "host": escape(head.host),
        "created": escape(head.created),
        "digest": opened.digest.hex(),
        "rules_digest": head.rules.digest(),
    }


def _tell(told: dict[str, Any]) -> str:
    return f"serial {told['serial']} of host {told['host']}, {told['created']}, sha256:{told['digest']}"


def _record(deployment: Deployment, told: dict[str, Any], findings: list[Finding]) -> None:
    with contextlib.closing(deployment.audit()) as audit:
        if findings:
            audit.record(
                "integrity.drift",
                baseline_serial=told["serial"],
                **told["found"],
                detail=summarize(findings),
            )
        else:
            audit.record(
                "integrity.check_ok", baseline_serial=told["serial"], entries=told["entries"]
            )


def _load_private(path: str) -> PrivateKey:
    """The key of an approver; its password is asked for where it has one and somebody is there to ask."""
    try:
        return load_key(Path(path))
    except SecurityError as error:
        if not isinstance(error.__cause__, TypeError) or not sys.stdin.isatty():
            raise
    password: str = click.prompt("Password of the key", hide_input=True, err=True)
    return load_key(Path(path), password)
