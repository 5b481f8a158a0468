"""Which process runs which job, and when something is due."""

from __future__ import annotations

import math

import pytest

from cardoon.worker.child import Phase
from cardoon.worker.pacing import Pace
from cardoon.worker.placing import RELEASE_AFTER
from cardoon.worker.scheduler import RECALL_AFTER, Scheduler
from tests.unit.worker.processes import finish, job, jobs, serve


class Crew:
    """A scheduler with some processes, closed at the end."""

    def __init__(self):
        self.schedulers = []

    def __call__(self, *slots, depth=1, max_tasks=None):
        pace = Pace()
        if depth > 1:
            pace.observe(0.02 / (depth + 0.5))
        assert pace.depth == depth
        scheduler = Scheduler(pace, max_tasks=max_tasks)
        self.schedulers.append(scheduler)
        for index, number in enumerate(slots, start=1):
            serve(scheduler, index, slots=number)
        return scheduler, *scheduler.processes.values()


@pytest.fixture
def crew():
    made = Crew()
    yield made
    for scheduler in made.schedulers:
        for process in scheduler.processes.values():
            process.close()


def keys(process):
    return list(process.jobs)


def test_jobs_go_to_the_process_with_the_fewest(crew):
    scheduler, first, second = crew(1, 1, depth=4)

    scheduler.add(jobs(1), now=0.0)
    touched = scheduler.add(jobs(2, 3, 4), now=0.0)

    assert (keys(first), keys(second)) == ([1, 3], [2, 4])
    assert set(touched) == {first, second}


def test_only_processes_that_were_given_something_are_reported(crew):
    scheduler, first, _second = crew(1, 1)

    assert scheduler.add(jobs(1), now=0.0) == [first]
    assert scheduler.add([], now=0.0) == []


def test_a_process_of_long_tasks_is_given_one_for_each_slot(crew):
    scheduler, single, several = crew(1, 3)

    scheduler.add(jobs(*range(1, 10)), now=0.0)

    assert (len(single.jobs), len(several.jobs)) == (1, 3)
    assert scheduler.room() == 0
    assert [job.key for job in scheduler.take_backlog()] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RETIRING, Phase.DEAD])
def test_only_a_process_that_serves_is_given_jobs(crew, phase):
    scheduler, process = crew(1)
    process.phase = phase

    assert scheduler.add(jobs(1), now=0.0) == []
    assert scheduler.room() == 0
    assert not scheduler.is_worth_a_claim()

    process.phase = Phase.SERVING
    assert scheduler.place_backlog(0.0) == [process]


def test_what_waits_is_placed_in_the_order_in_which_it_came(crew):
    scheduler, process = crew(1)
    scheduler.add(jobs(1, 2, 3), now=0.0)
    scheduler.add(jobs(4), now=0.1)

    order = []
    for _ in range(4):
        [key] = keys(process)
        order.append(key)
        finish(scheduler, process, key, now=0.2)

    assert order == [1, 2, 3, 4]
    assert scheduler.is_empty()


def test_what_waits_can_be_taken_back_once(crew):
    scheduler, _process = crew(1)
    scheduler.add(jobs(1, 2, 3), now=0.0)

    assert [job.key for job in scheduler.take_backlog()] == [2, 3]
    assert scheduler.take_backlog() == []


def test_a_job_is_found_where_it_is(crew):
    scheduler, first, second = crew(1, 1)
    scheduler.add(jobs(1, 2, 3), now=0.0)

    assert scheduler.find(1) == (first, first.jobs[1])
    assert scheduler.find(2) == (second, second.jobs[2])
    assert scheduler.find(3) is None
    assert scheduler.find(99) is None


# Jobs that must be alone


def test_a_job_that_must_be_alone_gets_an_empty_process_to_itself(crew):
    scheduler, first, second = crew(1, 1, depth=4)
    scheduler.add(jobs(1), now=0.0)

    scheduler.add([job(2, alone=True), *jobs(3, 4)], now=0.0)

    assert (keys(first), keys(second)) == ([1, 3, 4], [2])


def test_a_job_that_must_be_alone_waits_until_a_busy_process_has_run_empty(crew):
    scheduler, process = crew(1, depth=4)
    scheduler.add(jobs(1, 2), now=0.0)

    assert scheduler.add([job(3, alone=True)], now=0.0) == []
    scheduler.add(jobs(4), now=0.0)
    assert keys(process) == [1, 2]
    assert scheduler.room() == 0

    finish(scheduler, process, 1, now=0.1)
    assert keys(process) == [2]
    finish(scheduler, process, 2, now=0.1)
    assert keys(process) == [3]
    finish(scheduler, process, 3, now=0.1)
    assert keys(process) == [4]


def test_a_job_that_must_be_alone_is_not_held_up_by_those_that_wait_for_room(crew):
    scheduler, process = crew(1)
    scheduler.add(jobs(1, 2), now=0.0)

    scheduler.add([job(3, alone=True)], now=0.0)

    order = [1]
    finish(scheduler, process, 1, now=0.1)
    while process.jobs:
        [key] = keys(process)
        order.append(key)
        finish(scheduler, process, key, now=0.1)
    assert order == [1, 3, 2]


def test_two_jobs_that_must_be_alone_do_not_share_a_process(crew):
    scheduler, process = crew(1, depth=4)

    scheduler.add([job(1, alone=True), job(2, alone=True)], now=0.0)
    assert keys(process) == [1]

    finish(scheduler, process, 1, now=0.1)
    assert keys(process) == [2]


