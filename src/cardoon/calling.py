"""From a call in Python to a `Call` that can be signed: options checked, arguments encoded."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

from cardoon import bounds
from cardoon.bounds import Bounds, KeySource, NameArguments
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.contents import COMPRESSIONS, accept, find_content, join_codec
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.message.headers import INNER, MAPS, inner_task
from cardoon.message.serializers import JSON, encode_body
from cardoon.option import (
    Parser,
    boolean,
    dictionary,
    expiry,
    instant,
    integer,
    priority,
    publish_policy,
    seconds,
    text,
)
from cardoon.queues import Place, Queue, parse_queue
from cardoon.retrying import NO_LIMIT
from cardoon.routes import exchange_name
from cardoon.sender import NO_EMBED, Call
from cardoon.stamps import STAMPED_HEADERS, parse_stamps, take_stamps

MAX_ID_BYTES = 128
MAX_NAME_BYTES = 256
"""As the claims bound them (docs/protocol.md)."""

_NOT_HERE = {
    "producer": "the app keeps its own connections",
    "connection": "the app keeps its own connections",
    "publisher": "the app keeps its own connections",
    "reply_to": "results go to the result backend",
    "correlation_id": "it is the task_id; use task_id=",
    "delivery_mode": "every message is durable",
    "mandatory": "publishing always confirms or raises",
    "chain": "write the canvas in the call: chain(a, b).apply_async()",
    "chord": "write the canvas in the call: chord(header, body).apply_async()",
    "group_id": "it is given by the group",
}
"""Arguments that Celery's `apply_async` takes and this one does not, each with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """The arguments of `apply_async` besides the task's own, checked."""

    task_id: str | None = None
    queue: str | Queue | None = None
    exchange: str | None = None
    routing_key: str | None = None
    """What leads to a queue by the bindings in `task_queues`, where no queue is named."""
    countdown: float | None = None
    eta: datetime | None = None
    expires: float | datetime | None = None
    priority: int | None = None
    serializer: str | None = None
    compression: str | None = None
    headers: Mapping[str, Any] | None = None
    stamps: Mapping[str, Any] | None = None
    """What `stamped_headers` names among the options, by name."""
    shadow: str | None = None
    ignore_result: bool | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    max_retries: int | None = None
    retries: int = 0
    link: Sequence[Mapping[str, Any]] = ()
    link_error: Sequence[Mapping[str, Any]] = ()
    root_id: str | None = None
    parent_id: str | None = None
    retry: bool | None = None
    """Whether a publish that fails is tried again until the deadline."""
    retry_policy: Mapping[str, float] | None = None
    timeout: float | None = None
    """Seconds until a publish that has not been confirmed raises."""
    add_to_parent: bool = True
    unique: bool | float | None = None
    unique_key: KeySource | None = None
    concurrency_limit: int | None = None
    limit_key: KeySource | None = None
    cluster_rate_limit: str | float | None = None


OPTION_NAMES = frozenset(f.name for f in dataclasses.fields(CallOptions))
NO_OPTIONS = CallOptions()


class CallDefaults(NamedTuple):
    """What a call of a task is sent with where the caller says nothing else."""

    queue: str
    codec: str = JSON
    priority: int = 0
    max_retries: int | None = None
    expires: float | datetime | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool = False
    shadow: str | None = None
    place: Place = Place()
    """What task and routes say of the queue, for a call that names a routing key only."""
    per_call: PerCall | None = None
    """Decides anew for each call, where that depends on more than the task's name."""
    bounds: Bounds | None = None
    name_arguments: NameArguments | None = None


PerCall: TypeAlias = (
    "Callable[[Sequence[Any], Mapping[str, Any], CallOptions], tuple[CallOptions, CallDefaults]]"
)


def check_options(options: Mapping[str, Any], *, method: str = "apply_async") -> CallOptions:
    """`CallOptions` from keyword arguments; `InvalidTaskError` names the wrong one and the remedy."""
    if not options:
        return NO_OPTIONS
    if _PLAIN_TYPES.issuperset(map(type, options.values())) and _OWN.isdisjoint(options):
        return _check_again(method, **options)
    return _check_all(method, options)


_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
_OWN = frozenset({"task_id", "eta", "root_id", "parent_id"})
"""Options that differ from call to call, so that nothing is gained by remembering them."""


@functools.lru_cache(maxsize=512, typed=True)
def _check_again(method: str, /, **options: Any) -> CallOptions:
    """Most calls of a program have the options of an earlier one, and plain values cannot change."""
    return _check_all(method, options)


