"""Frames: many events under one signature, and how they are read again.

A frame is a message of kind EVENT. Its body is a list of events; its headers say which process of which
node sent it, as which of its frames, and how many events that process has dropped so far. The numbers of
one process rise by one, so a frame that somebody took away is missed, and one that comes twice is a copy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cardoon.contents import JSON
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import MAX_COUNT, MAX_ID, Kind
from cardoon.message.serializers import decode_body
from cardoon.security.gate import Gate
from cardoon.security.signing import Draft

CHANNEL = "events"
KEEP = 10_000
"""Frames that the channel keeps."""
LIFETIME = 60.0
"""Seconds for which a frame is worth reading, and is valid."""
MAX_FRAME_EVENTS = 500
MAX_BODY = 160 * 1024
"""Bytes of a frame's events; a posted frame may have 256 KiB, and an envelope up to 64 of them."""
MAX_EVENT = 16 * 1024
"""Bytes of one event."""
MAX_FIELDS = 64
MAX_TYPE = 64
"""Characters of a type."""
MAX_NODE = 320
"""Characters of a node's name; as the names in an audience."""
_BOOT_DIGITS = 32
_MAX_ITEMS = 64
"""Of a list in a field. `loadavg` has three."""


class Head(NamedTuple):
    """Who sent a frame, and as which one."""

    node: str
    boot: str
    """Of one process: 16 random bytes in hexadecimal digits."""
    sequence: int
    """From 1."""
    dropped: int = 0
    """Events that did not find room, since the process began."""


class EventFrame(NamedTuple):
    """A frame that the gate has opened."""

    head: Head
    signer: str
    """The name of who signed it; empty where nobody did and that is accepted."""
    key: bytes
    """The signer's fingerprint."""
    issued_at: int
    expires_at: float
    """From when on the gate refuses it."""
    events: Sequence[dict[str, Any]]


def event_draft(head: Head, body: bytes, *, id: str) -> Draft:
    """What is signed of a frame. No task is named: a frame tells of many."""
    told = {
        "node": head.node,
        "boot": head.boot,
        "sequence": head.sequence,
        "dropped": head.dropped,
    }
    return Draft(
        kind=Kind.EVENT,
        task="",
        id=id,
        audience=(),
        codec=JSON,
        body=body,
        headers=json.dumps(told, separators=(",", ":")).encode(),
        lifetime=LIFETIME,
    )


def open_frame(gate: Gate, frame: bytes) -> EventFrame:
    """Verify a frame and read it; `RefusedError` for anything else than a whole one."""
    message = gate.open(frame, kind=Kind.EVENT)
    claims = message.claims
    head = _parse_head(parse_headers(claims.headers))
    content = decode_body(claims.codec, message.body, max_bytes=MAX_BODY)
    if not isinstance(content, list) or not 0 < len(content) <= MAX_FRAME_EVENTS:
        raise RefusedError(Refusal.UNDECODABLE, f"not 1 to {MAX_FRAME_EVENTS} events")
    signer = message.signer
    return EventFrame(
        head,
        "" if signer is None else signer.name,
        b"" if signer is None else signer.fingerprint,
        claims.issued_at,
        claims.valid_until + gate.skew,
        [_parse_event(one) for one in content],
    )


def _parse_head(told: Mapping[str, Any]) -> Head:
    match told:
        case {
            "node": str(node),
            "boot": str(boot),
            "sequence": int(sequence),
            "dropped": int(dropped),
        } if (
            0 < len(node) <= MAX_NODE
            and node.isprintable()
            and len(boot) == _BOOT_DIGITS
            and set(boot) <= set("0123456789abcdef")
            and not isinstance(sequence, bool)
            and not isinstance(dropped, bool)
            and 0 < sequence <= MAX_COUNT
            and 0 <= dropped <= MAX_COUNT
        ):
            return Head(node, boot, sequence, dropped)
        case _:
            raise RefusedError(Refusal.BAD_CLAIMS, "label 20 does not say whose events these are")


def _parse_event(found: object) -> dict[str, Any]:
    """An event within its bounds: plain values, and of what everybody reads the right ones."""
    if not isinstance(found, dict) or len(found) > MAX_FIELDS or not is_type(found.get("type")):
        raise _unfit(f"no event of a type and at most {MAX_FIELDS} fields")
    for name, value in found.items():
        if not _is_plain(value):
            raise _unfit(f"an event whose {name[:64]!r} is no plain value")
    if not _is_time(found.get("timestamp")):
        raise _unfit("an event without a time")
    if found["type"].startswith("task-") and not _is_id(found.get("uuid")):
        raise _unfit("an event of a task without its id")
    for names, kind, fits in _FIELDS:
        unfit = [name for name in names if found.get(name) is not None and not fits(found[name])]
        if unfit:
            raise _unfit(f"an event whose {unfit[0]} is no {kind}")
    return found


def _unfit(detail: str) -> RefusedError:
    return RefusedError(Refusal.UNDECODABLE, detail)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return _is_number(value) and value >= 0  # type: ignore[operator]  # it is a number


def _is_load(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def is_type(found: object) -> bool:
    """Whether something can be the type of an event: `group-name`, in printable characters."""
    return isinstance(found, str) and 0 < len(found) <= MAX_TYPE and found.isprintable()


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= _MAX_ITEMS and all(map(_is_scalar, value))
    return _is_scalar(value)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, (str, bool)) or _is_number(value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and abs(value) <= 1 << 63


def _is_time(value: object) -> bool:
    return _is_number(value) and 0 <= value < 1e11  # type: ignore[operator]  # it is a number


_NUMBERS = ("retries", "freq", "active", "processed", "clock", "pid", "count", "runtime")
_INTEGRITY_NUMBERS = ("baseline_serial", "integrity_checked_at", "integrity_findings")
_INTEGRITY_TEXTS = ("baseline_digest", "integrity_result")
_TEXTS = ("name", "queue", "root_id", "parent_id", "sw_ident", "sw_ver", "sw_sys", "rule", "reason")
_FIELDS = (
    (_NUMBERS + _INTEGRITY_NUMBERS, "number", _is_count),
    (_TEXTS + _INTEGRITY_TEXTS, "text", _is_text),
    (("loadavg",), "load", _is_load),
)
