"""From a delivery to a job: what runs, what waits, what ends at once, and what is refused."""

from __future__ import annotations

import os
import threading

import pytest

from cardoon.broker import Kept
from cardoon.brokers.memory import MemoryBroker
from cardoon.drafting import call_draft
from cardoon.exceptions import OperationalError, Refusal
from cardoon.message.serializers import JSON, decode_body
from cardoon.sender import Call, Handle
from cardoon.testing import FakeClock
from cardoon.worker.claiming import UNKNOWN_GRACE, Options
from cardoon.worker.consumer import (
    HELD_ELSEWHERE_DELAY,
    MAX_CLAIM,
    UNKNOWN_DELAY,
    Consumer,
)
from cardoon.worker.pool import HandedBack, Retried
from tests.unit.stage import MAX_BYTES, PATIENCE, PLAIN, body, failed, held_of, rules, succeeded
from tests.unit.worker.store import error_of, frames, only, put, state_of

# What runs


def test_a_verified_message_becomes_a_job(stage):
    sent = stage.send(1, 2, task_id="t1", root_id="r1", parent_id="p1", headers={"x": "y"})

    [job] = stage.consume()

    held = held_of(stage, job)
    assert (job.task, job.id, job.alone) == ("shop.pay", "t1", False)
    assert (job.soft_limit, job.hard_limit) == (None, None)
    assert decode_body(JSON, job.body, max_bytes=MAX_BYTES)[0] == [1, 2]
    assert held.message.request == sent.request
    assert job.head == {
        "key": job.key,
        "task": "shop.pay",
        "id": "t1",
        "codec": JSON,
        "max_bytes": MAX_BYTES,
        "retries": 0,
        "max_retries": held.message.claims.max_retries,
        "eta": None,
        "expires": None,
        "root": "r1",
        "parent": "p1",
        "headers": {"headers": {"x": "y"}},
        "queue": "celery",
        "attempt": 1,
        "hostname": "cardoon@here",
        "origin": held.message.signer.name,
    }


def test_an_unsigned_message_is_a_job_without_an_origin_where_that_is_allowed(make_stage):
    stage = make_stage(settings=PLAIN)
    stage.send()

    [job] = stage.consume()

    assert job.head["origin"] is None


def test_every_job_has_a_key_of_its_own(stage):
    for _ in range(20):
        stage.send()

    assert len({job.key for job in stage.consume()}) == 20


def test_a_message_that_runs_again_says_how_often_it_did(stage):
    stage.send(task_id="t1", max_retries=5)
    [job] = stage.consume()
    stage.end(job, Retried(failed().body, None, None))

    [again] = stage.consume()

    assert (again.head["retries"], again.head["attempt"]) == (1, 2)
    assert again.key != job.key


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", (20.0, 10.0)),
        (b'{"timelimit":[60,30]}', (60, 30)),
        (b'{"timelimit":[60,null]}', (60, 10.0)),
        (b'{"timelimit":[null,5]}', (20.0, 5)),
        (b'{"timelimit":[true,"x"]}', (20.0, 10.0)),
        (b'{"timelimit":[-1,0]}', (20.0, 10.0)),
        (b'{"timelimit":7}', (20.0, 10.0)),
        (b'{"timelimit":[1,2,3]}', (20.0, 10.0)),
    ],
)
def test_the_limits_of_a_message_count_more_than_those_of_its_task(make_stage, header, expected):
    stage = make_stage(catalogue={"shop.pay": rules(time_limit=20.0, soft_time_limit=10.0)})
    stage.send_raw(headers=header)

    [job] = stage.consume()

    assert (job.hard_limit, job.soft_limit) == expected


def test_a_message_that_took_a_process_down_runs_alone(stage):
    stage.send()
    [job] = stage.consume()
    held_of(stage, job)
    stage.clock.advance(60)
    stage.broker.maintain()  # whoever held it is lost
    stage.clock.advance(60)

    [again] = stage.consume()

    assert again.alone


