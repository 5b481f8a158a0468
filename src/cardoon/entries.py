"""Entries that are kept in a store: what is signed of them, and what a verified record says.

A record is a signed frame of kind BEAT whose id is the entry's name. The audience says what it is: an entry, or
that one is paused. In the headers stands when and how the task is sent, readable by whoever reads the record; the
body has the arguments, `[args, kwargs]`, and is sealed where task messages are.

What is signed includes the number of the record's revision, so that nobody can put an earlier record in the place
of a later one without changing what the store counts, which those notice who have seen the later one. An entry
that is removed leaves a record that says so.

Decides nothing about who may: that is the gate's and the policy's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cardoon.exceptions import CardoonError, EncodeError, Refusal, RefusedError, ScheduleError
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import MAX_ID, MAX_SECONDS, Kind
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.records import MAX_FRAME_BYTES
from cardoon.schedules import schedule, schedule_from_json, schedule_to_json
from cardoon.security.gate import VerifiedMessage
from cardoon.security.sealing import Seal
from cardoon.security.signing import Draft
from cardoon.timetable import PeriodicTask, parse_entry

RECORDS = "schedule"
"""The kind of these records in the store."""
ENTRY = "schedule/entry"
PAUSE = "schedule/pause"
"""Audiences: what a record is."""
ENTRY_PREFIX, PAUSE_PREFIX = "entry/", "pause/"
"""What stands before an entry's name in the name of a record."""
MAX_NAME_BYTES = MAX_ID
"""Of an entry's name."""
LEAST_SECONDS = 1.0
"""Between two ticks of an entry that is kept: somebody's right to add one is no right to flood."""
MAX_REVISION = 1 << 53
_ABOUT = ("catch_up", "overlap")
_NOT_KEPT: Mapping[str, str] = {
    "task_id": "each tick has an id of its own",
    "eta": "the schedule says when; use countdown for a time after that",
    "link": "what runs afterwards would be sent in your name unseen; make a task that sends it",
    "link_error": "what runs afterwards would be sent in your name unseen; make a task that sends it",
    "root_id": "a tick belongs to no other task",
    "parent_id": "a tick belongs to no other task",
    "retries": "a tick is a first attempt",
    "timeout": "it is the beat that sends",
}
"""Options of `apply_async` that an entry which is kept cannot have, each with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Who said so, and when."""

    signer: str
    made_at: int
    """Seconds since the epoch, like `valid_until`."""
    valid_until: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """An entry as its verified record has it."""

    name: str
    task: str
    entry: PeriodicTask | None
    """None for one that was removed."""
    signed: Signed
    sealed: bool = False
    """Whether its arguments cannot be read by others than those whom they are sealed to."""
    unreadable: str = ""
    """Why its arguments are not here, though there are some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Whether an entry is paused, as its verified record says."""

    name: str
    task: str
    """Of the entry that was paused: another one of this name is not."""
    paused: bool
    signed: Signed


def check_name(name: str) -> str:
    """The name, if an entry that is kept can have it; `ScheduleError` otherwise."""
    is_plain = name.isprintable() and name.strip() == name
    if is_plain and 0 < len(name.encode()) <= MAX_NAME_BYTES:
        return name
    raise ScheduleError(
        f"schedule {name[:80]!r}: a name is 1 to {MAX_NAME_BYTES} bytes of printable text that neither "
        "begins nor ends with a space; choose another"
    )


def check_kept(name: str, entry: PeriodicTask) -> None:
    """`ScheduleError` for what a beat sends from the settings, but not from a record that anybody may add."""
    for option, reason in _NOT_KEPT.items():
        if option in entry.options:
            raise ScheduleError(f"schedule {name!r}: no option {option!r} here: {reason}")
    due = entry.schedule
    if isinstance(due, schedule) and due.seconds < LEAST_SECONDS:
        raise ScheduleError(
            f"schedule {name!r}: every {due.seconds:g} seconds is too often for an entry that is kept; "
            f"{LEAST_SECONDS:g} is the least, or put it into beat_schedule"
        )