def _check_all(method: str, options: Mapping[str, Any]) -> CallOptions:
    if STAMPED_HEADERS in options:
        options, stamps = take_stamps(options, method=method)
        options = {**options, "stamps": stamps or None}
    for name in options:
        if name in OPTION_NAMES:
            continue
        if name in _NOT_HERE:
            raise InvalidTaskError(f"{method}: no {name!r} here: {_NOT_HERE[name]}")
        close = difflib.get_close_matches(name, OPTION_NAMES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InvalidTaskError(f"{method}: unknown option {name!r}{hint}")
    given = {name: value for name, value in options.items() if value is not None}
    checked = CallOptions(**{name: _check(method, name, given[name]) for name in given})
    if checked.countdown is not None and checked.eta is not None:
        raise InvalidTaskError(f"{method}: give countdown or eta, not both")
    if checked.time_limit and checked.soft_time_limit:  # noqa: SIM102
        if checked.soft_time_limit >= checked.time_limit:
            raise InvalidTaskError(f"{method}: soft_time_limit must be below time_limit")
    return checked


def _check(method: str, name: str, value: object) -> Any:
    try:
        return _PARSERS[name](value)
    except (TypeError, ValueError) as error:
        raise InvalidTaskError(f"{method}: {name}={value!r} {error}") from None


def make_call(
    name: str,
    body: tuple[Sequence[Any], Mapping[str, Any]],
    options: CallOptions,
    *,
    defaults: CallDefaults,
    settings: Settings,
    clock: Clock,
    new_id: Callable[[], str],
    queue: str | None = None,
    embed: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> Call:
    """Encode one call. `EncodeError` for arguments that cannot travel.

    `queue` is the one that the options lead to by the settings, where they name any. `embed` is what the body
    says besides the arguments, `told` what its signed headers say.
    """
    if name in MAPS:
        told = {**(told or {}), INNER: inner_task(*body)}
    is_plain = options is NO_OPTIONS and not (embed or told) and defaults.bounds is None
    if is_plain and defaults.expires is None and defaults.shadow is None:
        return Call(
            task=name,
            id=new_id(),
            queue=defaults.queue,
            codec=defaults.codec,
            body=encode_body([body[0], body[1], NO_EMBED], defaults.codec),
            headers=_headers(defaults, options),
            priority=defaults.priority,
            max_retries=defaults.max_retries,
        )
    made = _call_with_options(
        name,
        (*body, {**NO_EMBED, **(embed or {})}),
        options,
        defaults=defaults,
        settings=settings,
        clock=clock,
        new_id=new_id,
        queue=queue,
    )
    own = bounds.said_by(options)
    wanted = defaults.bounds if own is None else own.over(defaults.bounds)
    if wanted is not None:
        unique, limit = bounds.bind(
            name,
            *body,
            wanted,
            name_arguments=defaults.name_arguments,
            is_composed="compose" in (embed or {}),
        )
        if unique is not None or limit is not None:
            # Only what is there till its end can be counted, whenever the task would be acknowledged.
            told = {**(told or {}), "bound": True}
            made = made._replace(unique=unique, limit=limit)
    return made._replace(headers=_headers(defaults, options, told))


def _call_with_options(
    name: str,
    body: tuple[Sequence[Any], Mapping[str, Any], Mapping[str, Any]],
    options: CallOptions,
    *,
    defaults: CallDefaults,
    settings: Settings,
    clock: Clock,
    new_id: Callable[[], str],
    queue: str | None,
) -> Call:
    now = clock.now()
    eta = None
    if options.countdown is not None:
        eta = now + options.countdown
    elif options.eta is not None:
        eta = to_epoch(options.eta, settings)
    expires = options.expires if options.expires is not None else defaults.expires
    if isinstance(expires, datetime):
        expires = to_epoch(expires, settings)
    elif expires is not None:
        expires += now
    codec = defaults.codec
    if options.serializer is not None or options.compression is not None:
        codec = choose_codec(options.serializer, options.compression, settings)
    return Call(
        task=name,
        id=options.task_id if options.task_id is not None else new_id(),
        queue=queue or str(options.queue or defaults.queue),
        codec=codec,
        body=encode_body(list(body), codec),
        priority=defaults.priority if options.priority is None else options.priority,
        eta=None if eta is None or eta <= now else eta,
        expires=expires,
        retries=options.retries,
        max_retries=defaults.max_retries if options.max_retries is None else options.max_retries,
        root=options.root_id,
        parent=options.parent_id,
    )


def choose_codec(serializer: str | None, compression: str | None, settings: Settings) -> str:
    """The codec for a serializer and a compression, each by name; None for the settings' own.

    A serializer says how the body is written. Whether the message is signed is not its business but
    the app's (`task_serializer`), so that no single call can leave the signed path.
    """
    named = settings.task_serializer if serializer is None else serializer
    return _choose_codec(named, compression, settings.task_serializer, settings.accept_content)


@functools.lru_cache(maxsize=256)
def _choose_codec(
    serializer: str, compression: str | None, usual: str, accept_content: tuple[str, ...]
) -> str:
    try:
        content = find_content(serializer, setting="serializer")
    except ImproperlyConfigured as error:
        raise InvalidTaskError(str(error)) from None
    accepted = accept(accept_content)
    if find_content(usual).is_signed:
        if content.media_type not in accepted.signed:
            name = "auth" if content.name == "json" else content.name
            raise InvalidTaskError(
                f"serializer={serializer!r}: accept_content={list(accept_content)!r} does not take it "
                f"signed, so this app's workers would refuse the message; add {name!r} there"
            )
    elif content.media_type not in accepted.plain:
        raise InvalidTaskError(
            f"serializer={serializer!r}: this app sends messages without signature "
            f"(task_serializer={usual!r}), and only JSON is taken so; set task_serializer='auth'"
        )
    return join_codec(content.media_type, _find_compression(compression))


def result_codec(settings: Settings) -> str:
    """The codec of results that are written by those who have no message to answer."""
    return find_content(settings.result_serializer).media_type


def _find_compression(name: str | None) -> str | None:
    if name is None:
        return None
    if name not in COMPRESSIONS:
        raise InvalidTaskError(f"compression={name!r} is unknown; use zlib, bzip2 or lzma")
    return COMPRESSIONS[name]


def to_epoch(moment: datetime, settings: Settings) -> float:
    """Seconds since the epoch; a naive datetime is read in the app's time zone."""
    if moment.tzinfo is None:
        zone = UTC if settings.timezone == "UTC" else zoneinfo.ZoneInfo(settings.timezone)
        moment = moment.replace(tzinfo=zone)
    return moment.timestamp()


def check_text(name: str, value: object, max_bytes: int) -> None:
    """Refuse what no claim can carry."""
    try:
        _printable(max_bytes)(value)
    except ValueError as error:
        raise InvalidTaskError(f"{name}={value!r} {error}") from None


def _printable(max_bytes: int) -> Parser:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= max_bytes:
            return value
        raise ValueError(f"is not a string of 1 to {max_bytes} printable bytes")

    return parse


def _signatures(value: object) -> tuple[Mapping[str, Any], ...]:
    found = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for item in found:
        if not isinstance(item, Mapping) or not isinstance(item.get("task"), str):
            raise ValueError("is not a signature; use task.s(...)")  # noqa: TRY004  # as all parsers
    return found


_RELATIVE = _printable(MAX_ID_BYTES)
_LIMIT = seconds(0.01, 30 * 86400)
_COUNT = integer(0, NO_LIMIT)
_PARSERS: Mapping[str, Parser] = {
    "task_id": _RELATIVE,
    "queue": parse_queue,
    "exchange": exchange_name,
    "routing_key": text,
    "countdown": seconds(-366 * 86400, 366 * 86400),
    "eta": instant,
    "expires": expiry,
    "priority": priority,
    "serializer": text,
    "compression": text,
    "headers": dictionary,
    "stamps": parse_stamps,
    "shadow": text,
    "ignore_result": boolean,
    "time_limit": _LIMIT,
    "soft_time_limit": _LIMIT,
    "max_retries": _COUNT,
    "retries": _COUNT,
    "link": _signatures,
    "link_error": _signatures,
    "root_id": _RELATIVE,
    "parent_id": _RELATIVE,
    "retry": boolean,
    "retry_policy": publish_policy,
    "timeout": seconds(0.001, 3600),
    "add_to_parent": boolean,
    "unique": bounds.uniqueness,
    "unique_key": bounds.key_source,
    "concurrency_limit": bounds.places,
    "limit_key": bounds.key_source,
    "cluster_rate_limit": bounds.cluster_rate,
}


def _headers(
    defaults: CallDefaults, options: CallOptions, told: Mapping[str, Any] | None = None
) -> bytes:
    """Label 20: what is signed beyond the claims, and only where it differs from the usual."""
    usual = (
        options.time_limit or defaults.time_limit,
        options.soft_time_limit or defaults.soft_time_limit,
        defaults.ignore_result if options.ignore_result is None else options.ignore_result,
        defaults.priority if options.priority is None else options.priority,
        options.shadow or defaults.shadow,
    )
    if not (told or options.stamps or options.headers):
        return _usual_headers(*usual)
    found = {**(told or {}), **_usual(*usual)}
    if options.stamps:
        found["stamps"] = options.stamps
    if options.headers:
        found["headers"] = dict(options.headers)
    return _write_headers(found)


def _usual(
    hard: float | None,
    soft: float | None,
    ignore: bool,  # noqa: FBT001  # by place, as a cache of calls is quickest with
    priority: int,
    shadow: str | None,
) -> dict[str, Any]:
    """What is said beyond the claims of many calls alike."""
    found: dict[str, Any] = {}
    if hard or soft:
        found["timelimit"] = [hard, soft]
    if ignore:
        found["ignore_result"] = True
    if priority:
        found["priority"] = priority
    if shadow:
        found["shadow"] = shadow
    return found


@functools.lru_cache(maxsize=256, typed=True)
def _usual_headers(*usual: Any) -> bytes:
    return _write_headers(_usual(*usual))


def _write_headers(found: Mapping[str, Any]) -> bytes:
    if not found:
        return b""
    try:
        return json.dumps(found, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTaskError(
            f"apply_async: headers cannot be written as JSON: {error}"
        ) from error
