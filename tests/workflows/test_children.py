"""What results say of the tasks that were called, and of their own."""

from __future__ import annotations

import json

import pytest

from cardoon import chain, chord, group
from cardoon.exceptions import ChordError, IncompleteStream
from cardoon.result import AsyncResult, GroupResult
from tests.workflows.troupe import run


def add_tasks(troupe):
    app = troupe.app

    @app.task(name="leaf")
    def leaf(n=0):
        return n

    @app.task(name="square")
    def square(n):
        return leaf.delay(n * n).id

    @app.task(name="fan")
    def fan(count):
        group(square.s(n) for n in range(count)).delay()
        return "fanned"

    @app.task(name="fail", bind=True)
    def fail(self, *args):
        leaf.delay(1)
        raise ValueError("no")

    @app.task(name="keep", bind=True)
    def keep(self, name):
        sent = group(leaf.s(n) for n in (1, 2)).apply_async()
        named = GroupResult(name, sent.results, app=app)
        named.save()
        assert GroupResult.restore(name, app=app) == named

    troupe.leaf, troupe.square, troupe.fan = leaf, square, fan
    troupe.fail, troupe.keep = fail, keep
    return troupe


@pytest.fixture
def shop(troupe):
    return add_tasks(troupe)


def stored(shop, result):
    """The body of a result, as it is stored."""
    return json.loads(shop.client.load([result.handle])[result.id].body)


def test_a_result_without_children_says_nothing_of_them(shop):
    result = shop.leaf.delay(5)
    assert result.children is None
    shop.play()

    assert stored(shop, result) == {"result": 5}
    assert result.children == []


def test_a_result_names_what_the_task_has_called(shop):
    result = shop.square.delay(3)
    shop.play()

    [child] = result.children
    assert child.id == result.get()
    assert child.get(timeout=0) == 9


def test_a_group_among_the_children_is_a_group(shop):
    result = shop.fan.delay(3)
    shop.play()

    [child] = result.children
    assert isinstance(child, GroupResult)
    assert len(child.children) == 3
    assert all(isinstance(one, AsyncResult) for one in child)


def test_a_failed_task_names_what_it_has_called(shop):
    result = shop.fail.delay()
    shop.play()

    assert [child.get(timeout=0) for child in result.children] == [1]


def test_a_call_that_does_not_want_a_parent_is_no_child(shop):
    @shop.app.task(name="apart")
    def apart():
        shop.leaf.apply_async(add_to_parent=False)
        chain(shop.leaf.s(1), shop.leaf.si(2)).apply_async(add_to_parent=False)
        shop.leaf.apply_async()

    result = apart.delay()
    shop.play()

    assert len(result.children) == 1


def test_a_task_without_a_trail_names_nobody(shop):
    @shop.app.task(name="trackless", trail=False)
    def trackless():
        shop.leaf.delay()

    result = trackless.delay()
    shop.play()

    assert result.children == []


def test_callbacks_and_the_next_link_are_children_of_what_succeeded(shop):
    first = shop.leaf.s(1)
    first.link(shop.leaf.si(2))
    result = chain(first, shop.leaf.si(3)).apply_async()
    shop.play()

    assert sorted(child.get(timeout=0) for child in result.parent.children) == [2, 3]
    assert result in result.parent.children
    assert result.children == []


def test_callbacks_are_no_children_of_what_failed(shop):
    result = chain(shop.fail.s(), shop.leaf.s()).apply_async()
    shop.play()

    assert result not in result.parent.children


def test_the_body_of_a_chord_is_nobodys_child(shop):
    result = chord([shop.leaf.s(1), shop.leaf.s(2)], shop.leaf.s()).apply_async()
    shop.play()

    assert [member.children for member in result.parent] == [[], []]


@pytest.mark.parametrize("change", [False, True])
def test_a_retry_keeps_what_follows(shop, change):
    @shop.app.task(name="again", bind=True)
    def again(self, change):
        if not self.request.retries:
            raise self.retry(args=(change,) if change else None, countdown=1)

    result = chain(again.s(change), shop.leaf.si(3)).apply_async()
    shop.play()

    assert result.parent.children == [result]


def test_what_takes_a_tasks_place_keeps_what_follows(shop):
    @shop.app.task(name="swap", bind=True)
    def swap(self):
        raise self.replace(chain(shop.leaf.s(1), shop.leaf.si(2)))

    result = chain(swap.s(), shop.leaf.si(3)).apply_async()
    shop.play()

    assert result.parent.children == [result]


def test_no_more_than_a_thousand_children_are_told(shop):
    @shop.app.task(name="prolific")
    def prolific():
        shop.leaf.send_many([(n,) for n in range(1200)])

    result = prolific.delay()
    for job in shop.consume():
        shop.end([(job, shop.carry_out(job))])

    assert len(result.children) == 1000


def test_results_are_collected_down_to_the_leaves(shop):
    result = shop.fan.delay(4)
    shop.play()

    values = [value for child, value in result.collect() if not child.children]

    assert sorted(values) == [0, 1, 4, 9]
    assert result.get_leaf() in {0, 1, 4, 9}


def test_what_has_not_ended_is_an_incomplete_stream(shop):
    result = shop.square.delay(3)

    with pytest.raises(IncompleteStream, match=result.id):
        list(result.iterdeps())
    assert list(result.iterdeps(intermediate=True)) == [(None, result)]


def test_the_graph_shows_who_called_whom(shop):
    result = shop.square.delay(3)
    shop.play()
    [child] = result.children

    graph = result.graph

    assert graph.nodes == [result, child]
    assert graph.edges == [(result, child)]
    assert graph.to_dot() == (
        f'digraph dependencies {{\n  "{result}";\n  "{child}";\n  "{result}" -> "{child}";\n}}\n'
    )


