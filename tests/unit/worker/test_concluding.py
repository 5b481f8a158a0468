"""From how a job ended to what must be stored: one test for each way to end."""

from __future__ import annotations

import json

import pytest

from cardoon import states
from cardoon.broker import Ack, Cause, DeadLetter, Quarantine, Requeue
from cardoon.exceptions import NotRegistered, Refusal
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, decode_body
from cardoon.sender import Call
from cardoon.worker.concluding import (
    CRASH_DELAYS,
    NEVER_EXPIRES,
    REJECT_DELAY,
    Conclusion,
    ResultState,
    conclude,
    dead,
    lost,
    result_draft,
    revoked,
)
from cardoon.worker.pool import (
    Crashed,
    Failed,
    HandedBack,
    Ignored,
    Killed,
    Rejected,
    Retried,
    TimedOut,
    Unreadable,
)
from tests.unit.stage import MAX_BYTES, body, failed, succeeded

ERROR = failed().body


def ended(held, ending, *, now=1000.0):
    return conclude(held, ending, now=now)


def error_of(conclusion):
    told = decode_body(conclusion.result.codec, conclusion.result.body, max_bytes=MAX_BYTES)
    return told["error"]["type"], told["error"]["message"]


# Succeeded, failed, rejected and the rest


def test_a_task_that_returned_is_acknowledged_with_its_result(hold):
    held = hold()

    assert ended(held, succeeded(5)) == Conclusion(
        Ack(held.delivery), ResultState(states.SUCCESS, JSON, succeeded(5).body)
    )


def test_a_task_that_raised_is_acknowledged_with_its_error(hold):
    held = hold()

    assert ended(held, failed()) == Conclusion(
        Ack(held.delivery), ResultState(states.FAILURE, JSON, ERROR)
    )


def is_stored(conclusion):
    return conclusion.keep and conclusion.result is not None


@pytest.mark.parametrize("ending", [succeeded(5), Retried(ERROR, None, None), Ignored()])
def test_nothing_is_stored_of_a_task_whose_result_nobody_wants(hold, ending):
    assert not is_stored(ended(hold(ignore_result=True), ending))


def test_the_sender_has_the_last_word_on_whether_a_result_is_wanted(hold):
    held = hold(raw={"headers": b'{"ignore_result":true}'})
    assert not is_stored(ended(held, succeeded(5)))

    held = hold(ignore_result=True, raw={"headers": b'{"ignore_result":false}'})
    assert is_stored(ended(held, succeeded(5)))


@pytest.mark.parametrize("store", [True, False])
def test_an_error_is_stored_although_results_are_ignored_if_that_is_wished(hold, store):
    held = hold(raw={"headers": b'{"ignore_result":true}'}, store_errors_even_if_ignored=store)

    assert is_stored(ended(held, failed())) is store


def test_a_task_that_used_up_its_retries_becomes_a_dead_letter(hold):
    held = hold()

    assert ended(held, failed(exhausted=True)) == Conclusion(
        DeadLetter(held.delivery, "retries used up"),
        ResultState(states.FAILURE, JSON, ERROR),
        (),
        "task.dead_letter",
        "retries used up",
    )


@pytest.mark.parametrize("ending", [failed(), TimedOut(5.0)])
def test_a_failure_that_may_not_be_acknowledged_becomes_a_dead_letter(hold, ending):
    conclusion = ended(hold(acks_on_failure_or_timeout=False), ending)

    assert isinstance(conclusion.settlement, DeadLetter)
    assert "acks_on_failure_or_timeout" in conclusion.settlement.reason
    assert conclusion.result.state == states.FAILURE


def test_a_task_over_its_hard_limit_has_failed_with_the_limit_in_its_error(hold):
    held = hold()

    conclusion = ended(held, TimedOut(2.50))

    assert conclusion.settlement == Ack(held.delivery)
    assert error_of(conclusion) == ("TimeLimitExceeded", "hard time limit of 2.5 seconds")


def test_a_rejected_message_becomes_a_dead_letter_with_the_reason(hold):
    held = hold()

    assert ended(held, Rejected(ERROR, "not mine", requeue=False)) == Conclusion(
        DeadLetter(held.delivery, "rejected: not mine"),
        ResultState(states.REJECTED, JSON, ERROR),
    )


def test_a_message_that_its_task_puts_back_rests_a_second_and_has_no_result(hold):
    held = hold()

    assert ended(held, Rejected(ERROR, "later", requeue=True)) == Conclusion(
        Requeue(held.delivery, Cause.RELEASED, REJECT_DELAY)
    )


def test_an_ignored_task_is_acknowledged_and_says_so_to_those_that_wait_for_it(hold):
    held = hold()

    conclusion = ended(held, Ignored())

    assert (conclusion.settlement, conclusion.keep) == (Ack(held.delivery), False)
    assert conclusion.result.state == states.IGNORED
    assert error_of(conclusion) == ("Ignore", "the task ignored its message")


