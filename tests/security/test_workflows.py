"""Attacks on workflows: by somebody who writes the store, or who holds a worker's key.

What waits for others was signed whole by the client, and what it is given by those who ran them; so who
can only write can but hold things up. What is refused is kept and reported, and never run.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from cardoon import chain, chord, states
from cardoon.broker import Input, Kept, Outgoing
from cardoon.exceptions import Refusal
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind, Take
from cardoon.message.serializers import JSON, encode_body
from cardoon.security.signing import Draft
from tests.security.actors import make_person
from tests.workflows.troupe import LEASE, QUEUES, Troupe

MALLORY = make_person("mallory")


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.troupe.close()


class Stage:
    """A client, a worker, and somebody between them."""

    def __init__(self, folder):
        self.troupe = Troupe(folder, security_domain="acme/prod")
        self.ran = []
        app = self.troupe.app

        @app.task(name="leaf")
        def leaf(n):
            self.ran.append(("leaf", n))
            return n

        @app.task(name="pay")
        def pay(*args):
            self.ran.append(("pay", *args))
            return list(args)

        @app.task(name="sorry")
        def sorry(task_id):
            self.ran.append(("sorry", task_id))

        @app.task(name="fail")
        def fail():
            raise ValueError("no")

        self.leaf, self.pay, self.sorry, self.fail = leaf, pay, sorry, fail
        self.consumer, _ = self.troupe.start()

    def run_what_is_due(self):
        """The worker does its duty."""
        self.troupe.end([(job, self.troupe.carry_out(job)) for job in self.troupe.consume()])

    def take(self):
        """What the store would hand to the worker next."""
        return list(self.troupe.broker.receive(QUEUES, limit=100, lease=LEASE, timeout=0))

    def hand(self, *deliveries):
        """Let the worker have them; the jobs that it makes of them."""
        self.consumer.admit(deliveries)
        self.troupe.flush()
        jobs, self.troupe.shelf.jobs = self.troupe.shelf.jobs, []
        return jobs

    def refusal(self, *deliveries):
        """Why the worker refuses them; in the quarantine and in the audit trail."""
        before = len(self.ran)
        assert self.hand(*deliveries) == []
        assert len(self.ran) == before
        [kept] = self.troupe.broker.kept(Kept.QUARANTINE, limit=100)
        trail = (self.troupe.folder / "state" / "audit.jsonl").read_text().splitlines()
        refused = [one for one in map(json.loads, trail) if one.get("reason") == kept.reason]
        assert [one["message"] for one in refused] == [kept.id]
        assert refused[0]["detail"] == kept.detail
        return Refusal(kept.reason)

    def refusal_of_stranger(self, delivery, **forged):
        """The same for what an unknown key signed, which gets a second look."""
        assert self.hand(delivery._replace(**forged)) == []
        self.troupe.clock.advance(2)
        [again] = self.take()
        return self.refusal(again._replace(**forged))

    def due_link(self):
        """A link of a chain that has the result of the one before; and the handle on that."""
        result = chain(self.leaf.s(5), self.pay.s("alice")).apply_async()
        self.run_what_is_due()
        [delivery] = self.take()
        return delivery, result

    def due_body(self, *values):
        """A chord's body with the results of its members."""
        chord([self.leaf.s(value) for value in values], self.pay.s()).apply_async()
        self.run_what_is_due()
        [delivery] = self.take()
        return delivery

    def ended_task(self, value):
        """The request digest and the result of a task that has nothing to do with the others."""
        result = self.leaf.delay(value)
        self.run_what_is_due()
        [sealed] = self.troupe.backend.load([result.id]).values()
        return Input(result.id, result.request, sealed.frame)

    def signed_result(self, task_id, request, *, signer=None, state=states.SUCCESS, value=10**6):
        """A result that says what we like."""
        told = {"state": state, "worker": "w@h", "done": self.troupe.clock.now()}
        draft = Draft(
            kind=Kind.RESULT,
            task="leaf",
            id=task_id,
            audience=(),
            codec=JSON,
            body=encode_body({"result": value}, JSON),
            request=request,
            headers=json.dumps(told).encode(),
        )
        signer = signer or MALLORY.signer(self.troupe.clock, domain="acme/prod")
        [signed] = signer.sign([draft])
        return signed.frame


