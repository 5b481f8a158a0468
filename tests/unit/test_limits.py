"""Unique tasks and limits, from `@app.task` to what runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cardoon import Task, chain, chord, group, states
from cardoon.broker import Kept
from cardoon.calling import NO_OPTIONS
from cardoon.canvas import chunks
from cardoon.exceptions import InvalidTaskError, WorkerLostError
from cardoon.worker.pool import Crashed, Retried
from tests.unit.stage import failed, held_of, rules, succeeded


@pytest.fixture
def declare(stage):
    """Makes a task of the stage's app with these options."""

    def make(**options):
        return stage.app.task(name="shop.pay", **options)(lambda user, amount=1: amount)

    return make


def limited(stage):
    [depth] = stage.broker.depths()
    return depth.ready, depth.limited, depth.leased


# Unique


def test_a_second_call_is_the_first_ones_result(stage, declare):
    pay = declare(unique=True)
    first = pay.delay("ann")

    second = pay.delay("ann")

    assert (second.id, second.is_duplicate) == (first.id, True)
    assert not first.is_duplicate
    assert stage.depth() == (1, 0, 0)
    [job] = stage.consume()
    stage.end(job, succeeded(5))
    assert first.get(timeout=1) == second.get(timeout=1) == 5


def test_other_arguments_are_another_task(stage, declare):
    pay = declare(unique=True)

    results = [pay.delay("ann"), pay.delay("bob"), pay.delay("ann", 2)]

    assert not any(result.is_duplicate for result in results)
    assert stage.depth() == (3, 0, 0)


def test_named_arguments_say_which_calls_are_the_same(stage, declare):
    pay = declare(unique=True, unique_key="user")

    results = [pay.delay("ann", 1), pay.delay("ann", 2), pay.delay(user="ann", amount=3)]

    assert [result.is_duplicate for result in results] == [False, True, True]


def test_a_method_may_say_which_calls_are_the_same(stage):
    class Pay(Task):
        name = "shop.pay"
        unique = True

        def unique_key(self, user, amount):
            return user.lower()

        def run(self, user, amount):
            return amount

    pay = stage.app.register_task(Pay())

    assert pay.delay("Ann", 1).id == pay.delay("ANN", 2).id


def test_the_next_may_be_sent_when_the_first_has_ended(stage, declare):
    pay = declare(unique=True)
    pay.delay("ann")
    [job] = stage.consume()
    running = pay.delay("ann").is_duplicate
    stage.end(job, failed())

    assert running
    assert not pay.delay("ann").is_duplicate


def test_a_period_counts_from_the_send(stage, declare):
    pay = declare(unique=timedelta(minutes=1))
    first = pay.delay("ann")
    [job] = stage.consume()
    stage.end(job, succeeded(5))

    stage.clock.advance(59)
    within = pay.delay("ann")
    stage.clock.advance(1)

    assert within.is_duplicate
    assert within.get(timeout=1) == first.get(timeout=1) == 5
    assert not pay.delay("ann").is_duplicate


def test_a_call_may_say_for_itself_whether_it_is_unique(stage, declare):
    pay = declare(unique=True)
    pay.delay("ann")

    assert pay.apply_async(("ann",), unique=True).is_duplicate
    assert not pay.apply_async(("ann",), unique=False).is_duplicate
    assert stage.depth() == (2, 0, 0)


def test_a_task_that_is_not_known_here_may_be_sent_as_unique(stage):
    results = [
        stage.app.send_task("shop.pay", kwargs={"user": user}, unique=60, unique_key="user")
        for user in ("ann", "ann", "bob")
    ]

    assert [result.is_duplicate for result in results] == [False, True, False]


def test_many_calls_at_once_are_sent_once_each(stage, declare):
    pay = declare(unique=True)

    results = pay.send_many([("ann",), ("bob",), ("ann",)])

    assert [result.is_duplicate for result in results] == [False, False, True]
    assert results[2].id == results[0].id
    assert stage.depth() == (2, 0, 0)


def test_coroutines_that_send_the_same_send_one(stage, declare):
    pay = declare(unique=True)

    async def send():
        return await asyncio.gather(*(pay.adelay("ann") for _ in range(20)))

    results = asyncio.run(send())

    assert len({result.id for result in results}) == 1
    assert sum(not result.is_duplicate for result in results) == 1


def test_sending_again_under_ones_own_id_is_no_duplicate(stage, declare):
    pay = declare(unique=True)

    first, again = (pay.apply_async(("ann",), task_id="t1") for _ in range(2))
    [job] = stage.consume()
    stage.end(job, succeeded(5))

    assert (again.id, again.is_duplicate) == ("t1", False)
    assert first.get(timeout=1) == again.get(timeout=1) == 5


