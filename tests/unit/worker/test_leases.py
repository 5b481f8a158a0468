"""The keeper: leases that are renewed or lost, what the dead held, and revocations."""

from __future__ import annotations

import contextlib
import threading

import pytest

from cardoon.broker import Kept
from cardoon.exceptions import OperationalError, Refusal
from cardoon.message.protocol import EVERY_WORKER, Kind
from cardoon.message.serializers import JSON, encode_body
from cardoon.producer import revocation_draft
from cardoon.security.signing import Draft
from cardoon.sender import Revocation
from cardoon.worker.leases import MAX_REVOKED, Keeper, Revoked
from cardoon.worker.orders import Orders
from tests.unit.stage import MAX_BYTES, PATIENCE, held_of, rules, succeeded

LEASE = 30.0


class Link:
    """The way to a store, which cannot be reached while `is_cut`."""

    def __init__(self, broker):
        self._broker = broker
        self.is_cut = False

    def extend(self, deliveries, *, lease):
        self._check()
        return self._broker.extend(deliveries, lease=lease)

    def maintain(self):
        self._check()
        return self._broker.maintain()

    def _check(self):
        if self.is_cut:
            raise OperationalError("away")


def hold(stage, *ids):
    for task_id in ids:
        stage.send(task_id=task_id)
    return [held_of(stage, job) for job in stage.consume()]


# Leases


def test_a_lease_is_renewed_for_as_long_as_the_task_runs(stage):
    hold(stage, "t1")

    for _ in range(20):
        stage.clock.advance(LEASE / 3)
        stage.keeper.tick()

    assert stage.depth() == (0, 0, 1)
    assert stage.dropped == []


def test_leases_are_not_renewed_more_often_than_needed(stage):
    hold(stage, "t1")
    stage.clock.advance(LEASE / 3 - 0.1)
    stage.keeper.tick()
    stage.clock.advance(LEASE * 2 / 3 + 0.1)

    assert stage.broker.maintain() == 1


def test_after_an_outage_leases_are_renewed_before_any_is_taken_back(stage):
    hold(stage, "t1")
    link = Link(stage.broker)
    keeper = keeper_of(stage, link, lease=LEASE)
    link.is_cut = True
    for _ in range(40):
        stage.clock.advance(1)
        with contextlib.suppress(OperationalError):
            keeper.tick()
    link.is_cut = False
    stage.clock.advance(1)

    keeper.tick()

    assert stage.dropped == []
    assert stage.depth() == (0, 0, 1)


def test_a_renewal_that_failed_is_tried_again_at_the_next_tick(stage):
    hold(stage, "t1")
    link = Link(stage.broker)
    keeper = keeper_of(stage, link, lease=LEASE)
    stage.clock.advance(LEASE * 0.9)
    link.is_cut = True
    with pytest.raises(OperationalError):
        keeper.tick()
    link.is_cut = False
    stage.clock.advance(1)

    keeper.tick()
    stage.clock.advance(LEASE / 3)

    assert stage.broker.maintain() == 0


def test_a_message_whose_lease_ran_out_is_given_up(stage):
    [held, _] = hold(stage, "t1", "t2")
    stage.keeper.renew()
    stage.clock.advance(LEASE)
    stage.broker.maintain()  # another worker's keeper was faster

    stage.keeper.tick()

    assert [one.id for one in stage.dropped] == ["t1", "t2"]
    assert stage.dropped[0] is held
    assert stage.event_names().count("task.lease_lost") == 2


def test_a_message_that_somebody_else_has_by_now_is_given_up(stage):
    hold(stage, "t1")
    stage.clock.advance(LEASE)
    stage.broker.maintain()
    stage.clock.advance(LEASE)
    [again] = stage.broker.receive(["celery"], limit=1, lease=LEASE, timeout=0)

    stage.keeper.renew()

    assert again.attempt == 2
    assert [one.id for one in stage.dropped] == ["t1"]


def test_a_message_that_was_acknowledged_before_it_ran_has_no_lease_to_lose(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)})
    [held] = hold(stage, "t1")
    assert held.settled

    stage.clock.advance(LEASE * 2)
    stage.keeper.tick()

    assert stage.dropped == []


def test_only_what_was_lost_is_given_up(stage):
    first, _second = hold(stage, "t1", "t2")
    first.delivery = first.delivery._replace(attempt=0)  # as a worker that slept remembers it

    stage.keeper.renew()

    assert stage.dropped == [first]


def test_the_keeper_takes_back_what_dead_workers_held(stage):
    stage.send(task_id="t1")
    stage.broker.receive(["celery"], limit=1, lease=5.0, timeout=0)
    stage.clock.advance(6)

    stage.keeper.tick()

    assert stage.depth() == (0, 1, 0)


# Revocations


def test_a_revoked_task_is_remembered_and_a_running_one_is_let_end(stage):
    hold(stage, "t1")
    stage.client.revoke(Revocation(("t1", "t2")))

    stage.keeper.listen()

    assert all(task_id in stage.revoked for task_id in ("t1", "t2"))
    assert "t3" not in stage.revoked
    assert stage.terminated == []