def test_a_group_is_saved_and_restored_in_a_task_and_by_a_client(shop):
    run(shop, shop.keep.s("mine"))

    found = GroupResult.restore("mine", app=shop.app)

    assert found.get(timeout=0) == [1, 2]


def test_a_group_under_the_id_of_a_task_is_not_taken_for_its_result(shop):
    pending = shop.app.AsyncResult("victim")
    run(shop, shop.keep.s("victim"))

    assert pending.state == "PENDING"
    assert not pending.exists()


# What `result_extended` tells


@pytest.fixture
def extended(make_troupe):
    return add_tasks(make_troupe(result_extended=True))


def test_arguments_lie_in_no_result_unless_they_are_asked_for(shop):
    result = shop.leaf.delay(5)
    shop.play()

    assert (result.args, result.kwargs, result.queue) == (None, None, None)
    assert (result.name, result.worker, result.retries) == ("leaf", "cardoon@here", 0)


def test_an_extended_result_tells_arguments_and_queue(extended):
    result = extended.leaf.apply_async(kwargs={"n": 5}, queue="fast")
    failed = extended.fail.delay("why")
    extended.play()

    assert (result.get(), result.args, result.kwargs, result.queue) == (5, [], {"n": 5}, "fast")
    assert (failed.state, failed.args, failed.queue) == ("FAILURE", ["why"], "celery")


def test_arguments_that_do_not_fit_do_not_cost_the_result(extended):
    extended.app.conf.message_max_bytes = 4096
    result = extended.leaf.delay("x" * 3000)
    extended.play()

    assert (len(result.get()), result.args) == (3000, None)


def test_arguments_that_the_task_made_unfit_do_not_cost_the_result(extended):
    @extended.app.task(name="spoil")
    def spoil(found):
        found.append(object())
        return "fine"

    result = spoil.delay([])
    extended.play()

    assert (result.get(), result.args) == ("fine", None)


# Bodies that fail


def test_the_error_of_a_body_has_the_traceback_of_what_failed(shop):
    result = chord([shop.leaf.s(1), shop.fail.s()], shop.leaf.s()).apply_async()
    shop.play()

    failed = result.parent[1].id
    with pytest.raises(ChordError, match=rf"^Dependency {failed} raised ValueError\('no'\)$"):
        result.get(timeout=0)
    assert 'raise ValueError("no")' in result.traceback
    assert result.traceback.endswith(f"ChordError: Dependency {failed} raised ValueError('no')\n")


def test_an_exception_that_is_not_rebuilt_is_named_as_it_was_raised(shop):
    class OwnError(Exception):
        pass

    @shop.app.task(name="own")
    def own():
        raise OwnError("mine")

    result = chord([own.s()], shop.leaf.s()).apply_async()
    shop.play()

    with pytest.raises(ChordError, match=r"raised OwnError\('mine'\)$"):
        result.get(timeout=0)


@pytest.mark.parametrize("count", [1, 2])
def test_the_errbacks_of_a_group_behind_a_group_run_when_the_first_fails(shop, count):
    told = []

    @shop.app.task(name="sorry")
    def sorry(task_id):
        told.append(task_id)

    second = group(shop.leaf.s().on_error(sorry.s()) for _ in range(count))
    behind = shop.leaf.s().on_error(sorry.s())
    second.tasks[0] = chain(second.tasks[0], behind)
    result = (group(shop.leaf.s(1), shop.fail.s()) | second).apply_async()
    shop.play()

    bodies = [result[0].parent, *result[1:]]
    assert sorted(told) == sorted(one.id for one in bodies)
    for member in result:
        with pytest.raises(ChordError):
            member.get(timeout=0)


def test_what_follows_an_errback_that_never_runs_is_gone_with_it(shop):
    errback = chain(shop.leaf.si(1), group(shop.leaf.si(2), shop.leaf.si(3)), shop.leaf.si(4))
    run(shop, shop.leaf.s(5).on_error(errback))

    assert shop.left() == (0, 0, 0, 0)


def test_where_a_task_is_can_be_asked(shop):
    unknown = shop.app.AsyncResult("never sent")
    sent = shop.leaf.delay()
    later = shop.leaf.apply_async(countdown=60)
    canvas = chain(shop.leaf.s(), shop.leaf.s()).apply_async(countdown=60)

    assert unknown.whereabouts() is None
    assert sent.whereabouts() == "ready"
    assert (later.whereabouts(), later.exists()) == ("scheduled", False)
    assert canvas.whereabouts() == "dormant"

    [job] = shop.consume()
    assert sent.whereabouts() == "leased"

    shop.end([(job, shop.carry_out(job))])
    assert (sent.whereabouts(), sent.exists()) == ("result", True)
    sent.forget()
    assert (sent.whereabouts(), sent.exists()) == (None, False)


@pytest.mark.parametrize(
    ("wait", "reason"),
    [(0, "its message is ready"), (60, "its message is scheduled")],
)
def test_a_result_that_does_not_come_in_time_says_where_the_task_is(shop, wait, reason):
    result = shop.leaf.apply_async(countdown=wait)

    with pytest.raises(result.TimeoutError, match=reason):
        result.get(timeout=0)


def test_a_result_of_an_unknown_id_says_that_nobody_knows_it(shop):
    with pytest.raises(AsyncResult.TimeoutError, match="no message of this id either"):
        shop.app.AsyncResult("never sent").get(timeout=0)
