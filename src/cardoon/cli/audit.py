"""`cardoon audit`: judges the audit log, proves a record of it, follows it, and hands it on."""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cardoon.attesting import make_witness
from cardoon.audit import find_log
from cardoon.cli.access import (
    answer,
    answer_option,
    find_app,
    print_json,
    printable,
    wants_json,
    when,
)
from cardoon.cli.codes import Exit
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError, SecurityError
from cardoon.records import recording_of
from cardoon.transparency.archive import Archive
from cardoon.transparency.lines import read_lines
from cardoon.transparency.notes import NoteError, SignedNote, parse_note
from cardoon.transparency.places import Places, notes_of
from cardoon.transparency.proving import prove_consistency, prove_record
from cardoon.transparency.verifying import (
    CUT,
    HARMLESS,
    INCOMPLETE,
    Flaw,
    Verdict,
    Witness,
    Witnessed,
    read_notes,
    verify_log,
)

_FILE = click.argument("file", required=False, type=click.Path(dir_okay=False))
_LOG = click.option(
    "--file", "file", type=click.Path(dir_okay=False), help="Instead of `security_audit_log`."
)
_PAUSE = 0.2
"""Seconds between two looks of `tail -f`."""


@click.group()
def audit() -> None:
    """The audit log: verify it, prove, follow and export records."""


@audit.command()
@_FILE
@click.option(
    "--checkpoint",
    "saved",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="A checkpoint that was kept elsewhere, as `cardoon audit checkpoint` prints it; repeatable.",
)
@click.option(
    "--witness",
    "witness",
    type=click.Choice(["store"]),
    help="Hold the log against what the store and the other workers know of it.",
)
@answer_option
@click.pass_obj
def verify(
    invocation: Invocation, file: str | None, saved: tuple[str, ...], witness: str | None
) -> None:
    """Judge the log, and name each record that is not what it was.

    \b
    Exit codes: 0 nothing is wrong (a line that a killed process could not finish is told);
    6 changed, removed, inserted, reordered, a bad signature, another log's checkpoint;
    7 truncated, or older than or different from what --checkpoint or --witness knows;
    9 unproven: records were lost, a key is not introduced or certified, there is no checkpoint or no witness.
    """  # noqa: D301  # \b keeps click from filling the lines
    path = _find(invocation, file)
    notes = tuple(note for one in saved for note in _load_saved(Path(one)))
    refused: list[str] = []
    witnessed = _ask_store(invocation, path, refused) if witness else ()
    try:
        verdict = verify_log(
            path, witness=_find_witness(invocation), elsewhere=notes, witnessed=witnessed
        )
    except OSError as error:
        raise _unreadable(path, error) from error
    if witness and not witnessed:
        told = "; ".join(["the store knows nothing of this log that counts", *refused])
        verdict.add(Flaw.UNWITNESSED, told)
    answer(_describe(path, verdict), _tell(path, verdict))
    sys.exit(_code_of(verdict))


@audit.command()
@click.argument("seq", type=click.IntRange(0))
@_LOG
@click.option(
    "--consistency",
    "old",
    is_flag=True,
    help="Prove instead that the log of the first SEQ records is the beginning of this one.",
)
@click.pass_obj
def prove(invocation: Invocation, seq: int, file: str | None, old: bool) -> None:  # noqa: FBT001
    """Print a proof (RFC 6962) that record SEQ is in the log, as JSON, with the checkpoint that it leads to.

    Whoever trusts the checkpoint needs nothing else, and sees no other record.
    """
    path = _find(invocation, file)
    try:
        told = prove_consistency(path, seq) if old else prove_record(path, seq)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise SecurityError(f"audit log {path}: {error}") from error
    note = told.note
    print_json(
        {
            "seq" if not old else "old": seq,
            "size": note.note.size,
            "line": told.line.decode("ascii", "replace") if told.line else None,
            "proof": [base64.b64encode(one).decode() for one in told.hashes],
            "checkpoint": note.encode().decode(),
        }
    )


