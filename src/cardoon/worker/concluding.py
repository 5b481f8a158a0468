"""From how a job ended to what must be stored: decides, and does nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cardoon import states
from cardoon.broker import Ack, Cause, DeadLetter, Quarantine, Requeue, Settlement
from cardoon.contents import JSON, is_built_in, join_codec, split_codec
from cardoon.exceptions import (
    CardoonError,
    ChordError,
    Ignore,
    InvalidTaskError,
    Refusal,
    RefusedError,
    TaskDeniedError,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from cardoon.message.headers import with_asked
from cardoon.message.protocol import Kind
from cardoon.message.serializers import encode_body
from cardoon.producer import NEVER_EXPIRES
from cardoon.result import describe_exception
from cardoon.sandbox.violations import tell as tell_violations
from cardoon.security.gate import VerifiedMessage
from cardoon.security.sealing import CLEAR, Seal
from cardoon.security.signing import Draft
from cardoon.sender import Call
from cardoon.worker.held import Held
from cardoon.worker.inputs import Inputs
from cardoon.worker.pool import (
    Crashed,
    Ending,
    Failed,
    HandedBack,
    Ignored,
    Killed,
    Rejected,
    Replaced,
    Retried,
    Succeeded,
    TimedOut,
    Unreadable,
)

REVOKED = "task.revoked"
EXPIRED = "expired"
"""An event, and the detail of one."""
CRASH_DELAYS = (1.0, 10.0)
"""Seconds before a task that took its process down runs again, after the first crash and later ones."""
REJECT_DELAY = 1.0
"""Seconds before a message that its task put back is delivered again, lest it circle at full speed."""


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
    keep: bool = True
    """Whether anybody but the tasks that wait for it wants the result."""
    skipped: bool = False
    """It did not run, because one that it waits for failed."""
    signal: str = ""
    """By which a revoked task was stopped that had begun."""
    unseen: tuple[str, str] | None = None
    """Type and message of its failure, where the process that ran it could not see it."""


def conclude(held: Held, ending: Ending, *, now: float) -> Conclusion:  # noqa: C901  # one arm per ending
    """The conclusion of a job. `now` in seconds since the epoch."""
    delivery = held.delivery
    match ending:
        case Succeeded(body):
            result = ResultState(states.SUCCESS, held.answer_codec, body)
            return Conclusion(Ack(delivery), result, keep=not held.ignores_result)
        case Failed(body, exhausted):
            result = ResultState(states.FAILURE, held.answer_codec, body)
            return _failed(held, result, exhausted=exhausted)
        case Retried():
            return _retried(held, ending, now=now)
        case Rejected(body, reason, requeue):
            if requeue:
                return Conclusion(Requeue(delivery, Cause.RELEASED, REJECT_DELAY))
            result = ResultState(states.REJECTED, held.answer_codec, body)
            # The reason is the task's own text, which may say what was sealed; its result has it.
            told = "rejected" if held.message.claims.encryption else f"rejected: {reason}"
            return Conclusion(DeadLetter(delivery, told), result)
        case Replaced(calls):
            return _replaced(held, calls)
        case Ignored():
            result = _described(states.IGNORED, Ignore("the task ignored its message"), held)
            return Conclusion(Ack(delivery), result, keep=False)
        case Unreadable(reason, detail):
            error = InvalidTaskError(f"it cannot be read: {reason.value}")
            result = _described(states.FAILURE, error, held)
            return Conclusion(Quarantine(delivery, reason, detail), result, detail=detail)
        case HandedBack():
            return Conclusion(Requeue(delivery, Cause.RELEASED))
        case Crashed(detail):
            return _crashed(held, detail)
        case TimedOut(limit):
            late = TimeLimitExceeded(f"hard time limit of {limit:g} seconds")
            return _failed(held, _described(states.FAILURE, late, held), exhausted=False)._replace(
                unseen=_name(late)
            )
        case Killed(signal):
            return revoked(held, f"terminated ({signal})", signal=signal)


def revoked(held: Held, reason: str, *, dead: bool = False, signal: str = "") -> Conclusion:
    """The end of a task that is not to run (any more)."""
    result = _described(states.REVOKED, TaskRevokedError(reason), held)
    settlement = DeadLetter(held.delivery, reason) if dead else Ack(held.delivery)
    return Conclusion(settlement, result, event=REVOKED, detail=reason, signal=signal)


def dead(held: Held, error: CardoonError, reason: str) -> Conclusion:
    """The end of a task that cannot be completed: kept, and a failure for who waits."""
    result = _described(states.FAILURE, error, held)
    return Conclusion(
        DeadLetter(held.delivery, reason), result, event="task.dead_letter", detail=reason
    )


def denied(held: Held, detail: str) -> Conclusion:
    """The end of a task whose signer may not ask for it: kept for people, and its sender is told."""
    result = _described(states.REJECTED, TaskDeniedError(detail), held)
    return Conclusion(Quarantine(held.delivery, Refusal.DENIED, detail), result, detail=detail)


def lost(held: Held, crashes: int, detail: str) -> Conclusion:
    """The end of a task that took down too many processes."""
    error = WorkerLostError(f"its process died {crashes} times; last: {detail}")
    end = dead(held, error, f"crashed {crashes} times: {detail}")
    return end._replace(unseen=_name(error))


def end_of_lost(held: Held) -> Conclusion | None:
    """The conclusion of a message that has taken down as many processes as it may."""
    crashes, rules = held.delivery.crashes, held.rules
    if crashes >= rules.max_crashes:
        return lost(held, crashes, "the worker that held it was lost")
    # One that is acknowledged before it runs has not run if it is still here.
    may_have_run = not rules.acks_late and held.is_kept_till_end
    if crashes and (may_have_run or not rules.reject_on_worker_lost):
        return lost(held, crashes, "it is to run once at most")
    return None


def skipped(held: Held, inputs: Inputs) -> Conclusion:
    """The end of a task that cannot run: it fails as what it waited for did, or because that is gone."""
    if inputs.failure is not None:
        result = ResultState(states.FAILURE, inputs.failure.claims.codec, inputs.failure.body)
        is_body = bool(held.headers.get("body"))
        keep = not held.ignores_result
        return Conclusion(Ack(held.delivery), result, keep=keep, skipped=not is_body)
    detail = "a task that it waits for is gone without a result"
    result = _described(states.FAILURE, ChordError(detail), held)
    return Conclusion(Ack(held.delivery), result, event="task.orphaned", detail=detail)


def result_draft(
    held: Held, result: ResultState, *, worker: str, now: float, expires: float | None
) -> Draft:
    """What is signed of a result: the state under the signature, and bound to the message."""
    told: dict[str, Any] = {"state": result.state, "worker": worker}
    if states.is_final(result.state):
        told["done"] = round(now, 6)
    told |= _tell_isolation(held)
    return Draft(
        kind=Kind.RESULT,
        task=held.asked,
        id=held.id,
        audience=(),
        codec=result.codec,
        body=result.body,
        retries=held.retries or None,
        headers=json.dumps(told, separators=(",", ":")).encode(),
        request=held.answered,
        lifetime=NEVER_EXPIRES if expires is None else expires,
        seal=answer_seal(held.message),
    )


def _tell_isolation(held: Held) -> dict[str, Any]:
    """What held the task, and what that has refused it; without details where its arguments are sealed."""
    told: dict[str, Any] = {}
    if held.isolation:
        told["isolation"] = held.isolation
    if found := held.violations.all():
        if held.message.claims.encryption is not None:
            found = tuple(one._replace(detail="") for one in found)
        told["violations"] = tell_violations(found)
    return told


def answer_seal(message: VerifiedMessage) -> Seal:
    """To whom a result is sealed, and what takes a message's place: whoever was to read that.

    These are the key that the message was sealed to, for other workers and for tasks that wait, and the
    one that its sender has named. So what is sealed is answered sealed, and what is in the clear in the
    clear, whatever the settings here; and it takes no keyset, which may have expired meanwhile.
    """
    encryption = message.claims.encryption
    if encryption is None:
        return CLEAR
    return Seal((message.sealed_to,) if message.sealed_to else (), encryption.reply)


def _failed(held: Held, result: ResultState, *, exhausted: bool = False) -> Conclusion:
    delivery = held.delivery
    end = Conclusion(
        Ack(delivery),
        result,
        keep=not held.ignores_result or held.rules.store_errors_even_if_ignored,
    )
    if exhausted:
        reason = "retries used up"
        settlement = DeadLetter(delivery, reason)
        return end._replace(settlement=settlement, event="task.dead_letter", detail=reason)
    if not held.rules.acks_on_failure_or_timeout:
        reason = "failed, and acks_on_failure_or_timeout is off"
        return end._replace(settlement=DeadLetter(delivery, reason))
    return end


def _retried(held: Held, ending: Retried, *, now: float) -> Conclusion:
    """Again later: the same message, unless something has changed or it is acknowledged already."""
    limit = held.message.claims.max_retries
    if limit is not None and held.retries >= limit:
        result = ResultState(states.FAILURE, held.answer_codec, ending.body)
        return _failed(held, result, exhausted=True)
    result = ResultState(states.RETRY, held.answer_codec, ending.body)
    result_wanted = None if held.ignores_result else result
    if ending.replacement is not None:
        call = ending.replacement._replace(id=held.id, task=held.task, retries=held.retries + 1)
        return Conclusion(Ack(held.delivery), result_wanted, [_bounded(call, held)])
    if held.settled:
        return Conclusion(Ack(held.delivery), result_wanted, [_again(held, ending.when)])
    delay = max(0.0, ending.when - now) if ending.when is not None else 0.0
    return Conclusion(Requeue(held.delivery, Cause.RETRIED, delay), result_wanted)


def _replaced(held: Held, calls: Sequence[Call]) -> Conclusion:
    """The canvas is sent, and its last task answers for this one."""
    if sum(call.id == held.id for call in calls) != 1:
        error = InvalidTaskError("replace: the canvas has no task that takes over the id")
        return _failed(held, _described(states.FAILURE, error, held))
    group = held.message.claims.group
    taken = [
        _in_place_of(held, call)._replace(group=group) if call.id == held.id else call
        for call in calls
    ]
    return Conclusion(Ack(held.delivery), None, taken)


def _crashed(held: Held, detail: str) -> Conclusion:
    crashes = held.delivery.crashes + 1
    event = "task.process_lost"
    if held.settled or not (held.rules.reject_on_worker_lost and held.rules.acks_late):
        error = WorkerLostError(detail)
        result = _described(states.FAILURE, error, held)
        end = Conclusion(Ack(held.delivery), result, (), event, detail)
        return end._replace(unseen=_name(error))
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
        queue=held.queue,
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
    claims = held.message.claims
    return _in_place_of(held, call)._replace(max_retries=claims.max_retries, group=claims.group)


def _in_place_of(held: Held, call: Call) -> Call:
    """A call whose result answers this message, and is of the task that was asked for."""
    call = call._replace(request=held.answered)
    try:
        headers = with_asked(call.headers, None if held.asked == call.task else held.asked)
    except RefusedError:
        return call  # whoever receives it refuses it, whatever else it says
    return call._replace(headers=headers)


def _name(error: CardoonError) -> tuple[str, str]:
    return type(error).__name__, str(error)


def own_words(state: str, content: Mapping[str, Any], held: Held) -> ResultState:
    """A state in the worker's own words: as results are written, but JSON where only users' code can."""
    codec = held.answer_codec
    media_type, compression = split_codec(codec)
    if not is_built_in(media_type):
        codec = join_codec(JSON, compression)
    return ResultState(state, codec, encode_body(content, codec))


def _described(state: str, error: BaseException, held: Held) -> ResultState:
    return own_words(state, {"error": describe_exception(error), "traceback": ""}, held)