def test_a_process_that_runs_empty_without_a_reservation_is_free_for_all(crew):
    scheduler, process = crew(1)
    scheduler.add([job(1, alone=True)], now=0.0)
    assert scheduler.room() == 0

    process.remove(1, now=0.1)

    assert not scheduler.begin_reserved(process, 0.1)
    assert scheduler.room() == 1


# Processes that may run so many tasks and no more


def test_a_process_is_given_no_more_tasks_than_it_may_run(crew):
    scheduler, process = crew(1, depth=8, max_tasks=3)

    scheduler.add(jobs(1, 2), now=0.0)
    assert (scheduler.room(), scheduler.is_spent(process)) == (1, False)
    scheduler.add(jobs(3, 4), now=0.0)

    assert keys(process) == [1, 2, 3]
    assert scheduler.room() == 0
    assert scheduler.is_spent(process)


def test_a_spent_process_is_not_reserved_for_one_task_more(crew):
    scheduler, process = crew(1, max_tasks=1)
    scheduler.add(jobs(1), now=0.0)

    scheduler.add([job(2, alone=True)], now=0.0)
    process.remove(1, now=0.1)

    assert not scheduler.begin_reserved(process, 0.1)
    assert [job.key for job in scheduler.take_backlog()] == [2]


# When to claim


def test_an_idle_slot_is_worth_a_claim_and_a_full_pool_is_not(crew):
    scheduler, first, _second = crew(1, 1)
    assert scheduler.is_worth_a_claim()

    scheduler.add(jobs(1), now=0.0)
    assert scheduler.is_worth_a_claim()

    scheduler.add(jobs(2), now=0.0)
    assert not scheduler.is_worth_a_claim()

    finish(scheduler, first, 1, now=0.1)
    assert scheduler.is_worth_a_claim()


def test_a_pipeline_is_filled_again_when_it_is_half_empty(crew):
    scheduler, process = crew(1, depth=8)
    scheduler.add(jobs(*range(8)), now=0.0)
    worth = []
    for key in range(8):
        finish(scheduler, process, key, now=0.1)
        worth.append(scheduler.is_worth_a_claim())

    assert worth == [False, False, False, True, True, True, True, True]


def test_nothing_is_claimed_while_something_waits(crew):
    scheduler, first, _second = crew(1, 1)
    scheduler.add([*jobs(1, 2), job(3, alone=True), job(4, alone=True), *jobs(5)], now=0.0)

    first.remove(1, now=0.1)

    assert not scheduler.is_worth_a_claim()


# When something is due


def test_nothing_is_due_where_nothing_runs(crew):
    scheduler, _process = crew(1)

    assert scheduler.next_due() == math.inf
    assert scheduler.due(1e9) == ([], [], [], [])


def test_limits_count_from_the_moment_at_which_a_task_begins(crew):
    scheduler, process = crew(1, depth=2)
    scheduler.add([job(1), job(2, soft_limit=2.0, hard_limit=5.0)], now=10.0)
    process.recalling = True  # asked for, and still here

    finish(scheduler, process, 1, now=20.0)
    placed = process.jobs[2]

    assert scheduler.next_due() == 22.0
    assert scheduler.due(21.9) == ([], [], [], [])
    assert scheduler.due(22.0).soft == [(process, placed)]
    placed.soft_at = None
    assert scheduler.next_due() == 25.0
    assert scheduler.due(25.0) == ([(process, placed)], [], [], [])


def test_a_hard_limit_wins_over_a_soft_one_that_was_missed(crew):
    scheduler, process = crew(1)
    scheduler.add([job(1, soft_limit=2.0, hard_limit=5.0)], now=0.0)

    due = scheduler.due(60.0)

    assert due.hard == [(process, process.jobs[1])]
    assert due.soft == []


def test_every_slot_of_a_process_has_its_own_limits(crew):
    scheduler, process = crew(3)
    scheduler.add([job(key, soft_limit=float(key)) for key in (3, 1, 2)], now=0.0)

    assert [placed.job.key for _, placed in scheduler.due(2.0).soft] == [1, 2]
    assert len(process.running) == 3


def test_jobs_behind_a_slow_one_are_taken_elsewhere_once(crew):
    scheduler, process = crew(1, depth=4)
    scheduler.add(jobs(1, 2), now=1.0)

    assert scheduler.next_due() == 1.0 + RECALL_AFTER
    assert scheduler.due(1.0 + RECALL_AFTER / 2).stuck == []
    assert scheduler.due(1.0 + RECALL_AFTER).stuck == [process]

    process.recalling = True
    assert scheduler.due(2.0).stuck == []
    assert scheduler.next_due() == math.inf


def test_a_slow_task_with_nothing_behind_it_is_left_alone(crew):
    scheduler, _process = crew(1, depth=4)
    scheduler.add(jobs(1), now=0.0)

    assert scheduler.due(3600.0) == ([], [], [], [])


def test_what_no_process_takes_in_time_goes_back_the_oldest_first(crew):
    scheduler, _process = crew(1)
    scheduler.add(jobs(1, 2), now=0.0)
    scheduler.add(jobs(3), now=1.0)

    assert scheduler.next_due() == RELEASE_AFTER
    assert [job.key for job in scheduler.due(RELEASE_AFTER).overdue] == [2]
    assert scheduler.next_due() == 1.0 + RELEASE_AFTER
    assert [job.key for job in scheduler.due(60.0).overdue] == [3]
    assert scheduler.take_backlog() == []


def test_a_job_that_waits_can_be_taken_away(crew):
    scheduler, _ = crew(1)
    scheduler.add(jobs(1, 2, 3), 0.0)

    assert scheduler.withdraw(2)
    assert not scheduler.withdraw(2)
    assert not scheduler.withdraw(1), "it runs"
    assert [one.key for one in scheduler.take_backlog()] == [3]
