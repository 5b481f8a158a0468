"""From a JOB frame to a call of a task, and from its outcome to an OUTCOME frame."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from cardoon.announcing import announce_internal_error
from cardoon.app import Cardoon
from cardoon.calling import CallOptions, check_options
from cardoon.canvas.steps import Planner
from cardoon.context import MAX_CHILDREN, Request
from cardoon.exceptions import (
    EncodeError,
    InvalidTaskError,
    NotRegistered,
    Refusal,
    RefusedError,
)
from cardoon.executor import (
    Failed,
    HandedBack,
    Ignored,
    Outcome,
    Rejected,
    Replaced,
    Retried,
    Succeeded,
    format_traceback,
)
from cardoon.message.headers import MAPS, check_inner
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.publishing import announce_publish, announce_published
from cardoon.queues import Queue
from cardoon.result import describe_children, describe_exception
from cardoon.signals import after_task_publish, before_task_publish, task_internal_error
from cardoon.stamps import as_options, merge_options
from cardoon.task import Task
from cardoon.worker.composing import DependencyError, compose
from cardoon.worker.ipc import FROM_CHILD, Frame, FrameReader, FrameType, IpcError, pack_frame
from cardoon.worker.pool import MAX_ERROR_NAME, parse_ending
from cardoon.worker.wire import call_head
from cardoon.workflow import make_calls

logger = logging.getLogger(__name__)

MAX_TEXT = 8192
"""Characters of an exception's message that travel."""
MAX_REASON = 4096
"""Characters of a reason that travel, in the head of a frame."""


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Prepared(NamedTuple):
    """A task and the call to carry out."""

    task: Task[..., Any]
    request: Request
    is_awaited: bool = False
    """Whether other tasks wait for its end."""
    follows: tuple[str, ...] = ()
    """The ids of those that are called with its result."""


class Answer(NamedTuple):
    """The head and body of an OUTCOME frame."""

    head: dict[str, Any]
    body: bytes = b""


def prepare(app: Cardoon, frame: Frame) -> Prepared | Answer:
    """The call that a job asks for, or the answer that there can be none.

    This is the gate's last step, the parse of a body that was verified: it happens here, in a process
    that holds nothing, and what cannot be parsed is answered with a refusal.
    """
    head = frame.head
    own, data = frame.body, b""
    if "inputs" in head:
        own, data = frame.body[: head["own"]], frame.body[head["own"] :]
    try:
        body = decode_body(head["codec"], own, max_bytes=head["max_bytes"], unpickle=True)
        args, kwargs, embed = _parts(body)
        task = app.tasks[head["task"]]
        if "inputs" in head:
            args = [*compose(task, embed, head["inputs"], data, most=head["max_bytes"]), *args]
        if head["task"] in MAPS:  # with all that it is given, or a result could name another task
            check_inner(head["headers"], args, kwargs)
    except RefusedError as error:
        return Answer({"kind": "unreadable", "reason": error.reason.value, "detail": error.detail})
    except DependencyError as error:
        body = _error_body(error.error, error.traceback, answer_codec(head))
        return Answer({"kind": "failed", "error": _name(error.error)}, body)
    except NotRegistered as error:
        told = {"kind": "failed", "error": _name(error)}
        return Answer(told, _error_body(error, "", answer_codec(head)))
    request = request_of(head, args, kwargs)
    return Prepared(task, request, bool(head["headers"].get("links")), _follows(embed))


