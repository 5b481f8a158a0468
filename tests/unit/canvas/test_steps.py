"""Steps: who waits for whom, and what they take."""

from __future__ import annotations

import pytest

from cardoon.canvas import Signature, chain, chord, group, xmap
from cardoon.canvas.signatures import send_all
from cardoon.canvas.steps import Planner, Source, arrange, count_form, form_of
from cardoon.message.protocol import GroupMember, Take
from tests.unit.canvas.callers import Recorder, plan


def task(name="a", *args, **options):
    return Signature(name, args, options=options)


def many(count):
    return group(task("a", n) for n in range(count))


def edges(steps):
    return sum(len(step.after) for step in steps)


@pytest.mark.parametrize(
    ("canvas", "steps", "waits"),
    [
        (many, 100, 0),
        (lambda n: chain(task("a", k) for k in range(n)), 100, 99),
        (lambda n: many(n) | task("b"), 101, 100),
        (lambda n: task("b") | many(n), 101, 100),
        (lambda n: many(n) | many(n), 201, 200),
        (lambda n: many(n) | many(n) | many(n), 302, 400),
        (lambda n: many(n) | group(chord([task("b")] * n, task("c"))), 202, 300),
        (lambda n: many(n) | group(task("b"), chain(task("c"), many(n))), 203, 202),
        (lambda n: chord([many(n), many(n)], task("c")), 201, 200),
        (lambda n: chord([chord(many(n), task("b"))] * 10, task("c")), 1011, 1010),
    ],
    ids=[
        "group",
        "chain",
        "chord",
        "fan out",
        "group | group",
        "group | group | group",
        "group | chord",
        "group | group | group in a chain",
        "groups in a header",
        "chords in a header",
    ],
)
def test_a_canvas_takes_as_many_steps_and_edges_as_it_has_members(canvas, steps, waits):
    planned = plan(canvas(100))

    assert (len(planned), edges(planned)) == (steps, waits)


def test_every_step_waits_for_earlier_ones_that_know_it():
    steps = plan(task() | many(3) | chord([task(), many(2)], task()) | many(2))

    for number, step in enumerate(steps):
        assert all(before < number for before in step.after)
        assert all(steps[before].is_awaited for before in step.after)
    awaited = {before for step in steps for before in step.after}
    assert [step.is_awaited for step in steps] == [n in awaited for n in range(len(steps))]


def test_errbacks_make_a_task_awaited():
    failing, errback = plan(task().on_error(task("b")))

    assert failing.is_awaited
    assert (errback.after, errback.take, errback.composes) == ((0,), Take.FAILURE, True)


@pytest.mark.parametrize(
    ("canvas", "take", "form"),
    [
        (task() | task("z"), Take.RESULT, None),
        (group(task()) | task("z"), Take.RESULTS, 1),
        (many(3) | task("z"), Take.RESULTS, 3),
        (
            group(chain(task(), many(2)), task()) | task("z"),
            Take.RESULTS,
            [2, None],
        ),
        (
            group(chain(task(), group(chain(task(), many(2)))), task()) | task("z"),
            Take.RESULTS,
            [[2], None],
        ),
    ],
)
def test_a_step_says_what_it_takes_and_in_which_form(canvas, take, form):
    last = plan(canvas)[-1]

    assert (last.task, last.take, last.form, last.composes) == ("z", take, form, True)


@pytest.mark.parametrize("before", [task(), many(2)])
def test_an_immutable_step_waits_and_takes_nothing(before):
    last = plan(chain(before, task("z", 1).set(immutable=True)))[-1]

    assert (last.args, last.composes, bool(last.after)) == ([1], False, True)


def test_the_first_task_of_a_canvas_is_the_root_and_the_one_before_the_parent():
    first, *rest = plan(task() | group(task("b"), task("c")) | task("d"))

    assert (first.root, first.parent) == (first.id, None)
    assert [step.root for step in rest] == [first.id] * 3
    assert [step.parent for step in rest] == [first.id, first.id, rest[1].id]


def test_canvases_that_are_sent_together_have_roots_of_their_own():
    recorder = Recorder()

    send_all(recorder, [chain(task(), task()), task()])

    assert [step.root for step in recorder.sent] == [recorder.sent[n].id for n in (0, 0, 2)]


def test_the_members_of_a_group_know_their_place():
    a, b, chained, d = plan(
        group(task("a", task_id="t"), group(chain(task("b"), task("c"))), task("d"))
    )

    assert a.id == "t"
    assert a.group == GroupMember(a.group.id, 0, 3)
    assert b.group is None
    assert chained.group == GroupMember(a.group.id, 1, 3)  # the end of a chain stands for it
    assert d.group == GroupMember(a.group.id, 2, 3)


def test_a_group_has_the_id_that_it_was_given():
    recorder = Recorder()

    [result] = send_all(recorder, [group(task(), task()).set(task_id="mine")])

    assert result.id == "mine"
    assert {step.group.id for step in recorder.sent} == {"mine"}
    assert "mine" not in {step.id for step in recorder.sent}


def test_the_handles_lead_back_to_the_first_task():
    recorder = Recorder()

    [result] = send_all(recorder, [task() | chord(many(2), task("b")) | task("c")])

    sent = [step.id for step in recorder.sent]
    assert result.id == sent[4]
    assert result.parent.id == sent[3]
    assert [one.id for one in result.parent.parent] == sent[1:3]
    assert result.parent.parent.parent.id == sent[0]
    assert result.parent.parent.parent.parent is None


def test_every_handle_names_the_message_that_was_sent():
    recorder = Recorder()

    results = send_all(recorder, [many(2), task("b") | task("c")])

    leaves = [leaf for result in results for leaf in result.leaves()]
    assert [leaf.request for leaf in leaves] == [f"digest of {leaf.id}".encode() for leaf in leaves]
    assert results[1].parent.request is not None


def test_nothing_is_sent_of_nothing():
    recorder = Recorder()

    [result] = send_all(recorder, [group()])

    assert (result.get(timeout=0), recorder.sent, send_all(recorder, [])) == ([], [], [])


def test_a_map_carries_its_task_and_items_in_one_message():
    [step] = plan(xmap(task(), (n for n in range(2))))

    assert step.kwargs == {"task": task(), "it": [0, 1]}


def test_gathering_one_adds_nothing():
    planner = Planner(Recorder())

    assert planner.gather(Source(0)) == Source(0)
    assert planner.gather(Source([0])) == Source([0])
    assert planner.steps == []


@pytest.mark.parametrize(
    ("shape", "form", "arranged"),
    [
        (7, None, "a"),
        ([7], 1, ["a"]),
        ([7, 8], 2, ["a", "b"]),
        ([], 0, []),
        ([[7], 8], [1, None], [["a"], "b"]),
        ([[], [7, [8, 9]]], [0, [None, 2]], [[], ["a", ["b", "c"]]]),
    ],
)
def test_a_form_arranges_results_as_their_steps_are(shape, form, arranged):
    leaves = Source(shape).leaves()

    assert form_of(shape) == form
    assert count_form(form) == len(leaves)
    assert arrange(form, iter("abc")) == arranged


@pytest.mark.parametrize("wrong", [True, False, -1, 1.5, "1", {"a": 1}, [1, "x"], [[-1]], [True]])
def test_what_is_no_form_is_refused(wrong):
    with pytest.raises(ValueError, match="no form"):
        count_form(wrong)