def test_a_task_that_is_followed_tells_that_it_has_begun(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(track_started=True)})
    stage.send(task_id="t1")

    stage.consume()

    report = stage.client.load([Handle("t1")])["t1"]
    told = decode_body(report.codec, report.body, max_bytes=MAX_BYTES)
    assert (report.state, told) == (
        "STARTED",
        {"result": {"pid": os.getpid(), "task": "shop.pay"}},
    )


# What is acknowledged before it runs


@pytest.mark.parametrize("same_store", [True, False])
def test_a_task_that_must_run_at_most_once_is_acknowledged_before(make_stage, same_store):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)}, same_store=same_store)
    stage.send(task_id="t1")
    [frame] = frames(stage)

    [job] = stage.consume()

    assert stage.depth() == (0, 0, 0)
    assert held_of(stage, job).settled
    put(stage, frame)
    assert stage.consume() == []
    assert only(stage, Kept.QUARANTINE).reason == Refusal.REPLAYED


def test_a_task_that_could_not_be_acknowledged_before_does_not_run(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False), "shop.late": rules()})
    stage.send(task_id="t1")
    stage.send(task_id="t2", task="shop.late")
    deliveries = stage.broker.receive(["celery"], limit=9, lease=1.0, timeout=0)
    stage.clock.advance(5)
    stage.broker.maintain()

    stage.consumer.admit(deliveries)

    assert [job.id for job in stage.pool.jobs] == ["t2"]


class SlowBroker:
    """A store whose answers to a claim take their time to arrive."""

    def __init__(self, stage, seconds):
        self._stage = stage
        self._seconds = seconds
        self.is_cut = False
        self.renewed = 0
        self.renewals_take = []

    def receive(self, queues, **options):
        deliveries = self._stage.broker.receive(queues, **{**options, "timeout": 0})
        self._stage.clock.advance(self._seconds)
        self._stage.broker.maintain()
        return deliveries

    def extend(self, deliveries, *, lease):
        if self.is_cut:
            raise OperationalError("away")
        self.renewed += len(deliveries)
        kept = self._stage.broker.extend(deliveries, lease=lease)
        if self.renewals_take:
            self._stage.clock.advance(self.renewals_take.pop(0))
        return kept

    def settle(self, settlements):
        return self._stage.broker.settle(settlements)


def test_a_claim_that_took_longer_to_arrive_than_its_leases_last_begins_nothing(stage):
    stage.send(task_id="t1")

    consumer_on(stage, SlowBroker(stage, 31.0)).consume()

    assert stage.pool.jobs == []
    assert stage.depth() == (0, 1, 0)


def test_a_claim_that_comes_late_is_renewed_before_anything_begins(stage):
    stage.send(task_id="t1")
    slow = SlowBroker(stage, 20.0)

    consumer_on(stage, slow).consume()
    stage.clock.advance(20.0)

    assert [job.id for job in stage.pool.jobs] == ["t1"]
    assert stage.broker.maintain() == 0


def test_a_claim_that_is_prompt_is_not_renewed(stage):
    stage.send(task_id="t1")
    prompt = SlowBroker(stage, 1.0)

    consumer_on(stage, prompt).consume()

    assert [job.id for job in stage.pool.jobs] == ["t1"]
    assert prompt.renewed == 0


def test_a_late_claim_that_cannot_be_renewed_is_handed_back_without_blame(stage):
    stage.send(task_id="t1")
    slow = SlowBroker(stage, 20.0)
    slow.is_cut = True

    consumer_on(stage, slow).consume()
    stage.flush()

    assert stage.pool.jobs == []
    [again] = stage.broker.receive(["celery"], limit=9, lease=30, timeout=0)
    assert (again.attempt, again.crashes) == (2, 0)


def test_a_renewal_that_is_late_itself_is_repeated(stage):
    stage.send(task_id="t1")
    slow = SlowBroker(stage, 20.0)
    slow.renewals_take = [25.0]

    consumer_on(stage, slow).consume()
    stage.clock.advance(20.0)

    assert [job.id for job in stage.pool.jobs] == ["t1"]
    assert stage.broker.maintain() == 0


def test_what_cannot_be_renewed_in_time_is_handed_back(stage):
    stage.send(task_id="t1")
    slow = SlowBroker(stage, 20.0)
    slow.renewals_take = [20.0] * 100

    consumer_on(stage, slow).consume()
    stage.flush()

    assert stage.pool.jobs == []
    assert stage.depth() == (1, 0, 0)


