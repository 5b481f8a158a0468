"""Which process of `isolated` runs which job, and which are made before they are asked for."""

from __future__ import annotations

import pytest

from cardoon.sandbox.profile import Sandbox
from cardoon.worker.brood import Brood
from cardoon.worker.child import Phase, Room, TaskProcess
from cardoon.worker.pacing import Pace
from cardoon.worker.placing import RELEASE_AFTER
from tests.unit.worker.processes import job, jobs


class Hen:
    """Does what a brood wishes, as the supervisor does, without processes behind it."""

    def __init__(self, concurrency: int, *, depth: int = 1) -> None:
        pace = Pace()
        pace.depth = depth
        self.brood = Brood(pace, concurrency=concurrency)
        self.made = 0
        self.ended: list[int] = []

    def grant(self, *, ready: bool = True) -> list[int]:
        """Make and end what is wished for; the profiles that were made."""
        wish = self.brood.wish()
        for process in wish.end:
            self.ended.append(process.profile)
            self.bury(process)
        for profile in wish.make:
            self.made += 1
            process = TaskProcess(self.made, 1, room=Room(profile, Sandbox()))
            self.brood.processes[process.index] = process
            if ready:
                process.phase = Phase.SERVING
        return list(wish.make)

    def finish(self, key: int) -> None:
        process, _ = self.brood.find(key)
        process.remove(key, 0.0)
        process.phase = Phase.SPENT

    def bury(self, process: TaskProcess) -> None:
        process.close()
        del self.brood.processes[process.index]

    def idle(self) -> list[int]:
        ready = [p for p in self.brood.processes.values() if p.phase is Phase.SERVING]
        return sorted(p.profile for p in ready if not p.jobs)

    def run(self, key: int, profile: int) -> bool:
        """Whether a job found a process at once; it is run to its end, and what it took is replaced."""
        found = bool(self.brood.add([job(key, profile=profile)], 0.0))
        if not found:
            self.grant()
            assert self.brood.place_backlog(0.0)
        self.grant()
        process, _ = self.brood.find(key)
        self.finish(key)
        self.bury(process)
        self.grant()
        return found


@pytest.fixture
def hen():
    hens = []

    def make(concurrency, **options):
        hens.append(Hen(concurrency, **options))
        return hens[-1]

    yield make
    for one in hens:
        for process in one.brood.processes.values():
            process.close()


def test_as_many_are_made_ahead_as_run_at_a_time(hen):
    one = hen(3)

    assert one.grant() == [0, 0, 0]
    assert one.grant() == []


def test_no_more_run_at_a_time_than_there_are_places(hen):
    one = hen(2)
    one.grant()
    one.brood.add(jobs(1, 2, 3), 0.0)
    one.grant()

    assert one.brood.place_backlog(0.0) == []
    assert one.brood.room() == 0
    one.finish(1)
    assert [list(p.jobs) for p in one.brood.place_backlog(0.0)] == [[3]]


def test_a_process_is_given_one_job_and_never_another(hen):
    one = hen(2)
    one.grant()
    one.brood.add(jobs(1, 2), 0.0)

    assert all(len(process.jobs) == 1 for process in one.brood.processes.values())
    one.finish(1)
    assert one.brood.add(jobs(4), 0.0) == []


def test_what_was_taken_is_made_anew(hen):
    one = hen(2)
    one.grant()
    one.run(1, 0)

    assert one.idle() == [0, 0]


def test_the_process_that_has_waited_longest_is_taken_first(hen):
    """So that a nest that was replaced runs out of children."""
    one = hen(3)
    one.grant()

    one.brood.add(jobs(1, 2), 0.0)

    assert [process.index for process in one.brood.processes.values() if process.jobs] == [1, 2]


def test_a_job_waits_for_a_process_of_its_own_profile(hen):
    one = hen(2)
    one.grant()

    assert one.brood.add([job(1, profile=5)], 0.0) == []
    assert one.grant() == [5]
    assert one.ended == [0]
    assert [p.profile for p in one.brood.place_backlog(0.0)] == [5]


def test_profiles_that_take_turns_find_what_they_need(hen):
    one = hen(4)
    one.grant()
    for key in range(40):
        one.run(2 * key, 1)
        one.run(2 * key + 1, 2)
    found = [one.run(1000 + key, 1 + key % 2) for key in range(20)]

    assert all(found)
    assert len(one.idle()) == 4


def test_a_profile_that_is_used_all_the_time_does_not_keep_another_from_its_turn(hen):
    one = hen(2)
    one.grant()
    one.brood.add(jobs(*range(10)), 0.0)
    one.brood.add([job(99, profile=7)], 0.0)
    one.brood.add(jobs(*range(10, 30)), 0.0)
    order = []
    while not one.brood.is_empty():
        one.brood.place_backlog(0.0)
        one.grant()
        running = [key for p in one.brood.processes.values() for key in p.jobs]
        order += running
        for key in running:
            process, _ = one.brood.find(key)
            one.finish(key)
            one.bury(process)

    assert order.index(99) <= 12, "it waits for those before it, and for its process to be made"


def test_processes_that_do_not_die_are_not_replaced_for_ever(hen):
    one = hen(2)
    for key in range(100):
        one.grant()
        if one.brood.add(jobs(key), 0.0):
            one.finish(key)

    assert len(one.brood.processes) <= 8


def test_short_jobs_are_claimed_ahead_and_wait_outside_of_processes(hen):
    one = hen(2, depth=4)
    one.grant()

    assert one.brood.room() == 8
    one.brood.add(jobs(1, 2, 3, 4), 0.0)
    assert one.brood.room() == 4
    assert one.brood.is_worth_a_claim()
    one.brood.add(jobs(5, 6), 0.0)
    assert not one.brood.is_worth_a_claim()
    assert [one.key for one in one.brood.take_backlog()] == [3, 4, 5, 6]


def test_a_job_that_waits_can_be_taken_away(hen):
    one = hen(1, depth=4)
    one.grant()
    one.brood.add(jobs(1, 2, 3), 0.0)

    assert one.brood.withdraw(2)
    assert not one.brood.withdraw(2)
    assert not one.brood.withdraw(1), "it runs"
    assert [one.key for one in one.brood.take_backlog()] == [3]


def test_a_job_that_finds_no_process_is_handed_back(hen):
    one = hen(1)
    one.brood.add(jobs(1), 5.0)

    assert one.brood.due(5.0).overdue == []
    assert [j.key for j in one.brood.due(5.0 + RELEASE_AFTER).overdue] == [1]


def test_limits_of_the_running_job_are_due(hen):
    one = hen(1)
    one.grant()
    one.brood.add([job(1, soft_limit=1.0, hard_limit=2.0)], 10.0)

    assert one.brood.next_due() == 11.0
    assert [placed.job.key for _, placed in one.brood.due(11.0).soft] == [1]
    assert [placed.job.key for _, placed in one.brood.due(12.0).hard] == [1]
