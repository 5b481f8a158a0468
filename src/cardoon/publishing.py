"""The signals of a send: their payloads, and what receivers add to a message before it is signed.

Only for where somebody listens: a send that nobody listens to never comes here.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import os
import reprlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from cardoon.config import Settings
from cardoon.exceptions import InvalidTaskError
from cardoon.message.serializers import decode_body, encode_body
from cardoon.sender import NO_EMBED, Call
from cardoon.signals import after_task_publish, before_task_publish, task_not_published

logger = logging.getLogger(__name__)

MAX_REPR = 1024
"""Characters of `argsrepr` and `kwargsrepr`, as in Celery."""
_EXCHANGE = ""
"""The default exchange, which routes to the queue that the routing key names."""
_NOTHING: Mapping[str, Any] = {}
_NESTED = ("timelimit", "stamped_headers", "stamps")
"""The known headers that can be changed in place."""


def announce_publish(
    call: Call,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    settings: Settings,
    policy: Mapping[str, Any] | None = None,
    embed: Mapping[str, Any] = NO_EMBED,
) -> Call:
    """`before_task_publish`; returns the call with the headers and arguments that receivers left.

    `policy` is the send's own of when to try again, `embed` what its body says besides arguments.

    What they add to `headers` travels as the message's user headers, under its signature. Raises
    `InvalidTaskError` for headers that are not JSON, `EncodeError` for arguments that cannot travel.
    """
    told = _told(call)
    embed = {**NO_EMBED, **embed}
    user = dict(told.get("headers") or {})
    known = _known_headers(call, told, args, kwargs)
    # A copy of its own, in depth, to tell afterwards what was changed.
    headers: dict[str, Any] = {**user, **known, **{n: copy.deepcopy(known[n]) for n in _NESTED}}
    body = (list(args), dict(kwargs), dict(embed))
    before_task_publish.send(
        sender=call.task,
        body=body,
        exchange=_EXCHANGE,
        routing_key=call.queue,
        headers=headers,
        properties={
            "correlation_id": call.id,
            "reply_to": "",
            "delivery_mode": 2,
            "priority": call.priority,
        },
        declare=[],
        retry_policy={**settings.task_publish_retry_policy, **(policy or {})},
    )
    for name, value in known.items():
        if name not in headers or headers[name] != value:
            _warn_of_change(name)
    # A header of the sender's own that has a known name was hidden from the receivers, and stays.
    hidden = {name: value for name, value in user.items() if name in known}
    added = {name: value for name, value in headers.items() if name not in known}
    # Written anew whether or not it differs: what is nested in it may have been changed in place.
    encoded = encode_body([body[0], body[1], embed], call.codec)
    return _with_headers(call._replace(body=encoded), told, {**hidden, **added})


def announce_published(calls: Sequence[Call]) -> None:
    """`after_task_publish`, for each of these, as they were signed."""
    for call in calls:
        args, kwargs, embed = decode_body(call.codec, call.body, max_bytes=_NO_LIMIT)
        told = _told(call)
        after_task_publish.send(
            sender=call.task,
            body=(args, kwargs, embed),
            exchange=_EXCHANGE,
            routing_key=call.queue,
            headers={**(told.get("headers") or {}), **_known_headers(call, told, args, kwargs)},
        )


@contextmanager
def telling_of_failure(calls: Sequence[Call]) -> Iterator[None]:
    """`task_not_published`, for each of these, where they cannot be sent."""
    try:
        yield
    except Exception as error:
        if task_not_published.receivers:
            announce_unpublished(calls, error)
        raise


def announce_unpublished(calls: Sequence[Call], error: BaseException | None) -> None:
    """`task_not_published`, for each of these; without an error they are unique, and were sent before."""
    for call in calls:
        task_not_published.send(
            sender=call.task, task_id=call.id, routing_key=call.queue, exception=error
        )


_NO_LIMIT = 1 << 62
"""Our own bodies were bounded when they were made."""


def _told(call: Call) -> dict[str, Any]:
    return json.loads(call.headers) if call.headers else {}


def _with_headers(call: Call, told: dict[str, Any], user: Mapping[str, Any]) -> Call:
    if user == (told.get("headers") or _NOTHING):
        return call
    told = {name: value for name, value in told.items() if name != "headers"}
    if user:
        told["headers"] = user
    try:
        text = json.dumps(told, separators=(",", ":"), allow_nan=False) if told else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTaskError(
            f"{call.task}: before_task_publish: what a receiver added to the headers cannot be "
            f"written as JSON: {error}"
        ) from error
    return call._replace(headers=text.encode())


def _known_headers(
    call: Call, told: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The headers of Celery's message protocol 2. Here they have claims of their own."""
    member, stamps = call.group, told.get("stamps") or {}
    return {
        "lang": "py",
        "task": call.task,
        "id": call.id,
        "shadow": told.get("shadow"),
        "eta": _iso(call.eta),
        "expires": _iso(call.expires),
        "group": None if member is None else member.id,
        "group_index": None if member is None else member.position,
        "retries": call.retries,
        "timelimit": told.get("timelimit") or [None, None],
        "root_id": call.root or call.id,
        "parent_id": call.parent,
        "argsrepr": _short.repr(tuple(args))[:MAX_REPR],
        "kwargsrepr": _short.repr(kwargs)[:MAX_REPR],
        "origin": f"gen{os.getpid()}@{_hostname()}",
        "ignore_result": bool(told.get("ignore_result")),
        "replaced_task_nesting": 0,
        "stamped_headers": list(stamps) if stamps else None,
        "stamps": stamps,
    }


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 256
_short.maxlist = _short.maxtuple = _short.maxdict = 32


@functools.cache
def _hostname() -> str:
    return socket.gethostname()


@functools.cache  # so once for each name
def _warn_of_change(name: str) -> None:
    logger.warning(
        "before_task_publish: a receiver changed the header %r, which has no effect; give it to "
        "apply_async, or add a header of another name",
        name,
    )


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()
