"""Formats of events for those who collect them: ECS, OCSF and CEF, as the text of a message of RFC 5424.

What an attacker may have written is a value, and never a name, a class or a part of a header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cardoon.syslog.catalogue import (
    ATTACK_VERSION,
    DETECTION,
    ECS_VERSION,
    OCSF_VERSION,
    Event,
    find_event,
)
from cardoon.syslog.messages import Entry, Origin, Severity, Writer, write_plain
from cardoon.syslog.texts import escape

_MAX_FIELD = 600
"""Characters of a field, as in structured data."""
_VENDOR = "Cardoon"


def writer_of(name: str) -> Writer:
    """The format that `syslog_format` names."""
    return {"rfc5424": write_plain, "ecs": write_ecs, "ocsf": write_ocsf, "cef": write_cef}[name]


def write_ecs(entry: Entry, origin: Origin) -> tuple[Mapping[str, object], str]:
    """The Elastic Common Schema, as JSON."""
    told: dict[str, Any] = {
        "@timestamp": _moment(entry.moment),
        "ecs": {"version": ECS_VERSION},
        "message": _bounded(entry.text),
        "host": {"hostname": origin.host},
        "process": {"pid": origin.pid, "name": origin.app},
        "log": {"level": entry.severity.name.lower()},
        "service": {"type": "cardoon"},
        "cardoon": _fields(entry),
    }
    event: dict[str, Any] = {"dataset": "cardoon", "action": entry.event}
    if entry.repeats is not None:
        event |= {"start": _moment(entry.repeats.first), "end": _moment(entry.repeats.last)}
        told["cardoon"] |= {"repeats": entry.repeats.times}  # the schema has no field for it
    if entry.is_security:
        kind = find_event(entry.event)
        event |= {
            "kind": "alert" if kind.is_alarm else "event",
            "category": list(kind.category),
            "type": list(kind.type),
            "outcome": kind.outcome,
            "severity": kind.cef_severity,
        }
        if kind.attack:
            told["threat"] = {
                "framework": f"MITRE ATT&CK v{ATTACK_VERSION}",
                "technique": {"id": list(kind.attack)},
            }
    return {"event": entry.event}, _json({**told, "event": event})


def write_ocsf(entry: Entry, origin: Origin) -> tuple[Mapping[str, object], str]:
    """The Open Cybersecurity Schema Framework, as JSON. What is logged is an `Application Lifecycle` of its own kind."""
    kind = find_event(entry.event)
    uid = DETECTION if kind.is_alarm else kind.ocsf_class
    activity = 1 if kind.is_alarm else kind.ocsf_activity
    if not entry.is_security:
        uid, activity = 6002, 99
    told: dict[str, Any] = {
        "class_uid": uid,
        "category_uid": uid // 1000,
        "activity_id": activity,
        "type_uid": uid * 100 + activity,
        "severity_id": kind.ocsf_severity if entry.is_security else _ocsf_severity(entry),
        "time": _milliseconds(entry.moment),
        "message": _bounded(entry.text),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": _VENDOR, "vendor_name": _VENDOR},
            "event_code": entry.event,
            "log_name": origin.stream,
        },
        "device": {"hostname": origin.host, "type_id": 0},
        "unmapped": _fields(entry),
    }
    if entry.repeats is not None:
        times, first, last = entry.repeats
        told |= {
            "count": times,
            "start_time": _milliseconds(first),
            "end_time": _milliseconds(last),
        }
    if entry.is_security and kind.is_alarm:
        told |= _finding(entry, kind)
    return {"event": entry.event}, _json(told)


def write_cef(entry: Entry, origin: Origin) -> tuple[Mapping[str, object], str]:
    """The Common Event Format. Its header has only what stands in the catalogue."""
    kind = find_event(entry.event)
    severity, title = kind.cef_severity, kind.title
    if not entry.is_security:
        severity, title = 7 - min(entry.severity, 7), "log"
    head = "|".join(
        _in_header(one) for one in (_VENDOR, "cardoon", "1", entry.event, title, str(severity))
    )
    pairs = {
        "rt": str(_milliseconds(entry.moment)),
        "dvchost": origin.host,
        "dvcpid": str(origin.pid),
        "msg": entry.text,
        **_cef_repeats(entry),
        **{f"cardoon{_camel(name)}": str(told) for name, told in entry.fields.items()},
    }
    body = " ".join(f"{name}={_in_extension(told)}" for name, told in pairs.items())
    return {"event": entry.event}, f"CEF:0|{head}|{body}"


def _finding(entry: Entry, kind: Event) -> dict[str, Any]:
    finding: dict[str, Any] = {
        "finding_info": {"uid": entry.event, "title": kind.title, "types": list(kind.weaknesses)},
        "status_id": 1,
    }
    if kind.attack:
        finding["attacks"] = [
            {"version": ATTACK_VERSION, "technique": {"uid": one}} for one in kind.attack
        ]
    return finding


def _ocsf_severity(entry: Entry) -> int:
    if entry.severity <= Severity.CRITICAL:
        return 4
    return {Severity.ERROR: 3, Severity.WARNING: 2}.get(entry.severity, 1)


def _fields(entry: Entry) -> dict[str, Any]:
    return {
        name: told if isinstance(told, (bool, int, float)) else _bounded(str(told))
        for name, told in entry.fields.items()
    }


def _bounded(text: str) -> str:
    return text if len(text) <= _MAX_FIELD else f"{text[:_MAX_FIELD]}...[cut]"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _cef_repeats(entry: Entry) -> Mapping[str, str]:
    if entry.repeats is None:
        return {}
    times, first, last = entry.repeats
    return {"cnt": str(times), "start": str(_milliseconds(first)), "end": str(_milliseconds(last))}


def _json(told: Mapping[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=True, separators=(",", ":"), default=str)


def _in_header(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _in_extension(text: str) -> str:
    return escape(_bounded(text)).replace("\\", "\\\\").replace("=", "\\=")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_") if part.isalnum())