def test_a_body_that_cannot_be_read_goes_to_the_quarantine(hold):
    held = hold()

    conclusion = ended(held, Unreadable(Refusal.UNDECODABLE, "not JSON"))

    assert conclusion.settlement == Quarantine(held.delivery, Refusal.UNDECODABLE, "not JSON")
    assert (conclusion.result.state, conclusion.detail) == (states.FAILURE, "not JSON")
    assert error_of(conclusion) == ("InvalidTaskError", "it cannot be read: undecodable")


def test_what_was_handed_back_is_delivered_again_at_once_and_nobody_is_blamed(hold):
    held = hold()

    assert ended(held, HandedBack()) == Conclusion(Requeue(held.delivery, Cause.RELEASED, 0.0))


def test_a_task_that_was_stopped_on_request_is_revoked(hold):
    held = hold()

    conclusion = ended(held, Killed("SIGKILL"))

    assert conclusion == revoked(held, "terminated (SIGKILL)", signal="SIGKILL")
    assert conclusion.settlement == Ack(held.delivery)
    assert (conclusion.result.state, conclusion.event) == (states.REVOKED, "task.revoked")
    assert error_of(conclusion) == ("TaskRevokedError", "terminated (SIGKILL)")


# Retries


def test_a_retry_puts_the_same_message_back_until_its_time(hold):
    held = hold()

    assert ended(held, Retried(ERROR, 1007.5, None)) == Conclusion(
        Requeue(held.delivery, Cause.RETRIED, 7.5), ResultState(states.RETRY, JSON, ERROR)
    )


@pytest.mark.parametrize("when", [None, 0.0, 999.0])
def test_a_retry_without_a_time_to_come_runs_at_once(hold, when):
    held = hold()

    assert ended(held, Retried(ERROR, when, None)).settlement == Requeue(
        held.delivery, Cause.RETRIED, 0.0
    )


REPLACEMENT = Call(
    task="shop.other",
    id="another",
    queue="elsewhere",
    codec=JSON,
    body=body(2),
    retries=0,
    max_retries=10_000,
    eta=2000.0,
)


def test_a_retry_that_changes_something_sends_a_new_message_in_place_of_the_old(hold):
    held = hold(1, task_id="t1", max_retries=5)

    conclusion = ended(held, Retried(ERROR, 2000.0, REPLACEMENT))

    assert conclusion.settlement == Ack(held.delivery)
    assert conclusion.result.state == states.RETRY
    [call] = conclusion.calls
    assert (call.queue, call.body, call.eta) == ("elsewhere", body(2), 2000.0)


def test_a_replacement_keeps_the_name_the_limit_and_the_request_that_the_client_signed(hold):
    held = hold(1, task_id="t1", max_retries=5)

    [call] = ended(held, Retried(ERROR, None, REPLACEMENT)).calls

    assert (call.task, call.id) == ("shop.pay", "t1")
    assert (call.retries, call.max_retries) == (1, 5)
    assert call.request == held.message.digest


def test_a_replacement_of_a_replacement_still_answers_the_first_message(hold):
    held = hold(raw={"retries": 2, "max_retries": 5, "request": bytes(range(32))})

    [call] = ended(held, Retried(ERROR, None, REPLACEMENT)).calls

    assert (call.retries, call.request) == (3, bytes(range(32)))


@pytest.mark.parametrize("replacement", [None, REPLACEMENT])
@pytest.mark.parametrize(("signed", "delivered"), [(3, 0), (0, 3), (1, 2), (1, 200)])
def test_no_retry_goes_beyond_the_limit_that_the_client_signed(
    hold, signed, delivered, replacement
):
    held = hold(raw={"retries": signed, "max_retries": 3}, attempts=delivered)

    conclusion = ended(held, Retried(ERROR, None, replacement))

    assert conclusion.settlement == DeadLetter(held.delivery, "retries used up")
    assert conclusion.result == ResultState(states.FAILURE, JSON, ERROR)
    assert conclusion.calls == ()


def test_the_last_retry_that_the_client_signed_is_allowed(hold):
    held = hold(raw={"retries": 1, "max_retries": 3}, attempts=1)

    assert isinstance(ended(held, Retried(ERROR, None, None)).settlement, Requeue)


def test_a_client_that_knows_no_limit_sets_none(hold):
    held = hold(raw={"max_retries": None}, attempts=10_000)

    assert isinstance(ended(held, Retried(ERROR, None, None)).settlement, Requeue)