def entry_draft(name: str, entry: PeriodicTask, *, revision: int, seal: Seal | None) -> Draft:
    """What is signed of an entry. `ScheduleError` for one that cannot be kept, `EncodeError` for its arguments."""
    check_kept(name, entry)
    told: dict[str, Any] = {
        "due": schedule_to_json(entry.schedule),
        "options": _plain_options(name, entry.options),
        "tz": entry.tz,
        **{key: getattr(entry, key) for key in _ABOUT},
    }
    schedule_from_json(told["due"])  # so that what cannot be read again is never written
    body = encode_body([list(entry.args), dict(entry.kwargs)], JSON)
    draft = _draft(ENTRY, name, entry.task, revision, told)._replace(body=body, seal=seal)
    if len(body) + len(draft.headers) > MAX_FRAME_BYTES * 3 // 4:
        raise EncodeError(
            f"schedule {name!r}: {len(body)} bytes of arguments and {len(draft.headers)} of options are more "
            f"than a record may have, {MAX_FRAME_BYTES} bytes with its signature; keep them elsewhere and "
            "give the task their name"
        )
    return draft


def removal_draft(name: str, task: str, *, revision: int) -> Draft:
    """What is signed of an entry that is removed."""
    return _draft(ENTRY, name, task, revision, {"removed": True})


def pause_draft(name: str, task: str, *, paused: bool, revision: int) -> Draft:
    """What is signed of a pause, or of its end."""
    return _draft(PAUSE, name, task, revision, {"paused": paused})


def read_entry(message: VerifiedMessage, *, revision: int) -> KeptEntry:
    """What a verified record says of an entry, but for its arguments; `RefusedError` if it makes no sense."""
    told, signed = _read_headers(message, revision)
    claims = message.claims
    kept = KeptEntry(
        name=claims.id,
        task=claims.task,
        entry=None,
        signed=signed,
        sealed=claims.encryption is not None,
    )
    match told:
        case {"removed": True, **more} if not more:
            return kept
        case {"due": dict(due), "options": dict(options), **more} if more.keys() == {"tz", *_ABOUT}:
            pass
        case _:
            raise RefusedError(Refusal.BAD_CLAIMS, "it does not say when and how, and no more")
    try:
        wanted = {"task": claims.task, "schedule": schedule_from_json(due), "options": options}
        entry = parse_entry(claims.id, {**wanted, **more})
        check_kept(claims.id, entry)
    except (CardoonError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise RefusedError(Refusal.BAD_CLAIMS, str(error)) from error
    return replace(kept, entry=entry)


def with_arguments(kept: KeptEntry, message: VerifiedMessage) -> KeptEntry:
    """The same with the arguments from its body, which is in the clear by now; `RefusedError` if it is bad."""
    assert kept.entry is not None
    found = decode_body(message.claims.codec, message.body, max_bytes=MAX_FRAME_BYTES)
    match found:
        case [list(args), dict(kwargs)]:
            return replace(kept, entry=replace(kept.entry, args=tuple(args), kwargs=kwargs))
        case _:
            raise RefusedError(Refusal.UNDECODABLE, "its body is not arguments")


def read_pause(message: VerifiedMessage, *, revision: int) -> Pause:
    """What a verified record says of a pause; `RefusedError` if it makes no sense."""
    told, signed = _read_headers(message, revision)
    match told:
        case {"paused": bool(paused), **more} if not more:
            return Pause(
                name=message.claims.id, task=message.claims.task, paused=paused, signed=signed
            )
        case _:
            raise RefusedError(Refusal.BAD_CLAIMS, "it does not say whether, and no more")


def _draft(what: str, name: str, task: str, revision: int, told: Mapping[str, Any]) -> Draft:
    headers = json.dumps({"revision": revision, **told}, separators=(",", ":"), allow_nan=False)
    return Draft(
        kind=Kind.BEAT,
        task=task,
        id=name,
        audience=(what,),
        codec=JSON,
        body=encode_body(None, JSON),
        headers=headers.encode(),
        lifetime=MAX_SECONDS,  # as long as the certificate of who signs it
    )


def _read_headers(message: VerifiedMessage, revision: int) -> tuple[dict[str, Any], Signed]:
    """What stands in the headers, with the revision taken out and compared."""
    told = parse_headers(message.claims.headers)
    said = told.pop("revision", None)
    if said != revision or isinstance(said, bool):
        raise RefusedError(
            Refusal.REPLAYED, f"signed as revision {said!r}, and stored as {revision}"
        )
    claims = message.claims
    assert message.signer is not None
    return told, Signed(
        signer=message.signer.name,
        made_at=claims.issued_at,
        valid_until=claims.valid_until,
        revision=revision,
    )


def _plain_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON; `ScheduleError` names the one that is none."""
    for key, value in options.items():
        try:
            again = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            again = None
        if again != value and again != _listed(value):
            raise ScheduleError(
                f"schedule {name!r}: {key}={value!r} cannot be kept, since it is not plain JSON; leave it out, "
                "or put the entry into beat_schedule"
            )
    return dict(options)


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
