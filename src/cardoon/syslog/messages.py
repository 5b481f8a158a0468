"""Messages as RFC 5424 has them: header, structured data, text; bounded in bytes, and one line each."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from cardoon.syslog.texts import as_name, as_word, cut, escape, quote

MAX_BYTES = 8000
"""Of a message over a stream or a local socket; rsyslog takes 8 KiB unless told."""
MAX_DATAGRAM_BYTES = 2000
"""Of a message over UDP: what every receiver should take is 2048 bytes (RFC 5426, 3.2)."""
MAX_VALUE_BYTES = 600
"""Of one parameter of structured data."""
MAX_FIELDS = 40
"""Parameters of one message; no event has as many."""
EXAMPLE_ENTERPRISE = 32473
"""Kept for examples (RFC 5612); who has a number of his own sets `syslog_enterprise_number`."""
BOM = b"\xef\xbb\xbf"


class Severity(enum.IntEnum):
    """How bad it is; RFC 5424, table 2."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


class Repeats(NamedTuple):
    """How often something happened that one message stands for, and from when to when."""

    times: int
    """At least 2. The message that was sent when it began is not among them."""
    first: float
    last: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened, before it is put into a format."""

    event: str
    """A stable name, such as `message.replay`; `log` for records of loggers."""
    severity: Severity
    facility: int
    moment: float
    """Seconds since the epoch."""
    text: str
    fields: Mapping[str, object] = field(default_factory=dict)
    is_security: bool = False
    """Whether it is kept when other messages have to go."""
    repeats: Repeats | None = None
    """For one that stands for several; its fields are those of the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who tells, and as which run of itself."""

    host: str
    pid: int
    stream: str
    """An id that no other run has. With `seq`, it says which messages are missing or came twice."""
    app: str = "cardoon"
    enterprise: int = EXAMPLE_ENTERPRISE


class Frame(NamedTuple):
    """A message that is ready to be sent."""

    number: int
    """Its `seq` in the stream."""
    is_security: bool
    octets: bytes


class Writer(Protocol):
    """A format: turns an entry into structured data and text."""

    def __call__(self, entry: Entry, origin: Origin) -> tuple[Mapping[str, object], str]:
        """The parameters of the message's structured data, and its text."""
        ...


def write_plain(entry: Entry, origin: Origin) -> tuple[Mapping[str, object], str]:  # noqa: ARG001  # a Writer
    """Every field as a parameter, and a text for people."""
    return {"event": entry.event, **entry.fields}, entry.text


def pack(
    entry: Entry,
    origin: Origin,
    number: int,
    *,
    write: Writer = write_plain,
    most: int = MAX_BYTES,
) -> bytes:
    """One message in at most so many bytes, without framing (RFC 5424, 6). Raises nothing for any text.

    Half of the bytes are for structured data, of which whole parameters are left out and counted in
    `omitted`; the text has what is left, and is cut.
    """
    parameters, text = write(entry, origin)
    head = _head(entry, origin)
    stream = f'[stream@{origin.enterprise} id="{as_word(origin.stream, 64)}" seq="{number}"]'
    elements = _element(parameters, origin.enterprise, most // 2)
    elements += _repeats(entry.repeats, origin.enterprise) + stream
    start = f"{head} {elements} ".encode()
    shown = cut(escape(text[: most + 1]), most - len(start) - len(BOM))
    octets = shown.encode()
    return start + (octets if shown.isascii() else BOM + octets)


def _head(entry: Entry, origin: Origin) -> str:
    moment = _moment(entry.moment)
    priority = entry.facility * 8 + entry.severity
    host, app = as_word(origin.host, 255), as_word(origin.app, 48)
    return f"<{priority}>1 {moment} {host} {app} {origin.pid} {as_word(entry.event, 32)}"


def _element(parameters: Mapping[str, object], enterprise: int, most: int) -> str:
    """All parameters that fit, as one element; nothing where there are none."""
    if not parameters:
        return ""
    parts, used, omitted = [f"[cardoon@{enterprise}"], 0, 0
    for name, value in parameters.items():
        # Quoted last, so that no cut parts a backslash from what it stands before.
        shown = quote(cut(escape(str(value)[: MAX_VALUE_BYTES + 1]), MAX_VALUE_BYTES))
        part = f'{as_name(name)}="{shown}"'
        size = len(part.encode()) + 1
        if used + size > most or len(parts) > MAX_FIELDS:
            omitted += 1
            continue
        parts.append(part)
        used += size
    if omitted:
        parts.append(f'omitted="{omitted}"')
    return " ".join(parts) + "]"


def _repeats(repeats: Repeats | None, enterprise: int) -> str:
    """In an element of its own, as fields of an event may have the same names."""
    if repeats is None:
        return ""
    first, last = _moment(repeats.first), _moment(repeats.last)
    return f'[repeats@{enterprise} times="{repeats.times}" first="{first}" last="{last}"]'


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