def test_members_of_a_group_may_be_unique(stage, declare):
    pay = declare(unique=True)

    result = group(pay.s("ann"), pay.s("ann"), pay.s("bob")).apply_async()
    for job in stage.consume():
        stage.end(job, succeeded(job.id))

    assert [child.is_duplicate for child in result.children] == [False, True, False]
    assert result.get(timeout=1)[0] == result.get(timeout=1)[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda pay: chain(pay.s("ann"), pay.s()),
        lambda pay: chord([pay.s("ann")], pay.si("bob")),
        lambda pay: pay.s("ann").set(link=pay.si("bob").set(unique=False)),
    ],
)
def test_what_others_wait_for_cannot_be_unique(stage, declare, make):
    pay = declare(unique=True, unique_key="user")

    with pytest.raises(InvalidTaskError, match=r"shop\.pay: unique is for a call that stands al"):
        make(pay).apply_async()

    assert stage.depth() == (0, 0, 0)


def test_a_unique_task_may_be_part_of_a_canvas_without_being_unique_there(stage, declare):
    pay = declare(unique=True).s("ann").set(unique=False)

    chain(pay, pay.clone().set(immutable=True)).apply_async()

    assert stage.depth() == (1, 0, 0)


def test_a_retry_leaves_the_task_unique(stage, declare):
    pay = declare(unique=True)
    pay.delay("ann")
    [job] = stage.consume()
    stage.end(job, Retried(b"{}", stage.clock.now() + 60, None))

    assert stage.depth() == (0, 1, 0)
    assert pay.delay("ann").is_duplicate


def test_a_retry_with_other_arguments_is_unique_as_what_it_is_now(stage, declare):
    pay = declare(unique=True)
    result = pay.delay("ann")
    [job] = stage.consume()
    again = stage.app.make_call("shop.pay", ("bob",), {}, NO_OPTIONS, pay.call_defaults)
    stage.end(job, Retried(b"{}", stage.clock.now(), again))

    assert pay.delay("bob").id == result.id
    assert not pay.delay("ann").is_duplicate
    assert {job.id for job in stage.consume()} > {result.id}


def test_a_retry_is_not_lost_to_another_task_with_its_new_arguments(stage, declare):
    pay = declare(unique=True)
    ann, bob = pay.delay("ann"), pay.delay("bob")
    [job, _] = stage.consume()
    again = stage.app.make_call("shop.pay", ("bob",), {}, NO_OPTIONS, pay.call_defaults)
    stage.end(job, Retried(b"{}", stage.clock.now(), again))

    assert [one.id for one in stage.consume()] == [ann.id]
    assert pay.delay("bob").id == bob.id


def test_a_dead_letter_makes_room_for_the_next(stage, declare):
    pay = declare(unique=True)
    pay.delay("ann")
    [job] = stage.consume()
    stage.end(job, failed(exhausted=True))

    assert len(stage.kept(Kept.DEAD_LETTER)) == 1
    assert not pay.delay("ann").is_duplicate


def test_an_eager_call_is_made_each_time(stage, declare):
    pay = declare(unique=True, concurrency_limit=1)

    assert [pay.apply(("ann",)).get() for _ in range(2)] == [1, 1]


# Limits


def test_no_more_than_the_limit_run(stage, declare):
    pay = declare(concurrency_limit=2)
    for _ in range(5):
        pay.delay("ann")

    jobs = stage.consume()
    seen = [limited(stage)]
    stage.end(jobs[0], succeeded())
    more = stage.consume()
    seen.append(limited(stage))

    assert (len(jobs), len(more)) == (2, 1)
    assert seen == [(0, 3, 2), (0, 2, 2)]


def test_a_limit_is_for_each_key(stage, declare):
    pay = declare(concurrency_limit=1, limit_key="user")
    for user in ("ann", "ann", "bob"):
        pay.delay(user)

    assert len(stage.consume()) == 2
    [use] = stage.broker.limits(limit=9)
    assert use.key.startswith("shop.pay/")
    assert (use.most, use.running, use.waiting) == (1, 1, 1)


def test_a_rate_is_for_all_workers(stage, declare):
    pay = declare(cluster_rate_limit="30/m")
    for _ in range(3):
        pay.delay("ann")
    counts = []
    for _ in range(3):
        counts.append((len(stage.consume()), len(stage.consume())))
        stage.clock.advance(2)

    assert counts == [(1, 0)] * 3