def test_a_running_task_is_terminated_if_that_is_wished(stage):
    first, _second = hold(stage, "t1", "t2")
    stage.client.revoke(Revocation(("t1", "elsewhere"), terminate=True, signal="SIGKILL"))

    stage.keeper.listen()

    assert stage.terminated == [(first, "SIGKILL")]
    assert first.revoked == "SIGKILL"


def test_a_revocation_is_carried_out_once(stage):
    hold(stage, "t1")
    stage.client.revoke(Revocation(("t1",), terminate=True))

    stage.keeper.tick()
    stage.keeper.tick()

    assert len(stage.terminated) == 1


def revoke_stamps(stage, terminate=False, **stamps):
    stage.app.control.revoke_by_stamped_headers(stamps, terminate=terminate, signal="KILL")
    stage.keeper.listen()


def test_a_task_with_a_revoked_stamp_does_not_run_and_others_do(stage):
    for tenant in ("a", ["x", "b"], "c"):
        stage.send(stamped_headers=["tenant"], tenant=tenant)
    stage.send()
    revoke_stamps(stage, tenant=["a", "b"])

    jobs = stage.consume()

    assert [job.head["headers"].get("stamps") for job in jobs] == [{"tenant": "c"}, None]
    assert stage.event_names().count("task.revoked") == 2


def test_a_revoked_stamp_holds_for_tasks_that_are_sent_later(stage):
    revoke_stamps(stage, tenant="a")
    result = stage.send(stamped_headers=["tenant"], tenant="a")

    assert stage.consume() == []
    assert result.state == "REVOKED"


def test_a_worker_that_starts_later_hears_of_revoked_stamps(stage):
    stage.app.control.revoke_by_stamped_headers({"tenant": "a"})
    stage.send(stamped_headers=["tenant"], tenant="a")

    stage.keeper.start()

    assert stage.consume() == []


def test_a_revoked_stamp_is_forgotten_with_its_revocation(stage):
    revoke_stamps(stage, tenant="a")
    stage.clock.advance(stage.settings.security_max_age + 1)
    stage.keeper.listen()
    stage.send(stamped_headers=["tenant"], tenant="a")

    assert len(stage.consume()) == 1
    assert not stage.revoked.stamps


def test_running_tasks_with_a_revoked_stamp_are_stopped_on_request(stage):
    stage.send(stamped_headers=["tenant"], tenant="a")
    stage.send(stamped_headers=["tenant"], tenant="b")
    first, _ = (held_of(stage, job) for job in stage.consume())

    revoke_stamps(stage, tenant="a")
    assert stage.terminated == []

    revoke_stamps(stage, tenant="a", terminate=True)
    assert stage.terminated == [(first, "SIGKILL")]
    assert first.revoked == "SIGKILL"


def test_a_worker_that_starts_hears_what_was_revoked_before(stage):
    stage.client.revoke(Revocation(("t1",)))

    stage.keeper.start()

    assert "t1" in stage.revoked


def signed(stage, **changes):
    """A control message, signed by somebody who may."""
    usual = Draft(
        kind=Kind.CONTROL,
        task="revoke",
        id="c1",
        audience=(EVERY_WORKER,),
        codec=JSON,
        body=encode_body({"ids": ["t1"], "terminate": False, "signal": "SIGTERM"}, JSON),
    )
    signer = stage.deployment.make_signer(stage.settings.task_serializer)
    [one] = signer.sign([usual._replace(**changes)])
    return one.frame


def broadcast(stage, frame):
    stage.broker.broadcast(frame, expires_at=stage.clock.now() + 600)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "shutdown"},
        {"body": encode_body({"ids": ["t1"]}, JSON)},
        {"body": encode_body({"ids": "t1", "terminate": False, "signal": "x"}, JSON)},
        {"body": encode_body({"ids": [1], "terminate": False, "signal": "x"}, JSON)},
        {"body": encode_body({"ids": ["t1"], "terminate": 1, "signal": "x"}, JSON)},
        {"body": encode_body({"ids": ["t1"], "terminate": True, "signal": 9}, JSON)},
        {"body": encode_body(["t1"], JSON)},
        {"task": "revoke_by_stamped_headers"},
        *(
            {
                "task": "revoke_by_stamped_headers",
                "body": encode_body({"headers": headers, "terminate": False, "signal": "x"}, JSON),
            }
            for headers in ({}, ["tenant"], {"tenant": "a"}, {"tenant": {"a": 1}})
        ),
        {"body": b"not JSON"},
        {"kind": Kind.TASK, "audience": ("q:celery",)},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_what_is_not_a_revocation_is_refused_and_kept(stage, changes):
    frame = signed(stage, **changes)
    broadcast(stage, frame)

    stage.keeper.listen()

    assert "t1" not in stage.revoked
    assert not stage.revoked.stamps
    [kept] = stage.kept(Kept.QUARANTINE)
    assert (kept.queue, kept.frame) == ("control", frame)
    [event] = [event for event in stage.events() if event.get("kind") == "control"]
    assert event["reason"] == kept.reason


