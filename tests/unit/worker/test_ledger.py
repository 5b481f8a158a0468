"""The ledger: what is signed and written, with one transaction and without."""

from __future__ import annotations

import pytest

from cardoon import states
from cardoon.broker import Ack, Cause, Kept, Limit, Quarantine, Requeue, Unique
from cardoon.exceptions import ImproperlyConfigured, Refusal
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON
from cardoon.producer import report_of
from cardoon.security.replay import NonceClaim, NonceState
from cardoon.sender import Call, Duplicate, Handle
from cardoon.worker.concluding import Conclusion, ResultState, conclude, revoked
from cardoon.worker.ledger import Ledger
from tests.unit.stage import body, held_of, rules, stale, succeeded

CALL = Call(task="shop.ship", id="c1", queue="celery", codec=JSON, body=body())
RESULT = ResultState(states.SUCCESS, JSON, succeeded(5).body)


@pytest.fixture(params=[True, False], ids=["one store", "two stores"])
def either(request, make_stage):
    """A worker whose results lie in the broker's store, or elsewhere."""
    return make_stage(same_store=request.param, catalogue={"shop.pay": rules()})


def hold(stage, **options):
    stage.send(**options)
    [job] = stage.consume()
    return held_of(stage, job)


def complete(stage, held, conclusion):
    [sealed] = stage.ledger.seal([(held, conclusion.result)])
    stage.ledger.complete([stage.ledger.completion(held, conclusion, sealed)])


def nonce_state(stage, held):
    [state] = stage.broker.claim([NonceClaim(held.message.nonce, "another", 1)])
    return state


def test_a_result_is_signed_by_the_worker_and_answers_its_message(stage):
    held = hold(stage, task_id="t1")

    [sealed] = stage.ledger.seal([(held, RESULT)])

    message = stage.deployment.result_gate().open(
        sealed.frame, kind=Kind.RESULT, id="t1", request=held.message.request
    )
    report = report_of(message)
    assert (report.state, report.worker, report.done_at) == (
        "SUCCESS",
        "cardoon@here",
        stage.clock.now(),
    )
    assert message.signer.name == stage.deployment.identity().identity.name
    assert (sealed.task_id, sealed.final) == ("t1", True)


@pytest.mark.parametrize(
    ("expires", "until"), [(60.0, 60.0), (None, None)], ids=["a minute", "never"]
)
def test_a_result_may_be_forgotten_when_it_expires(make_stage, expires, until):
    stage = make_stage(result_expires=expires)

    [sealed] = stage.ledger.seal([(hold(stage), RESULT)])

    assert sealed.expires_at == (None if until is None else stage.clock.now() + until)


@pytest.mark.parametrize(
    ("state", "final"),
    [("PROGRESS", False), ("STARTED", False), ("RETRY", False), ("FAILURE", True)],
)
def test_only_the_last_word_is_final(stage, state, final):
    [sealed] = stage.ledger.seal([(hold(stage), RESULT._replace(state=state))])

    assert sealed.final is final


def test_where_results_are_kept_nowhere_none_is_part_of_a_completion(make_stage):
    stage = make_stage(results=False)
    held = hold(stage)
    [sealed] = stage.ledger.seal([(held, RESULT)])

    completion = stage.ledger.completion(held, conclude(held, succeeded(), now=0.0), sealed)

    assert not stage.ledger.keeps_results
    assert (completion.result, completion.outcome) == (None, None)


def test_a_completion_settles_stores_publishes_and_marks(either):
    held = hold(either, task_id="t1")

    complete(either, held, Conclusion(Ack(held.delivery), RESULT, [CALL]))

    assert either.depth() == (1, 0, 0)
    [delivery] = either.broker.receive(["celery"], limit=9, lease=30, timeout=0)
    assert delivery.id == "c1"
    assert either.client.load([Handle("t1", held.message.request)])["t1"].state == "SUCCESS"
    assert nonce_state(either, held) is NonceState.DONE


