"""`cardoon doctor expose`: from another host, what of a deployment answers that must be filtered."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from cardoon.cli.access import answer_option, find_app, json_of, printable, wants_json
from cardoon.cli.background import wait_for_signals
from cardoon.cli.codes import Exit
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.config import Settings, find_state_directory
from cardoon.deployment import Deployment
from cardoon.doctor.canary import Canary
from cardoon.doctor.exposure import (
    MANAGEMENT,
    MOST_PLACES,
    Round,
    Verdict,
    parse_round,
    parse_target,
    try_round,
)
from cardoon.doctor.notary import Notary
from cardoon.exceptions import CardoonError, ImproperlyConfigured, SecurityError
from cardoon.firewall.planning import servers_of
from cardoon.network_place import Place
from cardoon.security import files
from cardoon.security.keyholding import write_file
from cardoon.syslog.service import sending
from cardoon.syslog_target import parse_target as parse_syslog

_PURPOSE = b"\x00doctor-exposure"
_FORMAT = 1
_MAX_BYTES = 1 << 17


@click.command()
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="HOST:PORT",
    help="Must not be reached from here; may be repeated.  [the servers of the settings, and their management]",
)
@click.option(
    "--control",
    "controls",
    multiple=True,
    metavar="HOST:PORT",
    help="Must be reached, or silence proves nothing; may be repeated.  [syslog_address]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 30.0),
    default=2.0,
    show_default=True,
    help="Seconds for each.",
)
@click.option(
    "--every",
    type=click.FloatRange(1.0, 3600.0),
    metavar="SECONDS",
    help="Go on, and tell what changes.",
)
@click.option(
    "--result",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was found there, signed, after each round.",
)
@click.option(
    "--verify",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Try nothing: say what such a file says, and who has signed it.",
)
@answer_option
@click.pass_obj
def expose(
    invocation: Invocation,
    targets: Sequence[str],
    controls: Sequence[str],
    timeout: float,
    every: float | None,
    result: Path | None,
    verify: Path | None,
) -> None:
    """Try from this host what a firewall must keep from it. Run it where nobody is a peer.

    What answers, or says no by itself, is exposed: `firewall.port_exposed` in the audit trail, and to syslog.

    Exit codes: 0 nothing is reached; 4 something is; 5 it is not known, since nothing else is reached either.
    """
    settings = find_app(invocation).settings
    deployment = Deployment(settings, clock=SystemClock(), role=find_role(settings))
    notary = Notary(deployment, purpose=_PURPOSE)
    if verify is not None:
        found, signer = _read(verify, notary)
        _say(found, signer=signer)
        sys.exit(_code(found))
    try_once = partial(
        try_round,
        _parse(targets, "--target") or _default_targets(deployment),
        _parse(controls, "--control") or _default_controls(settings),
        host=socket.gethostname(),
        seconds=timeout,
    )
    audit = deployment.audit()
    canary = Canary(audit=audit, clock=deployment.clock)
    with sending(audit, settings, clock=deployment.clock):
        for found in _rounds(try_once, every):
            if canary.take(found) or every is None:
                _say(found)
            if result is not None:
                _write(result, found, notary)
    sys.exit(_code(found))


def _rounds(try_once: Callable[..., Round], every: float | None) -> Iterator[Round]:
    """One, or one after the other until this process is to end."""
    clock = SystemClock()
    stop = threading.Event() if every is None else wait_for_signals()
    while True:
        began = clock.monotonic()
        yield try_once(now=clock.now())
        if every is None or stop.wait(max(0.0, every - (clock.monotonic() - began))):
            return


def find_role(settings: Settings) -> str:
    """Whose identity of the project signs: that of clients, unless there is the worker's alone."""
    state = find_state_directory(settings)
    alone = (state / "worker.key").exists() and not (state / "client.key").exists()
    return "worker" if alone else "client"


def _parse(told: Sequence[str], option: str) -> tuple[Place, ...]:
    places = tuple(dict.fromkeys(parse_target(one, option=option) for one in told))
    if len(places) > MOST_PLACES:
        raise ImproperlyConfigured(f"{option}: {len(places)} places are more than {MOST_PLACES}")
    return places


def _default_targets(deployment: Deployment) -> tuple[Place, ...]:
    """The servers of the settings on other hosts, and the ports of management beside them."""
    endpoints = [
        one
        for server in servers_of(deployment)
        for one in server.endpoints()
        if not (one.is_local or one.socket)
    ]
    told = [
        f"[{one.host}]:{port}" if ":" in one.host else f"{one.host}:{port}"
        for one in endpoints
        for port in (one.port, *MANAGEMENT.get(one.kind, ()))
    ]
    if not told:
        raise ImproperlyConfigured(
            "--target: the settings name no server on another host; say what must not be reached from here"
        )
    return _parse(told, "--target")


def _default_controls(settings: Settings) -> tuple[Place, ...]:
    targets = [parse_syslog(one) for one in settings.syslog_address]
    told = [str(one).partition("://")[2] for one in targets if one.port and not one.is_datagram]
    if not told:
        raise ImproperlyConfigured(
            "--control: name a place that this host must reach, or set syslog_address; a host that reaches "
            "nothing would find nothing"
        )
    return _parse(told, "--control")


def _write(path: Path, found: Round, notary: Notary) -> None:
    told = {"format": _FORMAT, "round": found.told(), **notary.sign(found.payload())}
    try:
        write_file(path, json.dumps(told).encode() + b"\n", mode=0o644, replace=True)
    except OSError as error:
        raise ImproperlyConfigured(f"--result: {path}: {error.strerror or error}") from error


def _read(path: Path, notary: Notary) -> tuple[Round, str]:
    """What a canary has written, and its name; `SecurityError` unless somebody trusted has signed it."""
    try:
        return _judge(json.loads(files.load_guarded(path, max_bytes=_MAX_BYTES)), notary)
    except (CardoonError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SecurityError(f"--verify: {path} does not count: {error}") from error


def _judge(told: Mapping[str, Any], notary: Notary) -> tuple[Round, str]:
    if told["format"] != _FORMAT:
        raise ValueError("it is of another version")
    if "signature" not in told:
        raise ValueError("nobody has signed it")
    found = parse_round(told["round"])
    return found, notary.verify(found.payload(), told)


def _say(found: Round, *, signer: str = "") -> None:
    told = {**found.told(), "doubt": found.doubt, **({"signer": signer} if signer else {})}
    if wants_json():
        click.echo(json_of(told))
        return
    for line in _lines(found, signer):
        click.echo(printable(line))


def _lines(found: Round, signer: str) -> Iterator[str]:
    if signer:
        yield f"signed by {signer}, found on {found.host}"
    for one in found.exposed:
        yield f"EXPOSED {one.place}: {one.answer.value}"
    if found.doubt:
        yield f"unchecked: {found.doubt}"
    if found.verdict is Verdict.FILTERED:
        yield f"filtered: all {len(found.targets)}"


def _code(found: Round) -> Exit:
    match found.verdict:
        case Verdict.FILTERED:
            return Exit.OK
        case Verdict.EXPOSED:
            return Exit.CRITICAL
        case Verdict.UNCHECKED:
            return Exit.UNCHECKED