def request_of(
    head: Mapping[str, Any],
    args: list[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
) -> Request:
    """The call that the head of a JOB frame describes, as its task sees it."""
    told = head["headers"]
    headers, stamps = told.get("headers"), told.get("stamps")
    group, group_index, _ = head.get("group") or (None, None, None)
    return Request(
        task=head["task"],
        id=head["id"],
        args=[] if args is None else args,
        kwargs={} if kwargs is None else kwargs,
        retries=head["retries"],
        max_retries=head["max_retries"],
        eta=_iso(head["eta"]),
        expires=_iso(head["expires"]),
        root_id=head["root"] or head["id"],
        parent_id=head["parent"],
        headers=headers if isinstance(headers, dict) else {},
        stamps=stamps if isinstance(stamps, dict) else {},
        delivery_info={
            "routing_key": head["queue"],
            "exchange": "",
            "priority": told.get("priority", 0),
            "redelivered": head["attempt"] > 1,
        },
        hostname=head["hostname"],
        origin=head["origin"],
        shadow=told.get("shadow"),
        timelimit=_limits(told.get("timelimit")),
        ignore_result=bool(told.get("ignore_result")),
        group=group,
        group_index=group_index,
        called_directly=False,
        answer_codec=answer_codec(head),
        fence=head["attempt"],
    )


def answer_codec(head: Mapping[str, Any]) -> str:
    """How the worker wants the outcome of a job written: as the job itself, unless it says so."""
    codec: str = head.get("answer") or head.get("codec") or JSON  # a notice of a job says neither
    return codec


def answer_of(prepared: Prepared, outcome: Outcome, app: Cardoon, *, codec: str) -> Answer:
    """An outcome as a frame. What cannot travel becomes a failure that says so."""
    try:
        return _encode(prepared, outcome, app, codec)
    except (EncodeError, InvalidTaskError) as error:
        return failure(error, prepared, codec=codec)


def failure(error: BaseException, prepared: Prepared | None = None, *, codec: str) -> Answer:
    """The answer for an exception that came from outside the task's body."""
    text = format_traceback(error)
    if task_internal_error.receivers and prepared is not None:
        _tell_internal_error(prepared, error, text)
    return Answer({"kind": "failed", "error": _name(error)}, _error_body(error, text, codec))


def _tell_internal_error(prepared: Prepared, error: BaseException, text: str) -> None:
    try:
        announce_internal_error(prepared.task, prepared.request, error, text)
    except SystemExit:
        logger.exception("a receiver of task_internal_error raised SystemExit")


def encode_result(
    value: Any, *, codec: str, max_bytes: int, more: Mapping[str, Any] = NOTHING
) -> bytes:
    """The body of a successful result; `EncodeError` if it cannot travel or is too large.

    `more` is what it tells besides, if that can travel, too.
    """
    if more and (told := _fitting({"result": value, **more}, codec, max_bytes)) is not None:
        return told
    body = encode_body({"result": value}, codec)
    if len(body) > max_bytes:
        raise EncodeError(
            f"the result takes {len(body)} bytes, more than message_max_bytes={max_bytes}; "
            "return a reference to where it is stored"
        )
    return body


def _encode(prepared: Prepared, outcome: Outcome, app: Cardoon, codec: str) -> Answer:
    match outcome:
        case Succeeded(value):
            limit = app.settings.message_max_bytes
            more = _details(prepared, app, follows=prepared.follows)
            body = encode_result(value, codec=codec, max_bytes=limit, more=more)
            return Answer({"kind": "succeeded"}, body)
        case Failed(error, traceback, exhausted):
            body = _error_body(error, traceback, codec, _details(prepared, app), app)
            told = {"kind": "failed", "exhausted": exhausted, "error": _name(error)}
            return Answer(told, body)
        case Retried(retry, traceback):
            body = _error_body(retry.exc or retry, traceback, codec)
            head: dict[str, Any] = {"kind": "retried", "when": retry.when, "split": len(body)}
            head["error"] = _name(retry.exc or retry)
            if retry.sig is not None:
                call, replacement = _replacement(prepared, outcome, app)
                return _checked(Answer({**head, "call": call}, body + replacement))
            return _checked(Answer(head, body))
        case Rejected(reason, requeue):
            reason = _fit(reason, MAX_REASON)
            told = {"type": "Reject", "module": "cardoon.exceptions", "message": reason}
            head = {"kind": "rejected", "reason": reason, "requeue": requeue}
            return Answer(head, encode_body({"error": told}, codec))
        case Replaced(signature):
            return _checked(_replaced(prepared, signature, app))
        case Ignored():
            return Answer({"kind": "ignored"})
        case HandedBack():
            return Answer({"kind": "handed_back"})


def _details(prepared: Prepared, app: Cardoon, *, follows: Sequence[str] = ()) -> Mapping[str, Any]:
    """What a result tells besides the value: children, and what `result_extended` asks for."""
    request = prepared.request
    is_extended = app.settings.result_extended
    has_children = (request.called or follows) and prepared.task.trail
    if not (is_extended or has_children):
        return NOTHING
    more: dict[str, Any] = {}
    if has_children:
        more["children"] = describe_children([*(request.called or ()), *follows])
    if is_extended:
        more["args"] = list(request.args)
        more["kwargs"] = request.kwargs
        more["queue"] = request.delivery_info.get("routing_key")
    return more


def _fitting(content: Mapping[str, Any], codec: str, max_bytes: int) -> bytes | None:
    """A body, or None if it cannot travel: what is told besides must not cost the result itself."""
    try:
        body = encode_body(content, codec)
    except EncodeError:
        return None
    return body if len(body) <= max_bytes else None


def _replacement(
    prepared: Prepared, outcome: Retried, app: Cardoon
) -> tuple[dict[str, Any], bytes]:
    """The message that takes the place of the old one when a retry changes something."""
    request, sig = prepared.request, outcome.retry.sig
    embed = {"follows": list(prepared.follows)} if prepared.follows else {}
    options: CallOptions = check_options(
        {
            **_kept_options(request, sig.options),
            **merge_options(sig.options, as_options(request.stamps)),
            "task_id": request.id,
            "retries": request.retries + 1,
            "root_id": request.root_id,
            "parent_id": request.parent_id,
        }
    )
    call = app.make_call(
        prepared.task.name,
        sig.args,
        sig.kwargs,
        options,
        prepared.task.call_defaults,
        told={"links": True} if prepared.is_awaited else None,
        embed=embed,
    )
    call = call._replace(eta=outcome.retry.when)
    if request.max_retries is not None:
        call = call._replace(max_retries=request.max_retries)
    if before_task_publish.receivers:  # it gave `embed`, so it announces the call itself
        call = announce_publish(
            call,
            sig.args,
            sig.kwargs,
            settings=app.settings,
            policy=options.retry_policy,
            embed=embed,
        )
    if after_task_publish.receivers:  # for whoever began something before; the worker publishes it
        announce_published([call])
    return call_head(call), call.body


def _kept_options(request: Request, wished: Mapping[str, Any]) -> dict[str, Any]:
    """What a message that takes another's place keeps of it, unless the retry says otherwise."""
    hard, soft = request.timelimit
    queue = request.delivery_info.get("routing_key")
    is_moved = wished.keys() & {"queue", "exchange", "routing_key"}
    return {
        # Declared or not, it came from there.
        "queue": Queue(queue) if queue and not is_moved else None,
        "priority": request.delivery_info.get("priority"),
        "headers": dict(request.headers) or None,
        "shadow": request.shadow,
        "expires": request.expires and datetime.fromisoformat(request.expires),
        "ignore_result": request.ignore_result or None,
        "time_limit": hard,
        "soft_time_limit": soft,
    }


def _replaced(prepared: Prepared, signature: Any, app: Cardoon) -> Answer:
    """The calls of a canvas whose last task takes over the id."""
    request = prepared.request
    planner = Planner(app, root=request.root_id)
    signature.clone(task_id=request.id).plan(planner, None)
    for step in planner.steps:
        step.options = merge_options(step.options, as_options(request.stamps))
        step.parent = step.parent or request.id
        if step.id == request.id:
            step.is_awaited = step.is_awaited or prepared.is_awaited
            step.follows += prepared.follows
    calls = make_calls(app, planner.steps)
    if (
        after_task_publish.receivers
    ):  # for whoever began something before; the worker publishes them
        announce_published(calls)
    head = {"kind": "replaced", "calls": [call_head(call) for call in calls]}
    return Answer(head, b"".join(call.body for call in calls))


def _error_body(
    error: BaseException,
    traceback: str,
    codec: str,
    more: Mapping[str, Any] = NOTHING,
    app: Cardoon | None = None,
) -> bytes:
    described = describe_exception(error)
    described["message"] = _fit(described["message"], MAX_TEXT)
    content = {"error": described, "traceback": traceback}
    if more and app is not None:
        limit = app.settings.message_max_bytes
        if (told := _fitting({**content, **more}, codec, limit)) is not None:
            return told
    return encode_body(content, codec)


def _name(error: BaseException) -> str:
    return _fit(type(error).__name__, MAX_ERROR_NAME)


def _fit(text: str, most: int) -> str:
    """At most so many characters, and no half ones."""
    return text[:most].encode("utf-8", "replace").decode()


def _checked(answer: Answer) -> Answer:
    """What the worker would refuse is the task's failure, and not the end of its process."""
    packed = pack_frame(FrameType.OUTCOME, answer.head, answer.body)
    try:
        [frame] = FrameReader(FROM_CHILD).feed(packed)
        parse_ending(frame)
    except IpcError as error:
        raise InvalidTaskError(str(error)) from error
    return answer


def _parts(body: object) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    match body:
        case [list() | tuple() as args, dict(kwargs), dict(embed)]:  # tuples stay such in pickles
            return list(args), kwargs, embed
        case _:
            raise RefusedError(Refusal.UNDECODABLE, "the body is not [args, kwargs, embed]")


def _follows(embed: Mapping[str, Any]) -> tuple[str, ...]:
    match embed.get("follows"):
        case [*found] if all(isinstance(one, str) for one in found):
            return tuple(found[:MAX_CHILDREN])
        case _:
            return ()


def _limits(told: object) -> tuple[float | None, float | None]:
    """Hard and soft limit, as Celery tells them to a task."""
    match told:
        case [(int() | float() | None) as hard, (int() | float() | None) as soft]:
            return hard, soft
        case _:
            return None, None


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
