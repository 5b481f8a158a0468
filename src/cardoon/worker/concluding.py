"""From how a job ended to what must be stored: decides, and does nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from cardoon import states
from cardoon.broker import Ack, Cause, DeadLetter, Quarantine, Requeue, Settlement
from cardoon.calling import (
    MAX_NAME_BYTES,
    CallOptions,
    check_options,
    check_text,
    choose_codec,
)
from cardoon.exceptions import (
    CardoonError,
    InvalidTaskError,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from cardoon.message.protocol import Kind
from cardoon.message.serializers import decode_body, encode_body
from cardoon.result import describe_exception
from cardoon.security.signing import Draft
from cardoon.sender import Call
from cardoon.worker.held import Held
from cardoon.worker.pool import (
    Crashed,
    Ending,
    Failed,
    HandedBack,
    Ignored,
    Killed,
    Rejected,
    Retried,
    Succeeded,
    TimedOut,
    Unreadable,
)

CRASH_DELAYS = (1.0, 10.0)
"""Seconds before a task that took its process down runs again, after the first crash and later ones."""
REJECT_DELAY = 1.0
"""Seconds before a message that its task put back is delivered again, lest it circle at full speed."""
NEVER_EXPIRES = 10 * 366 * 86400.0
_LINK_OPTIONS = ("task_id", "queue", "priority", "link", "link_error")
_LINK_NAMESPACE = uuid.UUID("6f5cf1a2-7f0e-5c1b-9a63-0d6d1f0c2b51")


class ResultState(NamedTuple):
    """A state of a task to sign and store."""

    state: str
    codec: str
    body: bytes


class Conclusion(NamedTuple):
    """What must happen in one step when a job has ended."""

    settlement: Settlement
    result: ResultState | None = None
    calls: Sequence[Call] = ()
    event: str = ""
    """For the audit trail; empty for what is not worth a record."""
    detail: str = ""


def conclude(  # noqa: C901  # one arm per ending
    held: Held, ending: Ending, *, now: float, max_bytes: int
) -> Conclusion:
    """The conclusion of a job. `now` in seconds since the epoch."""
    delivery = held.delivery
    match ending:
        case Succeeded(body):
            calls = _linked_calls(held, "callbacks", body, max_bytes=max_bytes)
            return Conclusion(Ack(delivery), _wanted(held, states.SUCCESS, body), calls)
        case Failed(body, exhausted):
            return _failed(held, body, exhausted=exhausted, max_bytes=max_bytes)
        case Retried():
            return _retried(held, ending, now=now, max_bytes=max_bytes)
        case Rejected(body, reason, requeue):
            if requeue:
                return Conclusion(Requeue(delivery, Cause.RELEASED, REJECT_DELAY))
            result = ResultState(states.REJECTED, held.message.claims.codec, body)
            return Conclusion(DeadLetter(delivery, f"rejected: {reason}"), result)
        case Ignored():
            return Conclusion(Ack(delivery))
        case Unreadable(reason, detail):
            return Conclusion(Quarantine(delivery, reason, detail), detail=detail)
        case HandedBack():
            return Conclusion(Requeue(delivery, Cause.RELEASED))
        case Crashed(detail):
            return _crashed(held, detail)
        case TimedOut(limit):
            error = TimeLimitExceeded(f"hard time limit of {limit:g} seconds")
            return _failed(held, _describe(error, held), exhausted=False, max_bytes=max_bytes)
        case Killed(signal):
            return revoked(held, f"terminated ({signal})")


def revoked(held: Held, reason: str, *, dead: bool = False) -> Conclusion:
    """The end of a task that is not to run (any more)."""
    result = ResultState(
        states.REVOKED, held.message.claims.codec, _describe(TaskRevokedError(reason), held)
    )
    settlement = DeadLetter(held.delivery, reason) if dead else Ack(held.delivery)
    return Conclusion(settlement, result, event="task.revoked", detail=reason)


def dead(held: Held, error: CardoonError, reason: str) -> Conclusion:
    """The end of a task that cannot be completed: kept, and a failure for who waits."""
    result = ResultState(states.FAILURE, held.message.claims.codec, _describe(error, held))
    return Conclusion(
        DeadLetter(held.delivery, reason), result, event="task.dead_letter", detail=reason
    )


def lost(held: Held, crashes: int, detail: str) -> Conclusion:
    """The end of a task that took down too many processes."""
    error = WorkerLostError(f"its process died {crashes} times; last: {detail}")
    return dead(held, error, f"crashed {crashes} times: {detail}")


def result_draft(
    held: Held, result: ResultState, *, worker: str, now: float, expires: float | None
) -> Draft:
    """What is signed of a result: the state under the signature, and bound to the message."""
    claims = held.message.claims
    told: dict[str, Any] = {"state": result.state, "worker": worker}
    if states.is_final(result.state):
        told["done"] = round(now, 6)
    return Draft(
        kind=Kind.RESULT,
        task=claims.task,
        id=claims.id,
        audience=(),
        codec=result.codec,
        body=result.body,
        retries=held.retries or None,
        headers=json.dumps(told, separators=(",", ":")).encode(),
        request=held.request,
        lifetime=NEVER_EXPIRES if expires is None else expires,
    )


def _failed(held: Held, body: bytes, *, exhausted: bool, max_bytes: int) -> Conclusion:
    delivery = held.delivery
    wanted = not held.ignores_result or held.rules.store_errors_even_if_ignored
    result = ResultState(states.FAILURE, held.message.claims.codec, body) if wanted else None
    calls = _linked_calls(held, "errbacks", body, max_bytes=max_bytes)
    if exhausted:
        settlement: Settlement = DeadLetter(delivery, "retries used up")
        return Conclusion(settlement, result, calls, "task.dead_letter", "retries used up")
    if not held.rules.acks_on_failure_or_timeout:
        settlement = DeadLetter(delivery, "failed, and acks_on_failure_or_timeout is off")
        return Conclusion(settlement, result, calls)
    return Conclusion(Ack(delivery), result, calls)


def _retried(held: Held, ending: Retried, *, now: float, max_bytes: int) -> Conclusion:
    """Again later: the same message, unless something has changed or it is acknowledged already."""
    limit = held.message.claims.max_retries
    if limit is not None and held.retries >= limit:
        return _failed(held, ending.body, exhausted=True, max_bytes=max_bytes)
    result = ResultState(states.RETRY, held.message.claims.codec, ending.body)
    result_wanted = None if held.ignores_result else result
    if ending.replacement is not None:
        call = ending.replacement._replace(id=held.id, task=held.task, retries=held.retries + 1)
        return Conclusion(Ack(held.delivery), result_wanted, [_bounded(call, held)])
    if held.settled:
        return Conclusion(Ack(held.delivery), result_wanted, [_again(held, ending.when)])
    delay = max(0.0, ending.when - now) if ending.when is not None else 0.0
    return Conclusion(Requeue(held.delivery, Cause.RETRIED, delay), result_wanted)


def _crashed(held: Held, detail: str) -> Conclusion:
    crashes = held.delivery.crashes + 1
    event = "task.process_lost"
    if not held.rules.reject_on_worker_lost or held.settled:
        error = WorkerLostError(detail)
        result = ResultState(states.FAILURE, held.message.claims.codec, _describe(error, held))
        return Conclusion(Ack(held.delivery), result, (), event, detail)
    if crashes >= held.rules.max_crashes:
        return lost(held, crashes, detail)
    delay = CRASH_DELAYS[min(crashes, len(CRASH_DELAYS)) - 1]
    settlement = Requeue(held.delivery, Cause.CRASHED, delay)
    return Conclusion(settlement, None, (), event, detail)


def _again(held: Held, when: float | None) -> Call:
    """The same call as a new message, for a task that was acknowledged before it ran."""
    claims = held.message.claims
    call = Call(
        task=claims.task,
        id=claims.id,
        queue=held.delivery.queue,
        codec=claims.codec,
        body=held.message.body,
        headers=claims.headers,
        priority=held.delivery.priority,
        eta=when,
        expires=None if claims.expires is None else claims.expires / 1000,
        retries=held.retries + 1,
        root=claims.root,
        parent=claims.parent,
    )
    return _bounded(call, held)


def _bounded(call: Call, held: Held) -> Call:
    """A message that takes another's place keeps the limit that the client signed, and answers it."""
    return call._replace(max_retries=held.message.claims.max_retries, request=held.request)


