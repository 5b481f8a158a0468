"""Checks of the audit trail and of logs: whether an intruder could change them, and what they give away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import OTHERS_ANY, OTHERS_WRITE, NotApplicableError, Scene
from cardoon.syslog_target import parse_target
from cardoon.transparency.verifying import Flaw

_LEAST_FREE = 0.05
_EXPECTED = frozenset({Flaw.TORN, Flaw.UNSEALED, Flaw.UNCERTIFIED})
"""A process was killed; no worker has run yet, or has no identity: not an intruder's doing."""


def _audit_log(scene: Scene) -> Path:
    told = scene.settings.security_audit_log
    return Path(told).expanduser() if told else scene.state_directory / "audit.jsonl"


@check(
    "LOG-04",
    Severity.HIGH,
    "owner and mode of the audit trail",
    looks_at="security_audit_log and its folder",
    remedy="chmod 600 FILE; chmod 700 FOLDER",
)
def audit_file(scene: Scene) -> Iterator[str]:
    """What others can write proves nothing."""
    path = _audit_log(scene)
    if wrong := scene.open_to_others(path, OTHERS_ANY):
        yield wrong
    if wrong := scene.open_to_others(path.parent, OTHERS_WRITE):
        yield wrong


@check(
    "LOG-05",
    Severity.MEDIUM,
    "arguments that are stored in clear",
    looks_at="result_extended, security_encrypt",
    remedy='result_extended = False, or security_encrypt = "body"',
)
def clear_arguments(scene: Scene) -> Iterator[str]:
    """Results then tell what tasks were called with, for as long as they are kept."""
    if scene.settings.result_extended and scene.settings.security_encrypt == "off":
        yield "result_extended is on, and nothing is sealed"


@check(
    "LOG-06",
    Severity.MEDIUM,
    "room for the audit trail",
    looks_at="the file system of security_audit_log",
    remedy="make room, or move security_audit_log to a file system of its own",
)
def room(scene: Scene) -> Iterator[str]:
    """Records that cannot be written are lost."""
    path = _audit_log(scene)
    folder = next((one for one in path.parents if one.is_dir()), None)
    if folder is None:
        raise NotApplicableError(f"{path} has no folder yet")
    free, total = scene.free(folder)
    if total and free / total < _LEAST_FREE:
        yield f"{folder} has {free >> 20} MiB of {total >> 20} MiB left"


@check(
    "LOG-07",
    Severity.MEDIUM,
    "a place for the audit trail that tasks do not reach",
    looks_at="security_audit_log, state_directory",
    remedy="security_audit_log in a folder that only the worker's own process enters (docs/sandbox.md)",
    deploy=True,
)
def audit_place(scene: Scene) -> Iterator[str]:
    """Tasks that run as the same user, unconfined, can change the file."""
    if scene.settings.worker_pool != "isolated":
        yield f"tasks run unconfined, as the user who writes {_audit_log(scene)}"


@check(
    "LOG-01",
    Severity.CRITICAL,
    "records on another host",
    looks_at="syslog_address",
    remedy="syslog_address = tls://HOST:6514 (docs/syslog.md)",
    deploy=True,
)
def elsewhere(scene: Scene) -> Iterator[str]:
    """Who breaks into a host deletes its logs first."""
    if not scene.settings.syslog_address:
        yield "syslog_address is not set: the audit trail is on this host alone"


@check(
    "LOG-02",
    Severity.HIGH,
    "encryption on the way to syslog",
    looks_at="unsafe_allow_plaintext_syslog",
    remedy="syslog_address = tls://HOST:6514; unsafe_allow_plaintext_syslog = False",
)
def clear_records(scene: Scene) -> Iterator[str]:
    """Who is on the way reads records, and makes some of his own."""
    if scene.settings.unsafe_allow_plaintext_syslog:
        yield "unsafe_allow_plaintext_syslog is on"


@check(
    "LOG-03",
    Severity.HIGH,
    "the chain of the audit trail",
    looks_at="each line, and the checkpoints beside it",
    remedy="find out who did it: `cardoon audit verify` names the records",
)
def chain(scene: Scene) -> Iterator[str]:
    """A record that was changed or cut off is what an intruder leaves."""
    for flaw, detail, seq in scene.chain(_audit_log(scene)):
        if flaw not in _EXPECTED:
            yield (
                f"{flaw.value}: {detail}"
                if seq is None
                else f"record {seq}: {flaw.value}: {detail}"
            )


@check(
    "LOG-08",
    Severity.HIGH,
    "the way to the syslog servers",
    looks_at="a connection to each of syslog_address",
    remedy="start the server, or name another in syslog_address; `cardoon syslog test` tells more",
    deploy=True,
)
def reachable(scene: Scene) -> Iterator[str]:
    """What no server takes stays on this host, and is lost when the queue is full."""
    targets = [parse_target(one) for one in scene.settings.syslog_address]
    lines = [one for one in targets if not one.is_datagram]
    if not lines:
        raise NotApplicableError("no syslog server that answers is set")
    with ThreadPoolExecutor(len(lines), thread_name_prefix="doctor-syslog") as pool:
        answered = list(pool.map(lambda one: scene.connects(one.host, one.port), lines))
    for one, is_there in zip(lines, answered, strict=True):
        if not is_there:
            yield f"{one} takes no connection"


CHECKS = (
    elsewhere,
    clear_records,
    chain,
    reachable,
    audit_file,
    clear_arguments,
    room,
    audit_place,
)
