"""The scheduler at random: whatever happens in whatever order, these things stay true."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cardoon.worker.child import Phase
from cardoon.worker.pacing import Pace
from cardoon.worker.scheduler import Scheduler
from tests.unit.worker.processes import job, serve

LIMIT = st.none() | st.sampled_from([0.5, 3.0])


class SchedulerMachine(RuleBasedStateMachine):
    """Plays the supervisor: whatever it is told, no job may be lost, doubled or out of place."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.next_key = 1
        self.next_index = 1
        self.order = {}  # key of a job: when it was handed in for the last time
        self.ended = set()
        self.alone = set()
        self.turn = 0

    @initialize(max_tasks=st.none() | st.integers(1, 6), limit=st.integers(1, 8))
    def begin(self, max_tasks, limit):
        self.max_tasks = max_tasks
        self.scheduler = Scheduler(Pace(limit), max_tasks=max_tasks)

    # What happens

    @precondition(lambda self: len(self.scheduler.processes) < 4)
    @rule(slots=st.integers(1, 3))
    def a_process_is_ready(self, slots):
        serve(self.scheduler, self.next_index, slots=slots)
        self.next_index += 1
        self.check_placed(self.scheduler.place_backlog(self.now))

    @rule(kinds=st.lists(st.tuples(st.booleans(), LIMIT, LIMIT), min_size=1, max_size=6))
    def jobs_come(self, kinds):
        made = []
        for alone, soft, hard in kinds:
            made.append(job(self.next_key, alone=alone, soft_limit=soft, hard_limit=hard))
            self.next_key += 1
        self.hand_in(made)

    @precondition(lambda self: self.running())
    @rule(choose=st.randoms(use_true_random=False), runtime=st.sampled_from([1e-5, 0.004, 1.0]))
    def a_job_ends(self, choose, runtime):
        process, placed = choose.choice(self.running())
        process.remove(placed.job.key, self.now)
        self.ended.add(placed.job.key)
        self.scheduler.pace.observe(runtime)
        self.after_removal(process)
        self.check_placed(self.scheduler.place_backlog(self.now))

    @precondition(lambda self: self.scheduler.processes)
    @rule(choose=st.randoms(use_true_random=False))
    def a_process_gives_back_what_it_has_not_begun(self, choose):
        process = choose.choice(list(self.scheduler.processes.values()))
        back = [placed.job for placed in process.jobs.values() if not placed.begun]
        for one in back:
            process.remove(one.key, self.now)
            process.taken -= 1
        self.hand_in(back)

    @precondition(lambda self: self.scheduler.processes)
    @rule(choose=st.randoms(use_true_random=False))
    def a_process_is_to_retire(self, choose):
        process = choose.choice(list(self.scheduler.processes.values()))
        process.phase = Phase.RETIRING
        self.after_removal(process)

    @precondition(lambda self: self.scheduler.processes)
    @rule(choose=st.randoms(use_true_random=False))
    def a_process_dies(self, choose):
        self.bury(choose.choice(list(self.scheduler.processes.values())))

    @rule(seconds=st.sampled_from([1 / 64, 1 / 16, 0.5, 2.0]))
    def time_passes(self, seconds):
        wakes_at = self.scheduler.next_due()
        self.now += seconds
        running = {placed.job.key: placed for _, placed in self.running()}

        due = self.scheduler.due(self.now)

        assert any(due) == (wakes_at <= self.now), "the supervisor oversleeps, or spins"
        for _, placed in due.hard:
            assert self.now >= placed.started + placed.job.hard_limit
            assert placed.job.key in running
            placed.hard_at = placed.soft_at = None
        for _, placed in due.soft:
            assert self.now >= placed.started + placed.job.soft_limit
            placed.soft_at = None
        for process in due.stuck:
            assert len(process.jobs) > process.slots
            process.recalling = True
        self.ended.update(one.key for one in due.overdue)

    # What stays true

    @invariant()
    def a_process_runs_a_job_that_must_be_alone_alone(self):
        for process in self.processes():
            if any(placed.job.alone for placed in process.jobs.values()):
                assert len(process.jobs) == 1

    @invariant()
    def a_job_is_in_one_place(self):
        found = [key for process in self.processes() for key in self.keys_of(process)]

        assert len(found) == len(set(found))
        assert not self.ended.intersection(found)

    @invariant()
    def exactly_the_first_jobs_of_a_process_have_begun(self):
        for process in self.processes():
            begun = [placed.begun for placed in process.jobs.values()]
            expected = [place < process.slots for place in range(len(begun))]
            assert begun == expected

    @invariant()
    def no_process_takes_more_tasks_than_it_may(self):
        for process in self.processes():
            assert self.max_tasks is None or process.taken <= self.max_tasks

    @invariant()
    def room_is_what_would_be_placed(self):
        free = 0
        for process in self.processes():
            if process.phase is Phase.SERVING and not process.alone and process.reserved is None:
                room = process.slots * self.scheduler.pace.depth - len(process.jobs)
                left = room if self.max_tasks is None else self.max_tasks - process.taken
                free += max(0, min(room, left))
        assert self.scheduler.room() == free

    def teardown(self):
        placed = {key for process in self.processes() for key in self.keys_of(process)}
        waiting = [one.key for one in self.scheduler.take_backlog()]

        assert len(waiting) == len(set(waiting))
        assert placed.isdisjoint(waiting)
        assert placed | set(waiting) | self.ended == set(range(1, self.next_key))
        for process in self.processes():
            process.close()

    # The supervisor's part

    def hand_in(self, jobs):
        for one in jobs:
            self.turn += 1
            self.order[one.key] = self.turn
            if one.alone:
                self.alone.add(one.key)
        self.check_placed(self.scheduler.add(jobs, self.now))

    def check_placed(self, touched):
        """Whoever was given something has room for it, and nobody was overtaken."""
        placed = {key for process in self.processes() for key in self.keys_of(process)}
        elsewhere = placed | self.ended | self.alone
        waiting = [key for key in self.order if key not in elsewhere]
        for process in touched:
            last = list(process.jobs.values())[-1].job
            if last.alone:
                continue
            assert len(process.jobs) <= process.slots * self.scheduler.pace.depth
            assert all(self.order[key] > self.order[last.key] for key in waiting)

    def after_removal(self, process):
        if process.jobs:
            return
        if self.scheduler.begin_reserved(process, self.now):
            return
        if process.phase is Phase.RETIRING or self.scheduler.is_spent(process):
            self.bury(process)

    def bury(self, process):
        waiting = [process.reserved] if process.reserved is not None else []
        for placed in process.jobs.values():
            if placed.begun:
                self.ended.add(placed.job.key)
            else:
                waiting.append(placed.job)
        del self.scheduler.processes[process.index]
        process.close()
        self.hand_in(waiting)

    def processes(self):
        return list(self.scheduler.processes.values())

    def running(self):
        return [(process, one) for process in self.processes() for one in process.running]

    def keys_of(self, process):
        reserved = [process.reserved.key] if process.reserved is not None else []
        return [*process.jobs, *reserved]


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