def test_what_was_acknowledged_before_it_runs_is_not_renewed_and_runs(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)})
    stage.send(task_id="t1")

    consumer_on(stage, SlowBroker(stage, 20.0)).consume()

    assert [job.id for job in stage.pool.jobs] == ["t1"]


class PlainBroker:
    """A broker without transactions, in front of a store."""

    def __init__(self, broker):
        self._broker = broker

    def settle(self, settlements):
        return self._broker.settle(settlements)


def consumer_on(stage, broker, *, queues=("celery",), pool=None, grace=UNKNOWN_GRACE):
    return Consumer(
        Options(
            queues=queues,
            lease=30.0,
            hostname="w",
            max_bytes=MAX_BYTES,
            unknown_grace=grace,
        ),
        broker=broker,
        guard=stage.broker,
        gate=stage.gate,
        pool=pool or stage.pool,
        settler=stage.settler,
        held=stage.held,
        revoked_ids=stage.revoked,
        catalogue=stage.catalogue,
        audit=stage.audit,
        clock=stage.clock,
    )


def test_a_broker_without_transactions_acknowledges_before_in_steps(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)})
    stage.send(task_id="t1")
    [frame] = frames(stage)
    consumer = consumer_on(stage, PlainBroker(stage.broker))

    consumer.admit(stage.broker.receive(["celery"], limit=9, lease=30, timeout=0))

    assert [job.id for job in stage.pool.jobs] == ["t1"]
    put(stage, frame)
    assert stage.consume() == []


# What waits


def offer_early(stage, seconds):
    """A message that is offered before its signed time."""
    call = Call("shop.pay", "t1", "celery", JSON, body(), eta=stage.clock.now() + seconds)
    [signed] = stage.deployment.make_signer("auth").sign([call_draft(call)])
    put(stage, signed.frame, id="t1")


def test_a_message_that_is_offered_before_its_time_waits_for_it(stage):
    offer_early(stage, 60)

    assert stage.consume() == []

    assert stage.depth() == (0, 1, 0)
    stage.clock.advance(59.9)
    assert stage.consume() == []
    stage.clock.advance(0.2)
    assert [job.id for job in stage.consume()] == ["t1"]


def test_who_calls_it_a_retry_has_no_message_run_before_its_time(stage):
    """How often a task has run is written in the store; its time is signed."""
    offer_early(stage, 60)
    [delivery] = stage.broker.receive(["celery"], limit=1, lease=30, timeout=0)

    stage.consumer.admit([delivery._replace(retries=1)])
    stage.flush()

    assert stage.pool.jobs == []
    assert stage.depth() == (0, 1, 0)


def test_a_task_of_an_unknown_name_waits_a_minute_for_a_deploy(stage):
    stage.send(task="shop.new", task_id="t1")

    waited = 0.0
    while stage.depth() != (0, 0, 0):
        assert stage.consume() == []
        stage.clock.advance(UNKNOWN_DELAY)
        waited += UNKNOWN_DELAY

    assert waited == UNKNOWN_GRACE + UNKNOWN_DELAY
    kept = only(stage, Kept.DEAD_LETTER)
    assert (kept.id, kept.reason) == ("t1", "unknown task 'shop.new'")
    assert state_of(stage, "t1") == "FAILURE"
    assert error_of(stage, "t1")["type"] == "NotRegistered"
    assert "task.dead_letter" in stage.event_names()


def test_a_task_that_is_deployed_in_time_runs(stage):
    stage.send(task="shop.new", task_id="t1")
    stage.consume()
    stage.catalogue["shop.new"] = rules()
    stage.clock.advance(UNKNOWN_DELAY)

    assert [job.id for job in stage.consume()] == ["t1"]