def test_a_message_that_runs_again_may_be_claimed_again(either):
    held = hold(either)

    complete(either, held, Conclusion(Requeue(held.delivery, Cause.RETRIED), RESULT))

    [delivery] = either.broker.receive(["celery"], limit=9, lease=30, timeout=0)
    claim = NonceClaim(held.message.nonce, delivery.receipt, delivery.attempt)
    assert either.broker.claim([claim]) == [NonceState.CLAIMED]


def test_an_outcome_whose_lease_was_lost_is_told_to_the_audit(either):
    held = hold(either, task_id="t1")
    held.delivery = stale(held.delivery)

    complete(either, held, revoked(held, "x"))

    assert either.depth() == (0, 0, 1)
    [event] = [event for event in either.events() if event["event"] == "task.lease_lost"]
    assert (event["task_id"], event["queue"]) == ("t1", "celery")


def test_an_outcome_whose_lease_was_lost_has_no_effect_in_one_store(stage):
    held = hold(stage, task_id="t1")
    held.delivery = stale(held.delivery)

    complete(stage, held, Conclusion(Ack(held.delivery), RESULT, [CALL]))

    assert stage.depth() == (0, 0, 1)
    assert stage.client.load([Handle("t1")]) == {}


class PlainBroker:
    """A broker without transactions; what it is asked, it has its store do."""

    def __init__(self, broker):
        self._broker = broker

    def publish(self, outgoing, *, timeout):
        self._broker.publish(outgoing, timeout=timeout)

    def settle(self, settlements):
        return self._broker.settle(settlements)


class GuardedBroker(PlainBroker):
    """One that remembers what was carried out."""

    def claim(self, claims):
        return self._broker.claim(claims)

    def finish(self, nonces):
        self._broker.finish(nonces)

    def memory(self):
        return self._broker.memory()

    def begin_anew(self):
        return self._broker.begin_anew()


def ledger_on(stage, broker):
    return Ledger(
        broker=broker,
        backend=stage.backend,
        shared_store=False,
        task_signer=stage.deployment.make_signer("auth"),
        result_signer=stage.deployment.make_signer("auth"),
        audit=stage.audit,
        clock=stage.clock,
        worker="w",
        result_expires=None,
    )


@pytest.mark.parametrize("kind", [PlainBroker, GuardedBroker])
def test_a_broker_without_transactions_gets_the_same_in_steps(make_stage, kind):
    stage = make_stage(same_store=False)
    held = hold(stage, task_id="t1")
    ledger = ledger_on(stage, kind(stage.broker))

    [sealed] = ledger.seal([(held, RESULT)])
    ledger.complete(
        [ledger.completion(held, Conclusion(Ack(held.delivery), RESULT, [CALL]), sealed)]
    )

    assert stage.depth() == (1, 0, 0)
    assert stage.client.load([Handle("t1", held.message.request)])["t1"].state == "SUCCESS"
    expected = NonceState.DONE if kind is GuardedBroker else NonceState.CLAIMED
    assert nonce_state(stage, held) is expected


def test_what_takes_the_place_of_a_message_has_its_id_wherever_results_are(either):
    held = hold(either, task_id="t1")

    complete(either, held, Conclusion(Ack(held.delivery), RESULT, [CALL._replace(id="t1")]))

    [delivery] = either.broker.receive(["celery"], limit=9, lease=30, timeout=0)
    assert (delivery.id, delivery.attempt) == ("t1", 1)


def test_in_steps_a_requeued_message_is_not_marked_as_done(make_stage):
    stage = make_stage(same_store=False)
    held = hold(stage)
    ledger = ledger_on(stage, GuardedBroker(stage.broker))

    ledger.complete([ledger.completion(held, Conclusion(Requeue(held.delivery)), None)])

    assert stage.depth() == (1, 0, 0)
    assert nonce_state(stage, held) is NonceState.CLAIMED


