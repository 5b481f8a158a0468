"""A job that had ended when its worker was killed is ended by the next one, and not run again."""

from __future__ import annotations

import pytest

from cardoon import states
from cardoon.worker.ipc import FrameType, pack_frame
from cardoon.worker.journal import Writer
from cardoon.worker.leasebook import LeaseBook
from cardoon.worker.resuming import end_leases
from tests.unit.stage import Stage, rules, succeeded
from tests.unit.worker.store import state_of

NAME = "one@host"


class Worker:
    """A worker with a book, and one task process."""

    def __init__(self, folder, state, broker=None, **wishes):
        book = LeaseBook.open(folder / "nodes", NAME)
        assert book is not None
        self.book = book
        self.stage = Stage(state, broker=broker, book=book, **wishes)
        self._pages = book.journal.lend()
        self._writer = Writer(*self._pages.files)

    def take(self):
        """Claim what waits; the new jobs."""
        before = len(self.stage.pool.jobs)
        self.stage.consumer.consume()
        return self.stage.pool.jobs[before:]

    def write_down(self, job, *, ticket=None, **head):
        """The task process writes down how a job ended, and the worker hears nothing of it."""
        told = {"key": job.key, "runtime": 0.1, "kind": "succeeded", **head}
        packed = pack_frame(FrameType.OUTCOME, told, succeeded(5).body)
        self._writer.write(ticket or job.head["ticket"], packed)

    def begin(self):
        """Its first step."""
        end_leases(self.book, self.stage.broker, self.stage.consumer, self.stage.settler)
        self.stage.flush()

    def kill(self):
        """As it looks to the next one."""
        self._pages.give_back()
        self.book.close()


@pytest.fixture
def start(tmp_path):
    """Starts a worker; each after the first finds the store and the identity of that one."""
    made = []

    def make(**wishes):
        broker = made[0].stage.broker if made else None
        made.append(Worker(tmp_path, tmp_path / "state", broker, **wishes))
        return made[-1]

    yield make
    for worker in made:
        worker.stage.close()


def test_what_had_ended_is_ended_and_does_not_run_again(start):
    first = start()
    first.stage.send(1, task_id="t1")
    [job] = first.take()
    first.write_down(job)
    first.kill()

    second = start()
    second.begin()

    assert state_of(second.stage, "t1") == states.SUCCESS
    assert second.stage.depth() == (0, 0, 0)
    assert len(second.stage.held) == 0
    second.kill()
    assert start().book.left == []


def test_what_had_not_ended_is_given_back(start):
    first = start()
    first.stage.send(1, task_id="t1")
    first.stage.send(2, task_id="t2")
    one, other = first.take()
    first.write_down(one)
    first.kill()

    second = start()
    second.begin()

    assert state_of(second.stage, one.id) == states.SUCCESS
    first.stage.clock.advance(2)
    [again] = second.take()
    assert (again.id, again.head["attempt"]) == (other.id, 2)


def test_a_task_that_wanted_a_retry_gets_it_once(start):
    first = start()
    first.stage.send(1, task_id="t1")
    [job] = first.take()
    first.write_down(job, kind="retried", when=None, split=0)
    first.kill()
    second = start()
    second.begin()
    [again] = second.take()
    assert again.head["retries"] == 1
    second.kill()

    third = start()
    third.begin()

    first.stage.clock.advance(2)
    [last] = third.take()
    assert last.head["retries"] == 1, "the old outcome is of an attempt that is over"


def test_a_worker_that_is_killed_before_it_wrote_leaves_it_to_the_next(start):
    first = start()
    first.stage.send(1, task_id="t1")
    [job] = first.take()
    first.write_down(job)
    first.kill()
    start().kill()

    third = start()
    third.begin()

    assert state_of(third.stage, "t1") == states.SUCCESS


def test_a_process_cannot_speak_for_a_job_whose_ticket_it_was_not_given(start):
    first = start()
    first.stage.send(1, task_id="mine")
    first.stage.send(2, task_id="other")
    mine, other = first.take()
    first.write_down(mine, ticket="00" * 16, key=other.key)
    first.kill()

    second = start()
    second.begin()

    assert state_of(second.stage, mine.id) is None
    assert state_of(second.stage, other.id) is None
    assert second.stage.depth()[0] + second.stage.depth()[1] == 2


def test_what_another_worker_has_by_now_is_left_alone(start):
    first = start()
    first.stage.send(1, task_id="t1")
    [job] = first.take()
    first.write_down(job)
    first.kill()
    first.stage.clock.advance(31)
    first.stage.broker.maintain()
    first.stage.clock.advance(2)
    [theirs] = first.stage.broker.receive(["celery"], limit=9, lease=30, timeout=0)

    second = start()
    second.begin()

    assert state_of(second.stage, "t1") is None
    assert list(second.stage.broker.extend([theirs], lease=30)) == [theirs]


def test_a_message_that_the_gate_refuses_by_now_is_not_ended(start, tmp_path):
    first = start()
    first.stage.send(1, task_id="t1")
    [job] = first.take()
    first.write_down(job)
    first.kill()

    second = Worker(tmp_path, tmp_path / "strangers", first.stage.broker)
    second.begin()

    assert state_of(first.stage, "t1") is None
    second.stage.close()


def test_a_task_that_this_worker_does_not_know_is_given_back(start):
    first = start()
    first.stage.send(1, task_id="t1")
    [job] = first.take()
    first.write_down(job)
    first.kill()

    second = start(catalogue={"shop.refund": rules()})
    second.begin()

    assert state_of(second.stage, "t1") is None
    first.stage.clock.advance(2)
    [again] = second.stage.broker.receive(["celery"], limit=9, lease=30, timeout=0)
    assert (again.id, again.attempt, again.crashes) == ("t1", 2, 1)


def test_what_was_acknowledged_before_it_ran_has_no_ticket(start):
    first = start(catalogue={"shop.pay": rules(acks_late=False)})
    first.stage.send(1, task_id="t1")

    [job] = first.take()

    assert "ticket" not in job.head