def test_a_task_over_its_rate_waits_and_the_others_go_on(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(rate_limit=0.5), "shop.free": rules()})
    for number in range(3):
        stage.send(task_id=f"slow{number}")
        stage.send(task_id=f"free{number}", task="shop.free")

    begun = [job.id for job in stage.consume()]

    assert begun == ["slow0", "free0", "free1", "free2"]
    assert stage.depth() == (0, 2, 4)
    stage.clock.advance(2)
    assert len(stage.consume()) == 1
    stage.clock.advance(2)
    assert len(stage.consume()) == 1


def test_a_message_whose_copy_runs_at_this_moment_waits_for_its_end(stage):
    stage.send(task_id="t1")
    [frame] = frames(stage)
    [job] = stage.consume()
    put(stage, frame)

    assert stage.consume() == []
    assert stage.depth() == (0, 1, 1)

    stage.end(job, succeeded())
    stage.clock.advance(HELD_ELSEWHERE_DELAY)
    assert stage.consume() == []
    assert only(stage, Kept.QUARANTINE).reason == Refusal.REPLAYED


# What ends at once


def test_a_revoked_task_does_not_run(stage):
    stage.send(task_id="t1")
    stage.send(task_id="t2")
    stage.revoked.add(("t1",))

    assert [job.id for job in stage.consume()] == ["t2"]

    assert state_of(stage, "t1") == "REVOKED"
    assert stage.kept(Kept.DEAD_LETTER) == []
    assert "task.revoked" in stage.event_names()


def test_an_expired_task_becomes_a_dead_letter_and_a_revoked_one_for_who_waits(stage):
    stage.send(task_id="t1", expires=10)
    stage.clock.advance(10)

    assert stage.consume() == []

    assert only(stage, Kept.DEAD_LETTER).reason == "expired"
    assert state_of(stage, "t1") == "REVOKED"


def test_a_task_that_has_not_quite_expired_runs(stage):
    stage.send(task_id="t1", expires=10)
    stage.clock.advance(9.9)

    assert [job.id for job in stage.consume()] == ["t1"]


def lose(stage):
    """The message is delivered to somebody who dies."""
    [_] = stage.broker.receive(["celery"], limit=1, lease=1.0, timeout=0)
    stage.clock.advance(2)
    assert stage.broker.maintain() == 1
    stage.clock.advance(20)


def test_a_message_that_lost_as_many_workers_as_it_may_becomes_a_dead_letter(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(max_crashes=2)})
    stage.send(task_id="t1")
    lose(stage)
    [job] = stage.consume()
    stage.end(job, HandedBack())
    lose(stage)

    assert stage.consume() == []

    assert "crashed 2 times" in only(stage, Kept.DEAD_LETTER).reason
    assert error_of(stage, "t1")["type"] == "WorkerLostError"


def test_a_task_that_may_not_run_twice_does_not_after_a_crash(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(reject_on_worker_lost=False)})
    stage.send(task_id="t1")
    lose(stage)

    assert stage.consume() == []

    assert "to run once at most" in only(stage, Kept.DEAD_LETTER).reason
    assert state_of(stage, "t1") == "FAILURE"


# Rounds


def test_a_round_claims_no_more_than_there_is_room_for(make_stage):
    stage = make_stage(room=3)
    for _ in range(5):
        stage.send()

    stage.consumer.consume()

    assert len(stage.pool.jobs) == 3
    assert stage.depth() == (2, 0, 3)


def test_a_round_claims_no_more_than_one_claim_may(make_stage):
    stage = make_stage(room=10 * MAX_CLAIM)
    calls = [(number,) for number in range(MAX_CLAIM + 1)]
    task = stage.app.task(name="shop.pay")(lambda _: None)
    task.send_many(calls)

    stage.consumer.consume()

    assert len(stage.pool.jobs) == MAX_CLAIM


def test_a_full_pool_claims_nothing(make_stage):
    stage = make_stage(room=0)
    stage.send()

    stage.consumer.consume()

    assert stage.depth() == (1, 0, 0)


def test_a_consumer_that_stops_claims_nothing(stage):
    stage.send()

    stage.consumer.request_stop()
    stage.consumer.consume()

    assert stage.depth() == (1, 0, 0)


class StoppingBroker(MemoryBroker):
    """A store during whose claim the worker is told to stop."""

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.stop = lambda: None

    def receive(self, queues, *, limit, lease, timeout):
        deliveries = super().receive(queues, limit=limit, lease=lease, timeout=0)
        self.stop()
        return deliveries


