"""The settler: writes what happened, in order, and loses nothing while the store is away."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from cardoon.broker import Ack, Completion, Kept, Requeue
from cardoon.brokers.memory import MemoryBroker
from cardoon.exceptions import CardoonError, OperationalError
from cardoon.message.serializers import JSON, encode_body
from cardoon.sender import Call, Handle
from cardoon.testing import FakeClock
from cardoon.worker.concluding import ResultState, denied, revoked
from cardoon.worker.pool import Crashed, Failed, HandedBack, Killed, Retried, Succeeded, TimedOut
from cardoon.worker.settler import Bare, Concluded, Ended, Send, Settler, State
from tests.security.spiffe import HOUR, Helper, Server
from tests.unit.stage import PATIENCE, body, failed, held_of, rules, stale, succeeded

CALL = Call(task="shop.ship", id="c1", queue="celery", codec=JSON, body=body())
UNSIGNABLE = CALL._replace(id="c2", queue="line\nbreak")


class WeakBroker(MemoryBroker):
    """A store that fails as often as it is told to."""

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.failures = []

    def complete(self, completions):
        if self.failures:
            raise self.failures.pop(0)
        return super().complete(completions)

    def publish(self, outgoing, *, timeout):
        if outgoing and self.failures:
            raise self.failures.pop(0)
        super().publish(outgoing, timeout=timeout)


@pytest.fixture
def weak(make_stage):
    """A worker on a store that fails as often as it is told to."""
    return make_stage(broker=WeakBroker(FakeClock()))


def hold(stage, *ids, **options):
    for task_id in ids:
        stage.send(task_id=task_id, **options)
    return [held_of(stage, job) for job in stage.consume()]


def state_of(stage, task_id):
    report = stage.client.load([Handle(task_id)]).get(task_id)
    return None if report is None else report.state


def wait_until(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Asked:
    """A send of task code, and the answer to it."""

    def __init__(self, stage, *calls, timeout=5.0):
        self.answers = []
        self.answered = threading.Event()
        self.item = Send(calls, stage.clock.monotonic() + timeout, self._done)

    def _done(self, answer):
        self.answers.append(answer)
        self.answered.set()

    def wait(self):
        assert self.answered.wait(PATIENCE)
        [answer] = self.answers
        return answer


# Endings


def test_the_end_of_a_job_is_written_and_its_message_let_go(stage):
    [held] = hold(stage, "t1")

    stage.settler.ended(held.key, succeeded(5))
    stage.flush()

    assert stage.depth() == (0, 0, 0)
    assert state_of(stage, "t1") == "SUCCESS"
    assert len(stage.held) == 0


def test_a_job_that_is_not_held_any_more_ends_without_effect(stage):
    [held] = hold(stage, "t1")
    stage.settler.ended(held.key, succeeded(5))
    stage.flush()

    stage.settler.ended(held.key, failed())
    stage.settler.ended(10_000, failed())
    stage.flush()

    assert state_of(stage, "t1") == "SUCCESS"


def test_outcomes_that_gather_are_all_written(stage):
    jobs = hold(stage, *[f"t{number}" for number in range(100)])

    stage.settler.put(*(Ended(held, succeeded(held.id)) for held in jobs))
    stage.flush()

    assert stage.depth() == (0, 0, 0)
    assert {state_of(stage, held.id) for held in jobs} == {"SUCCESS"}


@pytest.mark.parametrize("ending", [failed(), Crashed("signal 9"), TimedOut(1.0)], ids=repr)
def test_however_a_revoked_task_took_its_end_it_was_revoked(stage, ending):
    [held] = hold(stage, "t1")
    held.revoked = "SIGTERM"

    stage.settler.put(Ended(held, ending))
    stage.flush()

    assert state_of(stage, "t1") == "REVOKED"
    assert stage.depth() == (0, 0, 0)


def test_a_revoked_task_that_was_faster_has_succeeded(stage):
    [held] = hold(stage, "t1")
    held.revoked = "SIGTERM"

    stage.settler.put(Ended(held, succeeded(5)))
    stage.flush()

    assert state_of(stage, "t1") == "SUCCESS"


def test_a_message_that_never_ran_is_concluded(stage):
    stage.send(task_id="t1")
    stage.revoked.add(("t1",))

    assert stage.consume() == []

    assert state_of(stage, "t1") == "REVOKED"
    assert "task.revoked" in stage.event_names()


def test_a_delivery_that_was_never_held_can_be_ended(stage):
    stage.send()
    [delivery] = stage.broker.receive(["celery"], limit=1, lease=30, timeout=0)

    stage.settler.put(Bare(Completion(Requeue(delivery))))
    stage.flush()

    assert stage.depth() == (1, 0, 0)


def test_the_outcome_of_a_lost_lease_changes_nothing_and_is_let_go(stage):
    [held] = hold(stage, "t1")
    held.delivery = stale(held.delivery)

    stage.settler.put(Ended(held, succeeded()))
    stage.flush()

    assert stage.depth() == (0, 0, 1)
    assert state_of(stage, "t1") is None
    assert len(stage.held) == 0


def test_a_state_is_stored_and_the_task_runs_on(stage):
    [held] = hold(stage, "t1")

    stage.settler.put(State(held, ResultState("PROGRESS", JSON, encode_body({"result": 5}, JSON))))
    stage.flush()

    assert state_of(stage, "t1") == "PROGRESS"
    assert len(stage.held) == 1


def test_a_state_does_not_come_after_the_end_that_was_put_behind_it(stage):
    [held] = hold(stage, "t1")

    progress = ResultState("PROGRESS", JSON, encode_body({"result": 5}, JSON))
    stage.settler.put(State(held, progress), Ended(held, succeeded()), State(held, progress))
    stage.flush()

    assert state_of(stage, "t1") == "SUCCESS"


@pytest.mark.parametrize("ending", [succeeded(5), failed()], ids=["succeeded", "failed"])
def test_a_task_that_was_acknowledged_early_still_has_a_result(make_stage, ending):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)})
    [held] = hold(stage, "t1")
    assert stage.depth() == (0, 0, 0)

    stage.settler.put(Ended(held, ending))
    stage.flush()

    assert state_of(stage, "t1") in {"SUCCESS", "FAILURE"}
    assert stage.depth() == (0, 0, 0)


@pytest.mark.parametrize(
    ("ending", "left"), [(succeeded(5), "shop.ship"), (failed(), "shop.sorry")]
)
def test_what_waits_for_a_task_is_woken_by_the_end_that_it_waits_for(make_stage, ending, left):
    known = {name: rules(acks_late=False) for name in ("shop.pay", "shop.ship", "shop.sorry")}
    stage = make_stage(catalogue=known)
    [held] = hold(stage, "t1", link={"task": "shop.ship"}, link_error={"task": "shop.sorry"})

    stage.settler.put(Ended(held, ending))
    stage.flush()

    assert [job.task for job in stage.consume()] == [left]


def test_a_task_that_was_acknowledged_early_may_run_again(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)})
    [held] = hold(stage, "t1")

    stage.settler.put(Ended(held, Retried(failed().body, None, None)))
    stage.flush()

    [again] = stage.consume()
    assert (again.id, again.head["retries"]) == ("t1", 1)


# What cannot be signed


@pytest.mark.parametrize("acks_late", [True, False])
def test_a_retry_that_cannot_be_signed_costs_no_neighbour_its_outcome(make_stage, acks_late):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=acks_late)})
    [first], [second] = hold(stage, "neighbour"), hold(stage, "t1")
    late = 9e9  # behind the end of our certificate
    call = Call("shop.pay", "t1", "celery", JSON, body(), eta=late)

    stage.settler.put(Ended(first, succeeded(1)), Ended(second, Retried(failed().body, late, call)))
    stage.flush()

    assert state_of(stage, "neighbour") == "SUCCESS"
    assert state_of(stage, "t1") == "FAILURE"
    assert stage.depth() == (0, 0, 0)


@pytest.mark.parametrize("result", [b"[]", b"no json"])
def test_a_process_that_writes_garbage_for_a_result_harms_no_other_task(stage, result):
    stage.send(task_id="neighbour")
    stage.send(task_id="t1", link={"task": "shop.ship"})
    first, second = (held_of(stage, job) for job in stage.consume())

    stage.settler.put(Ended(first, succeeded(1)), Ended(second, Succeeded(result)))
    stage.flush()

    assert state_of(stage, "neighbour") == "SUCCESS"
    assert stage.depth() == (
        1,
        0,
        0,
    )  # what waited reads it in its own process, and is refused there


# Sends of task code


def test_a_send_of_task_code_is_published_and_answered_with_its_digests(stage):
    asked = Asked(stage, CALL, CALL._replace(id="c2"))

    stage.settler.put(asked.item)

    first, second = asked.wait()
    assert (len(first), len(second)) == (32, 32)
    assert first != second
    assert stage.depth() == (2, 0, 0)


def test_sends_that_gather_get_each_its_own_digests(stage):
    asked = [Asked(stage, *[CALL._replace(id=f"{n}-{k}") for k in range(n)]) for n in (1, 3, 2)]

    stage.settler.put(*(one.item for one in asked))

    assert [len(one.wait()) for one in asked] == [1, 3, 2]
    assert stage.depth() == (6, 0, 0)


def test_a_send_that_cannot_be_signed_fails_alone(stage):
    good, bad, other = (
        Asked(stage, CALL),
        Asked(stage, UNSIGNABLE),
        Asked(stage, CALL._replace(id="c3")),
    )

    stage.settler.put(good.item, bad.item, other.item)

    assert isinstance(bad.wait(), CardoonError)
    assert len(good.wait()) == len(other.wait()) == 1
    assert stage.depth() == (2, 0, 0)


def test_a_send_that_the_store_does_not_take_is_answered_with_the_error(weak):
    weak.broker.failures = [OperationalError("away")]
    asked = Asked(weak, CALL)

    weak.settler.put(asked.item)

    assert isinstance(asked.wait(), OperationalError)
    assert weak.depth() == (0, 0, 0)


# A store that is away


def test_an_outcome_is_written_when_the_store_is_back(weak):
    [held] = hold(weak, "t1")
    weak.broker.failures = [OperationalError("away"), OperationalError("away")]

    weak.settler.put(Ended(held, succeeded(5)))
    weak.flush()

    assert state_of(weak, "t1") == "SUCCESS"
    assert weak.depth() == (0, 0, 0)


def test_an_error_that_no_waiting_mends_costs_its_batch_and_not_the_thread(weak, caplog):
    [held] = hold(weak, "t1")
    weak.broker.failures = [ValueError("a bug")]
    with caplog.at_level(logging.CRITICAL, logger="cardoon.worker.settler"):
        weak.settler.put(Ended(held, succeeded(5)))
        weak.flush()

    assert weak.depth() == (0, 0, 1)  # till its lease brings it back
    assert len(weak.held) == 0

    weak.send(task_id="t2")
    [job] = weak.consume()
    weak.end(job, succeeded(5))
    assert state_of(weak, "t2") == "SUCCESS"


def test_senders_are_not_left_waiting_by_an_error_that_no_waiting_mends(weak):
    weak.broker.failures = [ValueError("a bug")]
    asked = Asked(weak, CALL)

    weak.settler.put(asked.item)

    assert isinstance(asked.wait(), OperationalError)


# An identity that cannot sign


def test_an_outcome_waits_for_a_certificate_that_is_late(make_stage, tmp_path, caplog):
    server, helper = Server(), Helper(tmp_path / "svid")
    helper.write(server, server.issue("worker"))
    stage = make_stage(settings=helper.settings())
    [held] = hold(stage, "t1")
    stage.clock.advance(HOUR + 1)
    with caplog.at_level(logging.WARNING, logger="cardoon.worker.settler"):
        stage.settler.put(Ended(held, succeeded(5)))
        wait_until(lambda: "certificate has expired; issue a new one" in caplog.text)
        assert len(stage.held) == 1

        helper.write(server, server.issue("worker", at=HOUR))
        stage.clock.advance(1)
        stage.flush()

    assert state_of(stage, "t1") == "SUCCESS"
    assert stage.depth() == (0, 0, 0)
    assert stage.kept(Kept.DEAD_LETTER) == []


# The beginning and the end


def make_settler(stage):
    return Settler(stage.ledger, held=stage.held, clock=stage.clock)


def test_what_was_put_before_the_start_is_written(stage):
    [held] = hold(stage, "t1")
    settler = make_settler(stage)

    settler.put(Concluded(held, revoked(held, "no")))
    settler.start()

    assert settler.stop(PATIENCE)
    assert state_of(stage, "t1") == "REVOKED"


def test_a_settler_that_stops_writes_what_is_left(stage):
    jobs = hold(stage, "t1", "t2", "t3")
    settler = make_settler(stage)
    settler.start()
    for held in jobs:
        settler.put(Ended(held, succeeded()))

    assert settler.stop(PATIENCE)
    assert settler.stop(PATIENCE)

    assert stage.depth() == (0, 0, 0)


def test_stopping_is_safe_before_the_start(stage):
    assert make_settler(stage).stop(PATIENCE)


def test_a_settler_whose_store_stays_away_says_that_it_has_not_ended(weak):
    [held] = hold(weak, "t1")
    weak.broker.failures = [OperationalError("away")] * 3
    settler = Settler(weak.ledger, held=weak.held, clock=weak.clock)
    settler.start()
    settler.put(Ended(held, HandedBack()))

    assert settler.stop(0.0) is False

    assert settler.stop(PATIENCE)
    assert weak.depth() == (1, 0, 0)


def test_dead_letters_are_told_to_the_audit(stage):
    [held] = hold(stage, "t1")

    stage.settler.put(Ended(held, Failed(failed().body, exhausted=True)))
    stage.flush()

    assert [kept.id for kept in stage.kept(Kept.DEAD_LETTER)] == ["t1"]
    assert "task.dead_letter" in stage.event_names()


def test_a_refusal_is_on_record_once_and_before_its_sender_is_told(weak):
    [held] = hold(weak, "t1")
    weak.broker.failures = [OperationalError("away")] * 1000

    weak.settler.put(Concluded(held, denied(held, "no rule")))
    wait_until(lambda: "task.unauthorized" in weak.event_names())
    assert state_of(weak, "t1") is None
    weak.broker.failures.clear()
    weak.flush()

    assert state_of(weak, "t1") == "REJECTED"
    assert weak.event_names().count("task.unauthorized") == 1


def test_a_killed_task_is_acknowledged_as_revoked(stage):
    [held] = hold(stage, "t1")

    stage.settler.put(Ended(held, Killed("SIGKILL")))
    stage.flush()

    assert state_of(stage, "t1") == "REVOKED"


def test_settling_twice_has_an_effect_once(stage):
    [held] = hold(stage, "t1")

    stage.settler.put(Bare(Completion(Ack(held.delivery))), Bare(Completion(Ack(held.delivery))))
    stage.flush()

    assert stage.depth() == (0, 0, 0)
    assert stage.event_names().count("task.lease_lost") == 1


def test_an_operator_reads_how_each_task_ended_and_how_long_it_took(stage, caplog):
    [held] = hold(stage, "t1")
    stage.clock.advance(1.5)

    with caplog.at_level(logging.INFO, logger="cardoon.worker.settler"):
        stage.settler.put(Ended(held, succeeded()))
        stage.flush()

    assert "task shop.pay[t1] success in 1.5000s" in caplog.messages