def answered_by(frame):
    """The digest of claims that a result names."""
    return parse_claims(parse_frame(frame).claims).request


def rebuilt(frame, *, claims=None, body=None):
    """A frame with the same signature over other claims or another body."""
    parsed = parse_frame(frame)
    old_claims, old_body = parsed.claims, parsed.body
    if claims is not None:
        assert frame.count(old_claims) == 1
        frame = frame.replace(old_claims, claims)
    if body is not None:
        assert frame.endswith(old_body)
        frame = frame[: -len(old_body)] + body
    return frame


def test_untouched_it_runs(stage):
    delivery, _ = stage.due_link()
    [job] = stage.hand(delivery)

    stage.troupe.end([(job, stage.troupe.carry_out(job))])

    assert stage.ran == [("leaf", 5), ("pay", 5, "alice")]


def test_a_successor_that_a_stranger_signed_is_refused(stage):
    delivery, _ = stage.due_link()
    [one] = delivery.inputs
    draft = Draft(
        kind=Kind.TASK,
        task="pay",
        id=delivery.id,
        audience=("q:celery",),
        codec=JSON,
        body=encode_body([["mallory"], {}, {"compose": {"form": None}}], JSON),
        after=(one.request,),
        take=Take.RESULT,
    )
    [forged] = MALLORY.signer(stage.troupe.clock, domain="acme/prod").sign([draft])

    assert stage.refusal_of_stranger(delivery, frame=forged.frame) is Refusal.UNKNOWN_SIGNER


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"alice", b"mallo", Refusal.WRONG_DIGEST),
        (b'"form":null', b'"form":0   ', Refusal.WRONG_DIGEST),
    ],
)
def test_the_static_arguments_of_a_successor_cannot_be_changed(stage, old, new, reason):
    delivery, _ = stage.due_link()
    body = parse_frame(delivery.frame).body
    assert old in body

    changed = rebuilt(delivery.frame, body=body.replace(old, new))

    assert stage.refusal(delivery._replace(frame=changed)) is reason


def test_what_a_successor_waits_for_cannot_be_changed_in_its_claims(stage):
    delivery, _ = stage.due_link()
    other = stage.ended_task(10**6)
    claims = parse_frame(delivery.frame).claims
    [one] = delivery.inputs
    old = hashlib.sha256(one.request).digest()
    new = hashlib.sha256(other.request).digest()
    assert old in claims

    changed = rebuilt(delivery.frame, claims=claims.replace(old, new))

    attack = delivery._replace(frame=changed, inputs=(other,))
    assert stage.refusal(attack) is Refusal.BAD_SIGNATURE


def test_the_retries_of_a_successor_cannot_be_raised(stage):
    delivery, _ = stage.due_link()
    claims = parse_frame(delivery.frame).claims
    max_retries = b"\x12\x03"  # label 18 and the 3 that a task has by default
    assert claims.count(max_retries) == 1

    changed = rebuilt(delivery.frame, claims=claims.replace(max_retries, b"\x12\x17"))

    assert stage.refusal(delivery._replace(frame=changed)) is Refusal.BAD_SIGNATURE


def test_another_task_cannot_take_the_place_of_a_predecessor(stage):
    delivery, _ = stage.due_link()
    other = stage.ended_task(10**6)

    assert stage.refusal(delivery._replace(inputs=(other,))) is Refusal.WRONG_INPUT


def test_the_result_of_another_task_is_no_input(stage):
    delivery, _ = stage.due_link()
    other = stage.ended_task(10**6)
    [one] = delivery.inputs

    attack = delivery._replace(inputs=(one._replace(frame=other.frame),))

    assert stage.refusal(attack) is Refusal.WRONG_REQUEST