@audit.command()
@_FILE
@click.pass_obj
def checkpoint(invocation: Invocation, file: str | None) -> None:
    """Print the newest checkpoint, to keep where this host cannot change it."""
    path = _find(invocation, file)
    newest = _find_newest(path)
    if newest is None:
        raise SecurityError(f"audit log {path}: no checkpoint yet; a worker makes them")
    click.echo(newest.encode().decode(), nl=False)


@audit.command()
@_FILE
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How many of the last records.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come.")
@answer_option
@click.pass_obj
def tail(invocation: Invocation, file: str | None, lines: int, follow: bool) -> None:  # noqa: FBT001
    """Print the last records; with --json as they are, a line each."""
    path = _find(invocation, file)
    held: list[tuple[bytes, dict[str, Any]]] = []
    end = 0
    try:
        for text, record, behind in _read(path):
            end = behind
            held = [*held, (text, record)][-lines:]
    except OSError as error:
        raise _unreadable(path, error) from error
    for text, record in held:
        click.echo(_line_of(text, record))
    while follow:
        time.sleep(_PAUSE)
        if path.exists() and path.stat().st_size < end:
            end = 0  # the next file has begun
        for text, record, behind in _read(path, end):
            end = behind
            click.echo(_line_of(text, record))
        sys.stdout.flush()


@audit.command()
@_FILE
@click.option("--since", help="From this moment on, in ISO 8601; UTC if it does not say.")
@click.option("--until", help="Before this moment.")
@click.option("--event", "events", multiple=True, help="Only these; `message.*` for a family.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv"]),
    default="json",
    show_default=True,
    help="How to print them.",
)
@click.pass_obj
def export(
    invocation: Invocation,
    file: str | None,
    since: str | None,
    until: str | None,
    events: tuple[str, ...],
    form: str,
) -> None:
    """Print records of this file and of the full ones before it: JSON lines as they are, or CSV.

    CSV has one column for what a record says beyond time, event and source.
    """
    path = _find(invocation, file)
    start, end = _moment(since, "--since"), _moment(until, "--until")
    writer = csv.writer(sys.stdout)
    if form == "csv":
        writer.writerow(["seq", "time", "event", "source", "pid", "more"])
    try:
        for text, record in _read_all(path):
            moment = str(record.get("time", ""))
            if (start and moment < start) or (end and moment >= end):
                continue
            if events and not any(_fits(str(record.get("event", "")), one) for one in events):
                continue
            if form == "json":
                click.echo(text.decode("ascii", "backslashreplace").rstrip("\n"))
            else:
                writer.writerow(_row(record))
    except OSError as error:
        raise _unreadable(path, error) from error


def _find(invocation: Invocation, file: str | None) -> Path:
    if file is not None:
        return Path(file)
    settings = find_app(invocation).settings
    return find_log(settings, Deployment(settings, clock=SystemClock()).state_directory)


def _find_witness(invocation: Invocation) -> Witness | None:
    """Whom this project trusts; nobody where there is no project."""
    deployment = Deployment(find_app(invocation).settings, clock=SystemClock(), role="worker")
    try:
        return make_witness(deployment) if deployment.signs else None
    except CardoonError as error:
        click.echo(f"nobody is trusted here, so no identity counts: {error}", err=True)
        return None


def _find_newest(path: Path) -> SignedNote | None:
    newest: SignedNote | None = None
    for log in [*Places(path).earlier(), path]:
        for one in read_notes(notes_of(log)):
            newest = newest if isinstance(one, NoteError) else one
    return newest


def _ask_store(invocation: Invocation, path: Path, refused: list[str]) -> tuple[Witnessed, ...]:
    """What the store knows of a log, by the name that its newest checkpoint gives it."""
    newest = _find_newest(path)
    if newest is None:
        return ()
    deployment = Deployment(find_app(invocation).settings, clock=SystemClock(), role="worker")
    with contextlib.ExitStack() as stack:
        broker = deployment.open_broker()
        stack.callback(broker.close)
        backend = deployment.open_backend(broker)
        if backend is not None:
            stack.callback(backend.close)
        archive = Archive(recording_of(broker, backend), make_witness(deployment))
        found = archive.about(newest.note.origin, lambda error: refused.append(str(error)))
        return tuple(Witnessed(one.newest, one.certificate.note.key, one.roots) for one in found)