def test_a_task_that_was_acknowledged_early_retries_as_a_new_message(hold):
    held = hold(
        1,
        task_id="t1",
        acks_late=False,
        expires=600,
        max_retries=4,
        priority=7,
        root_id="r1",
        parent_id="p1",
        headers={"x": "y"},
    )

    conclusion = ended(held, Retried(ERROR, 2000.0, None))

    claims = held.message.claims
    assert conclusion.settlement == Ack(held.delivery)
    assert conclusion.calls == [
        Call(
            task="shop.pay",
            id="t1",
            queue="celery",
            codec=JSON,
            body=held.message.body,
            headers=claims.headers,
            priority=7,
            eta=2000.0,
            expires=claims.expires / 1000,
            retries=1,
            max_retries=4,
            root="r1",
            parent="p1",
            request=held.message.digest,
        )
    ]


# Crashes


def test_a_first_crash_costs_a_second_and_later_ones_ten(hold):
    delays = [
        ended(hold(max_crashes=9, crashes=crashes), Crashed("signal 9")).settlement.delay
        for crashes in range(4)
    ]

    assert delays == [CRASH_DELAYS[0], *[CRASH_DELAYS[1]] * 3]


def test_a_crash_is_told_to_the_audit_and_leaves_no_result(hold):
    held = hold()

    assert ended(held, Crashed("signal 9")) == Conclusion(
        Requeue(held.delivery, Cause.CRASHED, CRASH_DELAYS[0]),
        None,
        (),
        "task.process_lost",
        "signal 9",
    )


def test_a_task_that_took_too_many_processes_down_becomes_a_dead_letter(hold):
    held = hold(max_crashes=3, crashes=2)

    conclusion = ended(held, Crashed("signal 9"))

    assert conclusion == lost(held, 3, "signal 9")
    assert conclusion.settlement == DeadLetter(held.delivery, "crashed 3 times: signal 9")
    assert conclusion.event == "task.dead_letter"
    assert error_of(conclusion) == (
        "WorkerLostError",
        "its process died 3 times; last: signal 9",
    )


@pytest.mark.parametrize(
    "wishes", [{"reject_on_worker_lost": False}, {"acks_late": False}], ids=str
)
def test_a_crash_is_a_failure_where_the_task_must_not_run_twice(hold, wishes):
    held = hold(**wishes)

    conclusion = ended(held, Crashed("signal 9"))

    assert conclusion.settlement == Ack(held.delivery)
    assert conclusion.result.state == states.FAILURE
    assert conclusion.event == "task.process_lost"
    assert error_of(conclusion) == ("WorkerLostError", "signal 9")


# What never ran


def test_a_revoked_message_may_be_kept_as_a_dead_letter(hold):
    held = hold()

    conclusion = revoked(held, "expired", dead=True)

    assert conclusion.settlement == DeadLetter(held.delivery, "expired")
    assert conclusion.result.state == states.REVOKED


def test_a_message_that_cannot_be_completed_is_kept_and_fails_for_who_waits(hold):
    held = hold()

    conclusion = dead(held, NotRegistered("who?"), "unknown task")

    assert conclusion.settlement == DeadLetter(held.delivery, "unknown task")
    assert (conclusion.event, conclusion.detail) == ("task.dead_letter", "unknown task")
    assert error_of(conclusion) == ("NotRegistered", "who?")


@pytest.mark.parametrize("ending", [Killed("SIGTERM"), TimedOut(1.0)])
def test_an_error_of_ours_is_written_as_the_message_was(hold, ending):
    held = hold(settings={"task_compression": "zlib"})

    conclusion = ended(held, ending)

    assert conclusion.result.codec == held.message.claims.codec != JSON
    assert error_of(conclusion)


# The result


def test_a_result_names_the_message_that_it_answers(hold):
    held = hold(task_id="t1")

    draft = result_draft(
        held, ResultState(states.SUCCESS, JSON, b"{}"), worker="w1", now=12.5, expires=60.0
    )

    assert (draft.kind, draft.task, draft.id) == (Kind.RESULT, "shop.pay", "t1")
    assert (draft.request, draft.lifetime, draft.retries) == (held.message.digest, 60.0, None)
    assert json.loads(draft.headers) == {"state": "SUCCESS", "worker": "w1", "done": 12.5}


def test_a_state_on_the_way_is_not_done(hold):
    held = hold(attempts=2)

    draft = result_draft(
        held, ResultState("PROGRESS", JSON, b"{}"), worker="w1", now=12.5, expires=None
    )

    assert json.loads(draft.headers) == {"state": "PROGRESS", "worker": "w1"}
    assert (draft.retries, draft.lifetime) == (2, NEVER_EXPIRES)


def test_a_result_of_a_message_that_took_anothers_place_answers_the_first(hold):
    held = hold(raw={"retries": 1, "max_retries": 3, "request": bytes(range(32))})

    draft = result_draft(
        held, ResultState(states.SUCCESS, JSON, b"{}"), worker="w", now=0.0, expires=None
    )

    assert draft.request == bytes(range(32))


def test_a_failure_keeps_the_body_that_the_process_wrote(hold):
    assert ended(hold(), Failed(b"whatever it says")).result.body == b"whatever it says"