def test_nor_is_the_answer_to_an_earlier_message_of_the_same_id(stage):
    first = stage.leaf.apply_async((10**6,), task_id="t1")
    stage.run_what_is_due()
    [earlier] = stage.troupe.backend.load([first.id]).values()
    chain(stage.leaf.s(5).set(task_id="t1"), stage.pay.s()).apply_async()
    stage.run_what_is_due()
    [delivery] = stage.take()
    [one] = delivery.inputs

    attack = delivery._replace(inputs=(one._replace(frame=earlier.frame),))

    assert stage.refusal(attack) is Refusal.WRONG_REQUEST


@pytest.mark.parametrize(
    "forge",
    [
        lambda a, b: (b, a),
        lambda a, b: (a, a),
        lambda a, b: (a,),
        lambda a, b: (a, b, b),
        lambda a, b: (),
        lambda a, b: (a, b._replace(request=a.request)),
    ],
    ids=["exchanged", "one twice", "one missing", "one more", "none", "one digest twice"],
)
def test_inputs_are_those_that_were_signed_in_their_order(stage, forge):
    delivery = stage.due_body(1, 2)

    attack = delivery._replace(inputs=forge(*delivery.inputs))

    assert stage.refusal(attack) is Refusal.WRONG_INPUT


def test_one_result_cannot_be_given_twice(stage):
    delivery = stage.due_body(1, 2)
    first, second = delivery.inputs

    attack = delivery._replace(inputs=(first, second._replace(frame=first.frame)))

    assert stage.refusal(attack) is Refusal.WRONG_REQUEST


def test_a_task_that_waits_for_nothing_takes_no_input(stage):
    other = stage.ended_task(10**6)
    stage.pay.delay(1)
    [delivery] = stage.take()

    assert stage.refusal(delivery._replace(inputs=(other,))) is Refusal.WRONG_INPUT


def test_a_result_that_a_stranger_signed_is_no_input(stage):
    delivery, result = stage.due_link()
    [one] = delivery.inputs
    forged = stage.signed_result(result.parent.id, answered_by(one.frame))

    inputs = (one._replace(frame=forged),)

    assert stage.refusal_of_stranger(delivery, inputs=inputs) is Refusal.UNKNOWN_SIGNER


def test_a_result_whose_value_was_changed_is_no_input(stage):
    delivery, _ = stage.due_link()
    [one] = delivery.inputs
    body = parse_frame(one.frame).body

    changed = rebuilt(one.frame, body=body.replace(b"5", b"9"))

    attack = delivery._replace(inputs=(one._replace(frame=changed),))
    assert stage.refusal(attack) is Refusal.WRONG_DIGEST


def test_a_task_is_no_result(stage):
    delivery, _ = stage.due_link()
    [one] = delivery.inputs

    attack = delivery._replace(inputs=(one._replace(frame=delivery.frame),))

    assert stage.refusal(attack) is Refusal.WRONG_KIND


@pytest.mark.parametrize("state", [states.STARTED, states.RETRY, "PROGRESS"])
def test_a_state_on_the_way_wakes_nobody(stage, state):
    delivery, result = stage.due_link()
    [one] = delivery.inputs
    worker = stage.troupe.client.deployment.make_signer("auth")
    told = stage.signed_result(result.parent.id, answered_by(one.frame), signer=worker, state=state)

    attack = delivery._replace(inputs=(one._replace(frame=told),))

    assert stage.refusal(attack) is Refusal.WRONG_INPUT


def test_the_errback_of_a_task_that_succeeded_cannot_be_woken(stage):
    result = stage.leaf.apply_async((5,), link_error=stage.sorry.s())
    [task] = stage.troupe.consume()
    errback = _stored(stage, "sorry")
    stage.troupe.end([(task, stage.troupe.carry_out(task))])
    [sealed] = stage.troupe.backend.load([result.id]).values()
    stage.troupe.broker.publish([Outgoing("celery", errback.id, errback.frame)], timeout=1)
    [delivery] = stage.take()

    attack = delivery._replace(inputs=(Input(result.id, result.request, sealed.frame),))

    assert stage.refusal(attack) is Refusal.WRONG_INPUT
    assert ("sorry", result.id) not in stage.ran


def _stored(stage, task):
    """A message as it lies in the store, dormant or not."""
    messages = stage.troupe.broker._messages.values()  # whoever writes the store reads it, too
    return next(one for one in messages if f"{task}".encode() in parse_frame(one.frame).claims)