def _load_saved(path: Path) -> Iterator[SignedNote]:
    try:
        yield parse_note(path.read_bytes())
    except NoteError as error:
        raise SecurityError(
            f"--checkpoint {path}: {error}; save one with `cardoon audit checkpoint`"
        ) from error


def _code_of(verdict: Verdict) -> Exit:
    found = {finding.flaw for finding in verdict.findings} - HARMLESS
    if found - INCOMPLETE - CUT:
        return Exit.TAMPERED
    if found & CUT:
        return Exit.CUT
    return Exit.INCOMPLETE if found else Exit.OK


def _describe(path: Path, verdict: Verdict) -> dict[str, Any]:
    return {
        "file": str(path),
        "log": verdict.origin,
        "identities": verdict.identities,
        "first": verdict.first,
        "size": verdict.size,
        "sealed": verdict.sealed,
        "epochs": verdict.epochs,
        "checkpoints": verdict.checkpoints,
        "newest": verdict.newest,
        "verdict": _code_of(verdict).name.lower(),
        "findings": [
            {"flaw": one.flaw.value, "seq": one.seq, "detail": one.detail}
            for one in verdict.findings
        ],
        "more": verdict.more,
    }


def _tell(path: Path, verdict: Verdict) -> str:
    rows = [f"{path}: {verdict.size} records"]
    if verdict.checkpoints:
        names = ", ".join(verdict.identities) or "nobody who is trusted"
        rows[0] += f", {verdict.sealed} of them signed, the last at {when(verdict.newest)} (UTC)"
        rows.append(f"log {verdict.origin}; {verdict.epochs} epochs, certified by {names}")
    if verdict.first:
        rows.append(f"records before {verdict.first} are in files that are gone")
    for one in verdict.findings:
        where = "" if one.seq is None else f" at record {one.seq}"
        rows.append(f"{one.flaw.value}{where}: {one.detail}")
    if verdict.more:
        rows.append(f"and {verdict.more} more")
    rows.append(_code_of(verdict).name.lower())
    return "\n".join(printable(row) for row in rows)


def _read(path: Path, offset: int = 0) -> Iterator[tuple[bytes, dict[str, Any], int]]:
    with path.open("rb") as stream:
        for line in read_lines(stream, offset):
            if line.is_whole:
                yield line.text, line.read(), line.end


def _read_all(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for log in [*Places(path).earlier(), path]:
        for text, record, _ in _read(log):
            yield text, record


def _line_of(text: bytes, record: dict[str, Any]) -> str:
    if wants_json():
        return text.decode("ascii", "backslashreplace").rstrip("\n")
    if not record:
        return "(no record)"
    known = ("time", "event", "source", "pid", "seq", "prev", "tree")
    more = " ".join(f"{name}={value}" for name, value in record.items() if name not in known)
    told = (record.get(name, "") for name in ("seq", "time", "source", "event"))
    return printable(" ".join([*map(str, told), more]).rstrip())


def _row(record: dict[str, Any]) -> list[str]:
    known = ("seq", "time", "event", "source", "pid")
    more = {name: value for name, value in record.items() if name not in known}
    row = [str(record.get(name, "")) for name in known]
    # A spreadsheet takes a cell that begins so for a formula.
    safe = [f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in row]
    return [*safe, json.dumps(more, sort_keys=True)]


def _fits(event: str, wanted: str) -> bool:
    return event.startswith(wanted[:-1]) if wanted.endswith("*") else event == wanted


def _moment(text: str | None, option: str) -> str:
    if text is None:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time in ISO 8601, such as 2026-12-01T18:00", param_hint=option
        ) from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _unreadable(path: Path, error: OSError) -> SecurityError:
    return SecurityError(
        f"audit log {path}: {error.strerror or error}; name the file, or start where the project is"
    )
