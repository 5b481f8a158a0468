"""From a message of Celery's to a call of ours, or to the reason why not.

The checks stand in `Reader.read`, numbered and in order. Nothing is decompressed, decoded or believed
before its turn, and any bytes at all end in an `Asked` or in `RefusedError`.

    (1) bounds
    (2) content type, compression
    (3) signature, where the fence asks for one
    (4) the task's name, and the fence
    (5) the body, decoded as JSON and nothing else
    (6) what else it asks for
"""

from __future__ import annotations

import base64
import decimal
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple, Never

from cardoon.contents import COMPRESSIONS, JSON
from cardoon.contrib.celery.fence import Fence
from cardoon.contrib.celery.signed import CONTENT_TYPE, AuthReader
from cardoon.contrib.celery.source import Received
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.compression import decompress
from cardoon.message.protocol import MAX_HEADERS, MAX_ID, MAX_NAME, SESSION_BYTES

HEADER = "celery"
"""The header that says where a task came from; nobody else's word for it gets past the bridge."""
AUTH_OVERHEAD = 3
"""How many times as large as its JSON an `auth` message may be: base64, a signature, a name."""

_CANVAS = ("callbacks", "errbacks", "chain", "chord")
_KNOWN = frozenset(
    {
        *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries"),
        *("timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin"),
        *("ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "compression"),
        *("redelivered", "delivery_info", "meth", "expected_protocol", "chord", "chain"),
        *("callbacks", "errbacks"),
    }
)
"""Headers that are Celery's own; any other is the sender's, and travels on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call that somebody asks for and the fence lets pass."""

    task: str
    id: str
    queue: str
    """Ours."""
    args: list[Any]
    kwargs: dict[str, Any]
    options: Mapping[str, Any]
    """As `apply_async` takes them."""
    session: bytes
    """What makes its copies known: see `signing.Draft.session`."""
    reply_to: str
    correlation_id: str
    wants_result: bool


class _Message(NamedTuple):
    """What a message says, from its headers (protocol 2) or its body (protocol 1)."""

    said: Mapping[str, Any]
    args: Any
    kwargs: Any
    embed: Mapping[str, Any]
    user_headers: Mapping[str, Any]
    is_utc: bool


class Reader:
    """Reads messages within a fence; decodes at most `max_bytes` of each."""

    def __init__(self, fence: Fence, *, max_bytes: int, ranks_priorities: bool = True) -> None:
        self._fence = fence
        self._max_bytes = max_bytes
        self._ranks = ranks_priorities
        self._auth = (
            AuthReader(fence.certificates, digest=fence.digest) if fence.certificates else None
        )

    @property
    def signers(self) -> tuple[str, ...]:
        """The certificates that are trusted; none where plain JSON passes."""
        return () if self._auth is None else self._auth.signers

    def read(self, received: Received) -> Asked:
        """The call that a message asks for; `RefusedError` with the reason why it is not made."""
        # (1) bounds
        if received.problem:
            raise RefusedError(Refusal.MALFORMED, received.problem)
        most = self._max_bytes * (1 if self._auth is None else AUTH_OVERHEAD)
        if len(received.body) > most:
            raise RefusedError(Refusal.TOO_LARGE, f"{len(received.body)} bytes; at most {most}")
        # (2) content type, compression
        body = self._unpack(received, most)
        # (3) signature
        signer, mark = None, b""
        if self._auth is not None:
            verified = self._auth.read(body)
            body, signer, mark = verified.body, verified.signer, verified.signature
            if len(body) > self._max_bytes:
                raise RefusedError(Refusal.TOO_LARGE, f"a body of {len(body)} bytes")
        # (4) the task's name: of protocol 1 it is in the body.
        if "task" in received.headers:
            self._fence.check(_name_of(received.headers))
            message = _parse_second(received.headers, decode(body))  # (5)
        else:
            message = _parse_first(decode(body), received.headers)
            self._fence.check(_name_of(message.said))
        return self._ask(received, message, signer, mark)

    def _unpack(self, received: Received, most: int) -> bytes:
        wanted = JSON if self._auth is None else CONTENT_TYPE
        if received.content_type != wanted:
            shown = printable(received.content_type or "none", 80)
            if self._auth is not None and received.content_type == JSON:
                raise RefusedError(Refusal.UNSIGNED, "plain JSON, where 'auth' is asked for")
            raise RefusedError(Refusal.NOT_ACCEPTED, f"content type {shown}; only {wanted} is read")
        if received.content_encoding.lower() not in {"utf-8", "utf8", "binary", "us-ascii"}:
            raise RefusedError(Refusal.NOT_ACCEPTED, "a content encoding other than UTF-8")
        compression = received.headers.get("compression")
        if not compression:
            return received.body
        name = COMPRESSIONS.get(compression) if isinstance(compression, str) else None
        if name is None:
            raise RefusedError(Refusal.NOT_ACCEPTED, "compressed in a way that is not read here")
        return decompress(name, received.body, max_bytes=most)

    def _ask(self, received: Received, message: _Message, signer: str | None, mark: bytes) -> Asked:
        # (6) what else it asks for
        said = message.said
        task_id = _text(said, "id", MAX_ID)
        if task_id is None:
            raise RefusedError(Refusal.BAD_CLAIMS, "a message without an id")
        args = message.args if message.args is not None else []
        kwargs = message.kwargs if message.kwargs is not None else {}
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise RefusedError(Refusal.BAD_CLAIMS, "arguments that are no list and no object")
        for name in _CANVAS:
            if message.embed.get(name) or said.get(name):
                raise RefusedError(
                    Refusal.BAD_CLAIMS,
                    f"it has a {name}, and a bridge sends single tasks; send the canvas from here",
                )
        retries = _count(said, "retries")
        origin = {"queue": received.queue, "signed_by": signer}
        options: dict[str, Any] = {
            **_limits(said),
            "task_id": task_id,
            "queue": self._fence.queues[received.queue],
            "retries": retries,
            "eta": _moment(said, "eta", is_utc=message.is_utc),
            "expires": _moment(said, "expires", is_utc=message.is_utc),
            "priority": _priority(received.properties) if self._ranks else None,
            "shadow": _text(said, "shadow", MAX_NAME),
            "root_id": _text(said, "root_id", MAX_ID),
            "parent_id": _text(said, "parent_id", MAX_ID),
            "ignore_result": bool(said.get("ignore_result")) or None,
            "headers": {**message.user_headers, HEADER: origin},
            "stamps": _stamps(said),
        }
        content = mark or f"{task_id}\0{retries}".encode()
        kind = b"auth" if mark else b"json"
        digest = hashlib.sha256(b"cardoon/1/celery\0" + kind + b"\0" + content).digest()
        return Asked(
            task=_name_of(said),
            id=task_id,
            queue=options["queue"],
            args=args,
            kwargs=kwargs,
            options={name: value for name, value in options.items() if value is not None},
            session=digest[:SESSION_BYTES],
            reply_to=_text(received.properties, "reply_to", 255) or "",
            correlation_id=_text(received.properties, "correlation_id", 255) or "",
            wants_result=not said.get("ignore_result"),
        )


def decode(body: bytes) -> Any:
    """JSON as kombu writes it; `RefusedError` for anything else."""
    try:
        return _DECODER.decode(body.decode())
    except _NOT_JSON as error:
        # The error's own words may quote the body, which must not get into logs.
        raise RefusedError(Refusal.UNDECODABLE, f"not JSON: {type(error).__name__}") from error


def printable(text: str, most: int) -> str:
    """Text from outside, fit for a log: what is not printable is left out."""
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def _parse_second(headers: Mapping[str, Any], body: Any) -> _Message:
    """Message protocol 2: `[args, kwargs, embed]`, and headers."""
    if not isinstance(body, list) or len(body) != 3 or not isinstance(body[2] or {}, dict):
        raise RefusedError(Refusal.BAD_CLAIMS, "a body that is not [args, kwargs, embed]")
    return _Message(headers, body[0], body[1], body[2] or {}, _user_headers(headers), is_utc=False)


def _parse_first(body: Any, headers: Mapping[str, Any]) -> _Message:
    """Message protocol 1: everything in one object."""
    if not isinstance(body, dict):
        raise RefusedError(Refusal.BAD_CLAIMS, "neither a task in the headers nor one in the body")
    is_utc = bool(body.get("utc"))
    args, kwargs = body.get("args"), body.get("kwargs")
    return _Message(body, args, kwargs, body, _user_headers(headers), is_utc=is_utc)


def _user_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        name: value
        for name, value in headers.items()
        if name not in _KNOWN and not name.startswith("x-")
    }
    try:
        size = len(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise RefusedError(Refusal.BAD_CLAIMS, "headers that are not JSON") from error
    if size > MAX_HEADERS // 2:
        raise RefusedError(Refusal.TOO_LARGE, f"{size} bytes of headers")
    return found


def _name_of(said: Mapping[str, Any]) -> str:
    name = _text(said, "task", MAX_NAME)
    if name is None:
        raise RefusedError(Refusal.BAD_CLAIMS, "a message that names no task")
    return name


def _text(said: Mapping[str, Any], name: str, most: int) -> str | None:
    """Text that a claim can carry; None where nothing is said."""
    value = said.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > most:
        raise RefusedError(
            Refusal.BAD_CLAIMS, f"{name} is not text of up to {most} printable bytes"
        )
    return value


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise RefusedError(Refusal.BAD_CLAIMS, f"{name} is not a number from 0")
    return value


def _moment(said: Mapping[str, Any], name: str, *, is_utc: bool) -> datetime | None:
    """A point in time; one without zone is read in the app's, or in UTC where the message says so."""
    value = said.get(name)
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if is_utc and moment.tzinfo is None else moment
        moment.timestamp()
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise RefusedError(Refusal.BAD_CLAIMS, f"{name} is no ISO 8601 time") from error
    return moment


def _limits(said: Mapping[str, Any]) -> dict[str, Any]:
    match said.get("timelimit"):
        case None:
            return {}
        case [hard, soft]:
            return {"time_limit": hard, "soft_time_limit": soft}
        case _:
            raise RefusedError(Refusal.BAD_CLAIMS, "timelimit is not a pair")


def _stamps(said: Mapping[str, Any]) -> dict[str, Any] | None:
    names, values = said.get("stamped_headers") or [], said.get("stamps") or {}
    if not isinstance(names, list) or not isinstance(values, dict):
        raise RefusedError(Refusal.BAD_CLAIMS, "stamps that are no list of names and their values")
    return {
        name: values[name] for name in names if isinstance(name, str) and name in values
    } or None


def _priority(properties: Mapping[str, Any]) -> int | None:
    match properties.get("priority"):
        case bool():
            return None
        case int(value) if value > 0:
            return min(value, 9)
        case _:
            return None


def _uuid(value: Any) -> uuid.UUID:
    return uuid.UUID(hex=value["hex"]) if isinstance(value, dict) else uuid.UUID(value)


_TAGS: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda value: date.fromisoformat(value.partition("T")[0]),
    "time": time.fromisoformat,
    "decimal": decimal.Decimal,
    "uuid": _uuid,
    "bytes": lambda value: value.encode(),
    "base64": lambda value: base64.b64decode(value, validate=True),
}
"""What kombu has names for. The list is closed: no name in a message finds a class."""
_NOT_JSON = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)


def _make_object(pairs: list[tuple[str, Any]]) -> Any:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("one key twice")
    if members.keys() == {"__type__", "__value__"}:
        return _TAGS[members["__type__"]](members["__value__"])
    return members


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_make_object, parse_constant=_refuse_constant)