def _rename(stage, old, new):
    """A message gets the id of another one, which only the store's own rules forbid."""
    ids = stage.troupe.broker._by_id
    ids[new] = ids.pop(old)
    ids[new].id = new


@pytest.mark.parametrize("kind", ["link", "body", "errback"])
def test_who_is_woken_with_nothing_is_closed_unrun_and_reported(stage, kind):
    match kind:
        case "link":
            delivery, _ = stage.due_link()
        case "body":
            delivery = stage.due_body(1, 2)
        case "errback":
            stage.fail.apply_async(link_error=stage.sorry.s())
            stage.run_what_is_due()
            [delivery] = stage.take()
    ran = list(stage.ran)
    nothing = tuple(one._replace(frame=None) for one in delivery.inputs)

    assert stage.hand(delivery._replace(inputs=nothing)) == []

    assert stage.ran == ran
    assert stage.troupe.left() == (0, 0, 0, 0)
    trail = (stage.troupe.folder / "state" / "audit.jsonl").read_text()
    assert "task.orphaned" in trail


def test_a_successor_runs_once_however_often_it_is_delivered(stage):
    delivery, result = stage.due_link()
    copied = delivery.frame
    [job] = stage.hand(delivery)
    stage.troupe.end([(job, stage.troupe.carry_out(job))])
    assert result.get(timeout=0) == [5, "alice"]
    stage.troupe.broker.publish([Outgoing("celery", delivery.id, copied)], timeout=1)
    [again] = stage.take()

    assert stage.refusal(again._replace(inputs=delivery.inputs)) is Refusal.REPLAYED
    assert stage.ran.count(("pay", 5, "alice")) == 1


def test_a_successor_cannot_be_woken_before_its_time(stage):
    chain(stage.leaf.s(5), stage.pay.s().set(countdown=3600)).apply_async()
    [task] = stage.troupe.consume()
    waiting = _stored(stage, "pay")
    stage.troupe.end([(task, stage.troupe.carry_out(task))])
    [number] = stage.troupe.broker._messages
    inputs = stage.troupe.broker._inputs.of(number)
    stage.troupe.broker.publish([Outgoing("celery", "early", waiting.frame)], timeout=1)
    _rename(stage, "early", waiting.id)
    [early] = stage.take()

    assert stage.hand(early._replace(inputs=inputs)) == []

    assert stage.ran == [("leaf", 5)]
    assert stage.troupe.left() == (0, 2, 0, 0)  # both are put off by what was signed


def test_a_member_that_was_copied_under_another_id_does_not_hold_up_the_body(stage):
    """Whoever runs the copy has the member itself refused as a replay, and the body waits for its id."""
    result = chord([stage.leaf.s(1), stage.leaf.s(2)], stage.pay.s()).apply_async()
    member = _stored(stage, "leaf")
    stage.troupe.broker.publish([Outgoing("celery", "copy", member.frame, priority=9)], timeout=1)

    stage.run_what_is_due()
    stage.run_what_is_due()

    [kept] = stage.troupe.broker.kept(Kept.QUARANTINE, limit=100)
    assert (kept.id, kept.reason) == ("copy", Refusal.WRONG_ID)
    assert result.get(timeout=0) == [[1, 2]]


def test_a_worker_can_add_a_result_but_no_successor_of_a_clients_task(stage):
    """What a worker signs under the id of a dormant message does not take its place."""
    chain(stage.leaf.s(5), stage.pay.s("alice").set(task_id="mine")).apply_async()
    worker = stage.troupe.client.deployment.make_signer("auth")
    body = encode_body([["mallory"], {}, {}], JSON)
    draft = Draft(Kind.TASK, "pay", "mine", ("q:celery",), JSON, body)
    [forged] = worker.sign([draft])

    stage.troupe.broker.publish([Outgoing("celery", "mine", forged.frame)], timeout=1)
    stage.run_what_is_due()
    stage.run_what_is_due()

    assert stage.ran == [("leaf", 5), ("pay", 5, "alice")]