def test_completing_nothing_asks_nothing_of_the_store(stage):
    ledger_on(stage, None).complete([])


def test_calls_of_task_code_are_signed_as_the_worker_and_published(stage):
    digests = stage.ledger.publish([CALL, CALL._replace(id="c2", eta=1.7001e9)], timeout=5)

    assert stage.depth() == (1, 1, 0)
    [delivery] = stage.broker.receive(["celery"], limit=9, lease=30, timeout=0)
    message = stage.gate.open(delivery.frame, kind=Kind.TASK)
    assert message.request == digests[0]
    assert message.signer.name == stage.deployment.identity().identity.name


def test_what_was_acknowledged_early_is_written_without_its_lease(stage):
    held = hold(stage, task_id="t1")
    conclusion = Conclusion(Ack(held.delivery), RESULT, [CALL])
    [sealed] = stage.ledger.seal([(held, RESULT)])

    stage.ledger.write_apart([stage.ledger.completion(held, conclusion, sealed)])

    assert stage.depth() == (1, 0, 1)
    assert stage.client.load([Handle("t1")])["t1"].state == "SUCCESS"


def test_what_follows_an_early_acknowledgement_is_never_turned_away(stage):
    call = CALL._replace(unique=Unique("key"))
    stage.ledger.publish([call], timeout=5)
    held = hold(stage, task_id="t1")
    conclusion = Conclusion(Ack(held.delivery), None, [call._replace(id="t1")])
    stage.broker.settle([Ack(held.delivery)])

    stage.ledger.write_apart([stage.ledger.completion(held, conclusion, None)])

    ids = [one.id for one in stage.broker.receive(["celery"], limit=9, lease=30, timeout=0)]
    assert ids == ["t1"]


def test_a_second_call_with_a_key_gets_the_first_ones_id(stage):
    call = CALL._replace(unique=Unique("key"))

    first, second = stage.ledger.publish([call, call._replace(id="c2")], timeout=5)

    assert isinstance(first, bytes)
    assert second == Duplicate("c1")


def test_a_broker_that_keeps_no_limits_is_given_none(make_stage):
    ledger = ledger_on(make_stage(same_store=False), PlainBroker(None))

    for bound in ({"unique": Unique("key")}, {"limit": Limit("key", 1)}):
        with pytest.raises(ImproperlyConfigured, match=r"shop\.ship: this broker"):
            ledger.publish([CALL._replace(**bound)], timeout=5)


# The audit


def test_a_quarantined_message_is_noted_by_its_reason(stage):
    held = hold(stage, task_id="t1")
    settlement = Quarantine(held.delivery, Refusal.BOMB, "too much")

    stage.ledger.note_refusal(held, Conclusion(settlement, detail="too much"))

    [event] = [event for event in stage.events() if event["event"] == "message.too_large"]
    assert {name: event[name] for name in ("kind", "task", "task_id", "reason", "detail")} == {
        "kind": "task",
        "task": "shop.pay",
        "task_id": "t1",
        "reason": Refusal.BOMB,
        "detail": "too much",
    }


def test_a_conclusion_is_noted_if_it_is_worth_a_record(stage):
    held = hold(stage, task_id="t1")
    before = len(stage.events())

    stage.ledger.note_end(held, conclude(held, succeeded(), now=0.0))
    assert len(stage.events()) == before

    stage.ledger.note_end(held, revoked(held, "expired"))
    assert [event["detail"] for event in stage.events()[before:]] == ["expired"]


def test_the_first_final_result_stays_where_stores_are_apart(make_stage):
    stage = make_stage(same_store=False)
    held = hold(stage, task_id="t1")
    for state in ("SUCCESS", "FAILURE"):
        stage.ledger.store_states(stage.ledger.seal([(held, RESULT._replace(state=state))]))

    assert stage.client.load([Handle("t1")])["t1"].state == "SUCCESS"
    assert stage.kept(Kept.QUARANTINE) == []
