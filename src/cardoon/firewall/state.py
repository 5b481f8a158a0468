"""What root has found of the firewall, in a file that workers read: they may not ask nft, and should not.

Who could change the rules could write this file, too, and nobody else can: it, and the folder that it is in, must be
root's, and writable by nobody else. What it says counts for a while only.
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

from cardoon.exceptions import CardoonError, ImproperlyConfigured, OperationalError
from cardoon.firewall.judging import Finding, Verdict
from cardoon.firewall.table import MAX_DIFFERENCES, Difference
from cardoon.security.keyholding import write_file

FORMAT = 1
MAX_BYTES = 65_536
LOOKS_MISSED = 3
"""After so many intervals without a new state it is stale."""
SHORTEST_LIFE = 15.0
"""Seconds that a state counts at least, however short the interval: a busy host is not a broken one."""
_MAX_INTERVAL = 86_400.0
_MAX_FUTURE = 5.0
"""Seconds by which a state may be from the future, by this host's own clock."""


def write_state(path: Path, finding: Finding, *, now: float, interval: float) -> None:
    """Replace the file by what was found, readable for everybody. Raises `ImproperlyConfigured`."""
    told = {
        "format": FORMAT,
        "time": now,
        "interval": interval,
        "verdict": finding.verdict.value,
        "digest": finding.digest,
        "expected": finding.expected,
        "differences": [list(one) for one in finding.differences],
        "reason": finding.reason,
    }
    try:
        write_file(path, json.dumps(told).encode(), mode=0o644, replace=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"firewall_state: {path} cannot be written: {error.strerror or error}"
        ) from error


def read_state(path: Path, *, now: float, owner: int = 0) -> Finding:
    """What was found last; `UNKNOWN` with the reason where the file is missing, stale or not to be believed."""
    try:
        return _read(path, now=now, owner=owner)
    except OSError as error:
        return _unknown(f"firewall_state: {path}: {error.strerror or error}")
    except CardoonError as error:
        return _unknown(f"firewall_state: {path}: {error}")
    except (ValueError, KeyError, TypeError, RecursionError):
        return _unknown(f"firewall_state: {path} is no state of `cardoon firewall watch`")


def _read(path: Path, *, now: float, owner: int) -> Finding:
    _check_owner(path.parent.stat(), "its folder", owner)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        held = os.fstat(descriptor)
        if not stat.S_ISREG(held.st_mode):
            raise OperationalError("is no file")
        _check_owner(held, "it", owner)
        told = json.loads(file.read(MAX_BYTES + 1)[:MAX_BYTES])
    if told["format"] != FORMAT:
        raise OperationalError("was written by another version")
    interval = min(max(float(told["interval"]), 0.0), _MAX_INTERVAL)
    age = now - float(told["time"])
    if not -_MAX_FUTURE <= age <= max(LOOKS_MISSED * interval, SHORTEST_LIFE):
        if math.isnan(age):
            raise ValueError("no time")
        raise OperationalError(f"is {age:.0f} seconds old; does `cardoon firewall watch` run?")
    differences = tuple(
        Difference(*(str(part) for part in one))
        for one in told["differences"][: MAX_DIFFERENCES + 1]
    )
    return Finding(
        Verdict(told["verdict"]),
        str(told["digest"]),
        str(told["expected"]),
        differences,
        str(told["reason"]),
    )


def _check_owner(held: os.stat_result, what: str, owner: int) -> None:
    if held.st_uid != owner or stat.S_IMODE(held.st_mode) & 0o022:
        raise OperationalError(f"{what} must be root's, and writable by nobody else")


def _unknown(reason: str) -> Finding:
    return Finding(Verdict.UNKNOWN, reason=reason)
