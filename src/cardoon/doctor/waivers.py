"""Waivers: findings that somebody has taken upon himself, with a reason and until a date.

They lie in the state directory, signed by the deployment's identity where it has one: whoever can write the file
cannot hide what he has opened.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cardoon.clock import Clock
from cardoon.deployment import Deployment
from cardoon.doctor.catalogue import require
from cardoon.doctor.check import State, Verdict
from cardoon.doctor.notary import Notary
from cardoon.exceptions import CardoonError, ImproperlyConfigured
from cardoon.security import files
from cardoon.security.keyholding import write_file

FILE = "waivers.json"
LONGEST = 366
"""Days."""
MAX_REASON = 300
"""Characters."""
_MOST = 200
_MAX_BYTES = 1 << 20
_DAY = 86_400.0
_ABOUT_WAIVERS = "CFG-07"
_PURPOSE = b"\x00doctor-waiver"


class Waiver(NamedTuple):
    """One finding that is not to be told of."""

    id: str
    until: str
    """The last day, as in ISO 8601, in UTC."""
    reason: str
    by: str
    at: int
    """When it was given, in seconds since the epoch."""

    def is_over(self, now: float) -> bool:
        """Whether its last day has gone by."""
        return now >= _end_of(self.until)

    def payload(self) -> bytes:
        """What is signed."""
        return json.dumps(list(self), ensure_ascii=True, separators=(",", ":")).encode()


class Book:
    """The waivers of one deployment."""

    def __init__(self, deployment: Deployment, *, clock: Clock) -> None:
        self._deployment = deployment
        self._clock = clock
        self._notary = Notary(deployment, purpose=_PURPOSE)
        self.path = deployment.state_directory / FILE
        self.complaints: list[str] = []
        """What of the file counts for nothing, and why; of the last `read`."""

    def read(self) -> Mapping[str, Waiver]:
        """Those that hold now, by the id of the check."""
        self.complaints = []
        found: dict[str, Waiver] = {}
        for entry in self._entries():
            try:
                waiver = _parse(entry)
                self._verify(waiver, entry)
            except (CardoonError, ValueError, TypeError, KeyError) as error:
                self.complaints.append(f"a waiver of {_shown(entry)} does not count: {error}")
                continue
            if not waiver.is_over(self._clock.now()):
                found[waiver.id] = waiver
        return found

    def add(self, id: str, *, until: str, reason: str) -> Waiver:
        """Write one down, in place of an earlier one of the same check.

        Raises `ImproperlyConfigured` for a check, a date or a reason that will not do, and what signing raises.
        """
        require(id)
        if id == _ABOUT_WAIVERS:
            raise ImproperlyConfigured(f"--skip: {id} tells of waivers, and cannot be waived")
        if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
            raise ImproperlyConfigured(
                f"--reason: say why, in up to {MAX_REASON} printable characters"
            )
        now = self._clock.now()
        days = (_end_of(until) - now) / _DAY
        if not 0 < days <= LONGEST + 1:
            raise ImproperlyConfigured(f"--until: {until} is not within the next {LONGEST} days")
        waiver = Waiver(id, until, reason.strip(), _who(), int(now))
        kept = [one for one in self._entries() if one.get("id") != id and not _is_old(one, now)]
        self._write([*kept, {**waiver._asdict(), **self._notary.sign(waiver.payload())}])
        self._deployment.audit().record("doctor.waived", id=id, until=until, reason=reason)
        return waiver

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        if len(entries) > _MOST:
            raise ImproperlyConfigured(f"{self.path}: {_MOST} waivers are enough; mend some")
        content = json.dumps({"version": 1, "waivers": entries}, indent=1).encode() + b"\n"
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self.path, content, mode=0o644, replace=True)

    def _entries(self) -> list[Mapping[str, Any]]:
        if not self.path.exists():
            return []
        try:
            told = json.loads(files.load_guarded(self.path, max_bytes=_MAX_BYTES))
            entries = told["waivers"][:_MOST]
        except (CardoonError, ValueError, TypeError, KeyError, RecursionError) as error:
            self.complaints.append(f"{self.path}: {error}")
            return []
        return [one for one in entries if isinstance(one, Mapping)]

    def _verify(self, waiver: Waiver, entry: Mapping[str, Any]) -> None:
        """Raise unless it is signed by somebody who is trusted, or nobody could have signed it here."""
        if "signature" in entry:
            self._notary.verify(waiver.payload(), entry)
        elif self._notary.has_identity:
            raise ValueError("nobody has signed it")


def waive(verdicts: Sequence[Verdict], waivers: Mapping[str, Waiver]) -> list[Verdict]:
    """The verdicts, with those marked that somebody has taken upon himself."""
    return [
        one._replace(state=State.WAIVED, evidence=(*one.evidence, _told(waivers[one.check.id])))
        if one.check.id in waivers and one.state in {State.FINDING, State.UNCHECKED}
        else one
        for one in verdicts
    ]


def _told(waiver: Waiver) -> str:
    return f"waived until {waiver.until} by {waiver.by}: {waiver.reason}"


def _parse(entry: Mapping[str, Any]) -> Waiver:
    name, until, reason, by, at = (entry[field] for field in Waiver._fields)
    for one in (name, until, reason, by):
        if not isinstance(one, str) or len(one) > 2 * MAX_REASON:
            raise ValueError("its fields are not short texts")
    if not isinstance(at, int):
        raise ValueError("it does not say when it was given")  # noqa: TRY004  # as for the other fields
    require(name)
    _end_of(until)
    return Waiver(name, until, reason, by, at)


def _end_of(day: str) -> float:
    """The end of a day, in seconds since the epoch; `ImproperlyConfigured` for what is none."""
    try:
        start = dt.datetime.combine(dt.date.fromisoformat(day), dt.time(), dt.UTC)
        return start.timestamp() + _DAY
    except (ValueError, OverflowError) as error:
        raise ImproperlyConfigured(f"--until: {day!r} is no date such as 2027-03-31") from error


def _is_old(entry: Mapping[str, Any], now: float) -> bool:
    try:
        return _parse(entry).is_over(now)
    except (CardoonError, ValueError, TypeError, KeyError):
        return True


def _shown(entry: Mapping[str, Any]) -> str:
    return str(entry.get("id"))[:20]


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.geteuid()}"