def test_what_was_claimed_while_the_worker_was_told_to_stop_is_handed_back(make_stage):
    stage = make_stage(broker=StoppingBroker(FakeClock()))
    stage.send(task_id="t1")
    stage.broker.stop = stage.consumer.request_stop

    stage.consumer.consume()
    stage.flush()

    assert stage.pool.jobs == []
    assert stage.depth() == (1, 0, 0)
    [delivery] = stage.broker.receive(["celery"], limit=1, lease=30, timeout=0)
    assert (delivery.attempt, delivery.crashes) == (2, 0)


def test_what_was_claimed_while_the_audit_log_filled_up_is_handed_back(make_stage):
    settings = {"security_audit_required": True}
    stage = make_stage(broker=StoppingBroker(FakeClock()), settings=settings)
    stage.audit.record("a")
    stage.send(task_id="t1")

    def fill_up():
        stage.audit.close()
        stage.audit.path.chmod(0o666)
        stage.audit.record("b")

    stage.broker.stop = fill_up
    stage.consumer.consume()
    stage.flush()
    assert stage.pool.jobs == []
    assert stage.depth() == (1, 0, 0)

    stage.audit.path.chmod(0o600)
    stage.audit.retry()
    stage.broker.stop = lambda: None
    stage.consumer.consume()
    assert [job.id for job in stage.pool.jobs] == ["t1"]


class ReportingPool:
    """A pool with room that tells when it has got something."""

    def __init__(self):
        self.jobs = []
        self.got = threading.Event()

    def wait_for_room(self, timeout):
        return 0 if self.got.wait(0) else 10

    def submit(self, jobs):
        self.jobs += jobs
        self.got.set()


class WeakBroker(MemoryBroker):
    """A store that fails a few times."""

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.failures = []

    def receive(self, queues, *, limit, lease, timeout):
        if self.failures:
            raise self.failures.pop()
        return super().receive(queues, limit=limit, lease=lease, timeout=timeout)


def test_a_consumer_outlives_a_store_that_is_away_and_serves_what_comes(make_stage, caplog):
    caplog.set_level("INFO")
    stage = make_stage(broker=WeakBroker(FakeClock()))
    stage.broker.failures = [OperationalError("away")]
    pool = ReportingPool()
    consumer = consumer_on(stage, stage.broker, pool=pool)

    consumer.start()
    stage.send(task_id="t1")
    assert pool.got.wait(PATIENCE)
    consumer.stop(PATIENCE)
    consumer.stop(PATIENCE)

    assert [job.id for job in pool.jobs] == ["t1"]
    told = [one for one in caplog.messages if one.startswith("broker: ")]
    assert told == ["broker: away; trying again", "broker: claims again after 0.0 s"]


def test_a_consumer_outlives_a_bug(make_stage):
    stage = make_stage(broker=WeakBroker(FakeClock()))
    stage.broker.failures = [ValueError("a bug")]
    pool = ReportingPool()
    consumer = consumer_on(stage, stage.broker, pool=pool)
    stage.send(task_id="t1")

    consumer.start()
    assert pool.got.wait(PATIENCE)
    consumer.stop(PATIENCE)

    assert [job.id for job in pool.jobs] == ["t1"]


def test_a_consumer_serves_all_its_queues(stage):
    stage.send(task_id="t1")
    stage.send(task_id="t2", queue="slow")
    consumer = consumer_on(stage, stage.broker, queues=("celery", "slow"))

    consumer.consume()

    assert {job.id for job in stage.pool.jobs} == {"t1", "t2"}
    assert {job.head["queue"] for job in stage.pool.jobs} == {"celery", "slow"}


@pytest.mark.parametrize("limit", ["1" + "0" * 400, "1e300", "-1", "true", '"5"'])
def test_a_limit_beyond_all_measure_is_none(make_stage, limit):
    stage = make_stage()
    stage.send_raw(headers=b'{"timelimit":[%s,null]}' % limit.encode())

    [job] = stage.consume()

    assert job.hard_limit is None