@pytest.mark.parametrize("frame", [b"", b"garbage", bytes(100)])
def test_garbage_in_the_control_channel_is_refused_once(stage, frame):
    broadcast(stage, frame)

    stage.keeper.listen()
    stage.keeper.listen()

    assert len(stage.kept(Kept.QUARANTINE)) == 1


def test_a_refused_message_does_not_hide_those_behind_it(stage):
    broadcast(stage, b"garbage")
    broadcast(stage, signed(stage))

    stage.keeper.listen()

    assert "t1" in stage.revoked


def test_a_revocation_by_a_stranger_is_refused(stage, make_stage):
    stranger = make_stage()
    [one] = stranger.deployment.make_signer("auth").sign([revocation_draft(Revocation(("t1",)))])
    broadcast(stage, one.frame)

    stage.keeper.listen()

    assert "t1" not in stage.revoked
    assert [kept.reason for kept in stage.kept(Kept.QUARANTINE)] == [Refusal.UNKNOWN_SIGNER]


def test_a_revocation_for_other_workers_holds_for_them_and_is_no_news_here(stage):
    broadcast(stage, signed(stage, audience=("w1@elsewhere",)))
    broadcast(stage, signed(stage, headers=b'{"pattern": "w*"}'))

    stage.keeper.listen()

    assert "t1" not in stage.revoked
    assert stage.kept(Kept.QUARANTINE) == []


def test_a_revocation_whose_body_is_a_bomb_is_refused(stage):
    body = encode_body({"ids": ["x" * MAX_BYTES], "terminate": False, "signal": "x"}, JSON)
    broadcast(stage, signed(stage, body=body))

    stage.keeper.listen()

    assert len(stage.kept(Kept.QUARANTINE)) == 1


# What is remembered


def test_the_oldest_revocations_are_forgotten_beyond_the_bound():
    revoked = Revoked()
    revoked.add(("old", "refreshed"))
    revoked.add(tuple(f"t{number}" for number in range(MAX_REVOKED - 2)))

    revoked.add(("refreshed", "new"))

    assert "old" not in revoked
    assert all(one in revoked for one in ("refreshed", "new", "t0"))


# The thread


class PlainBroker:
    """A broker with none of the optional powers, whose store is away for a while."""

    def __init__(self, failures):
        self.failures = failures
        self.renewed = threading.Event()

    def extend(self, deliveries, *, lease):
        if self.failures:
            raise self.failures.pop()
        self.renewed.set()
        return deliveries


def keeper_of(stage, broker, *, lease):
    return Keeper(
        broker=broker,
        orders=Orders(stage.gate, clock=stage.clock, worker="cardoon@here"),
        held=stage.held,
        revoked=stage.revoked,
        audit=stage.audit,
        clock=stage.clock,
        lease=lease,
        max_bytes=MAX_BYTES,
        on_lost=stage.dropped.append,
        on_terminate=lambda *_: None,
    )


def test_the_keeper_outlives_errors_and_needs_no_optional_power(stage):
    hold(stage, "t1")
    broker = PlainBroker([OperationalError("away"), ValueError("a bug")])
    keeper = keeper_of(stage, broker, lease=0.06)

    keeper.start()
    while not broker.renewed.wait(0.005):  # its clock moves when we say so
        stage.clock.advance(0.1)
    keeper.stop(PATIENCE)

    assert broker.failures == []
    assert stage.dropped == []


def test_nothing_is_renewed_while_nothing_is_held(stage):
    broker = PlainBroker([AssertionError("nothing to extend")])

    keeper_of(stage, broker, lease=LEASE).renew()

    assert len(broker.failures) == 1


def test_stopping_is_safe_before_the_start_and_twice(stage):
    keeper = keeper_of(stage, stage.broker, lease=0.06)
    keeper.stop(PATIENCE)

    stage.keeper.start()
    stage.keeper.stop(PATIENCE)
    stage.keeper.stop(PATIENCE)


def test_a_message_that_is_settled_while_leases_are_renewed_is_not_given_up(stage):
    [held] = hold(stage, "t1")
    stage.settler.ended(held.key, succeeded())
    stage.flush()

    stage.keeper.renew()

    assert stage.dropped == []


def test_a_message_whose_end_was_written_just_now_is_not_given_up(stage, monkeypatch):
    [held] = hold(stage, "t1")
    complete = stage.broker.complete

    def complete_and_renew(completions):
        effective = complete(completions)
        stage.keeper.renew()  # before the settler has put it away
        return effective

    monkeypatch.setattr(stage.broker, "complete", complete_and_renew)
    stage.settler.ended(held.key, succeeded())
    stage.flush()

    assert stage.dropped == []
    assert "task.lease_lost" not in stage.event_names()