def test_a_call_may_leave_the_limit_out(stage, declare):
    pay = declare(concurrency_limit=1)
    pay.delay("ann")
    pay.apply_async(("ann",), concurrency_limit=0)

    assert len(stage.consume()) == 2


def test_tasks_of_a_canvas_take_turns_as_well(stage, declare):
    pay = declare(concurrency_limit=1)
    chain(pay.s("ann"), pay.s()).apply_async()
    pay.delay("bob")
    seen = []
    for _ in range(3):
        [job] = stage.consume()
        seen.append(job)
        stage.end(job, succeeded("x"))

    assert len(seen) == 3


def test_a_step_whose_key_is_a_result_is_refused(stage, declare):
    pay = declare(concurrency_limit=1, limit_key="user")

    with pytest.raises(InvalidTaskError, match="limit_key is made of arguments by position"):
        chain(pay.s("ann"), pay.s()).apply_async()


def test_a_mapped_task_is_another_task(stage, declare):
    pay = declare(concurrency_limit=1)
    stage.catalogue["cardoon.starmap"] = rules()

    chunks(pay.s(), [("ann", n) for n in range(4)], 2).apply_async()

    assert len(stage.consume()) == 2


@pytest.mark.parametrize("options", [{"concurrency_limit": 1}, {"unique": True}])
def test_what_is_counted_is_acknowledged_late_even_if_it_is_to_run_once(make_stage, options):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)})
    pay = stage.app.task(name="shop.pay", acks_late=False, **options)(lambda: None)
    result = pay.delay()
    [job] = stage.consume()
    second = pay.delay()

    assert held_of(stage, job).delivery.attempt == 1
    assert stage.depth()[2] == 1
    assert second.is_duplicate or stage.consume() == []
    stage.end(job, Crashed("signal 9"))
    with pytest.raises(WorkerLostError):
        result.get(timeout=1)
    assert result.state == states.FAILURE


def test_one_that_is_to_run_once_does_not_run_again_after_its_worker(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(acks_late=False)})
    pay = stage.app.task(name="shop.pay", acks_late=False, concurrency_limit=1)(lambda: None)
    result = pay.delay()
    stage.consume()
    stage.clock.advance(30)
    stage.broker.maintain()
    stage.clock.advance(1)

    assert stage.consume() == []
    with pytest.raises(WorkerLostError, match="it is to run once at most"):
        result.get(timeout=1)


# What cannot be


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"unique": "yes"}, "unique='yes' is neither True nor False nor a number of seconds"),
        ({"unique": 0}, "unique=0 is not between"),
        ({"unique": -5.0}, "unique=-5.0 is not between"),
        ({"unique_key": 5}, "unique_key=5 is neither the name of an argument"),
        ({"unique_key": []}, "unique_key=.. is neither the name of an argument"),
        ({"concurrency_limit": -1}, "concurrency_limit=-1 is not between"),
        ({"concurrency_limit": True}, "concurrency_limit=True is not a whole number"),
        ({"cluster_rate_limit": "fast"}, "cluster_rate_limit='fast' is not a rate"),
        ({"cluster_rate_limit": 1e9}, "cluster_rate_limit=1000000000.0 is not between"),
        ({"concurency_limit": 1}, "did you mean 'concurrency_limit'"),
    ],
)
def test_wrong_options_are_errors_with_a_remedy(stage, declare, options, complaint):
    with pytest.raises(InvalidTaskError, match=complaint):
        declare(**options)
    with pytest.raises(InvalidTaskError, match=complaint):
        stage.app.send_task("shop.pay", kwargs={"user": 1}, **options)


@pytest.mark.parametrize("option", ["unique_key", "limit_key"])
def test_a_key_of_no_argument_is_an_error_at_once(declare, option):
    complaint = f"task 'shop.pay': {option}='usr' is not one of its arguments; did you mean 'user'"

    with pytest.raises(InvalidTaskError, match=complaint):
        declare(unique=True, concurrency_limit=1, **{option: "usr"})


def test_a_key_of_no_argument_is_an_error_of_the_call(declare):
    pay = declare()

    with pytest.raises(InvalidTaskError, match="it takes user, amount"):
        pay.apply_async(("ann",), unique=True, unique_key="zzz")


def test_a_task_that_takes_any_keyword_may_have_a_key_of_any(stage):
    pay = stage.app.task(name="shop.pay", unique=True, unique_key=["shop"])(lambda **more: None)

    assert pay.delay(shop=1, n=1).id == pay.delay(shop=1, n=2).id
    with pytest.raises(InvalidTaskError, match="unique_key='shop' is not one of its arguments"):
        pay.delay(n=3)