def _wanted(held: Held, state: str, body: bytes) -> ResultState | None:
    if held.ignores_result:
        return None
    return ResultState(state, held.message.claims.codec, body)


def _describe(error: BaseException, held: Held) -> bytes:
    body = {"error": describe_exception(error), "traceback": ""}
    return encode_body(body, held.message.claims.codec)


def _linked_calls(held: Held, which: str, body: bytes, *, max_bytes: int) -> Sequence[Call]:
    """The calls of `link` or `link_error`, which the client signed as part of the body.

    Their ids follow from the task's, so that making them again makes no second task.
    """
    if not held.headers.get("links"):
        return ()
    claims = held.message.claims
    content = decode_body(claims.codec, held.message.body, max_bytes=max_bytes)
    embed = content[2] if isinstance(content, list) and len(content) == 3 else None
    linked = embed.get(which) or () if isinstance(embed, dict) else ()
    if not linked:
        return ()
    told = decode_body(claims.codec, body, max_bytes=max_bytes)
    if not isinstance(told, dict) or not isinstance(linked, list):
        raise InvalidTaskError(f"{which}: the links or the result are not what they should be")
    first = told.get("result") if which == "callbacks" else claims.id
    return [
        _linked_call(held, signature, first, f"{which}/{position}")
        for position, signature in enumerate(linked)
    ]


def _linked_call(held: Held, signature: object, first: Any, step: str) -> Call:
    """`InvalidTaskError` for what cannot be signed: here it costs the link, later a whole batch."""
    claims = held.message.claims
    if not isinstance(signature, dict):
        raise InvalidTaskError(f"{step}: {signature!r} is not a signature")
    check_text(f"{step}: task", signature.get("task"), MAX_NAME_BYTES)
    options = _link_options(signature.get("options") or {})
    args = list(signature.get("args") or ())
    if not signature.get("immutable"):
        args.insert(0, first)
    codec = choose_codec(None, None)
    embed = {
        "callbacks": list(options.link) or None,
        "errbacks": list(options.link_error) or None,
        "chain": None,
        "chord": None,
    }
    told = {"links": True} if embed["callbacks"] or embed["errbacks"] else {}
    body = [args, signature.get("kwargs") or {}, embed]
    return Call(
        task=signature["task"],
        id=options.task_id or str(uuid.uuid5(_LINK_NAMESPACE, f"{claims.id}/{step}")),
        queue=options.queue or held.delivery.queue,
        codec=codec,
        body=encode_body(body, codec),
        headers=json.dumps(told).encode() if told else b"",
        priority=options.priority or 0,
        root=claims.root or claims.id,
        parent=claims.id,
    )


def _link_options(options: object) -> CallOptions:
    """The options of a link that count here."""
    if not isinstance(options, dict):
        raise InvalidTaskError(f"link: options={options!r} is not a dict")
    return check_options(
        {name: options[name] for name in _LINK_OPTIONS if options.get(name)}, method="link"
    )
