"""Chains, groups, chords and maps: what they are made of, and what they are planned as."""

from __future__ import annotations

import json

import pytest

from cardoon.canvas import Signature, chain, chord, chunks, group, signature, xmap, xstarmap
from cardoon.canvas.steps import ACCUMULATE
from cardoon.exceptions import InvalidTaskError
from cardoon.message.protocol import Take
from tests.unit.canvas.callers import Recorder, outline, plan


def task(name, *args, immutable=False, **options):
    return Signature(name, args, options=options, immutable=immutable)


A, B, C, D = (task(name) for name in "abcd")


def gather(*after):
    return (ACCUMULATE, [], after)


JOINS = {
    "task | task": (A | B, chain(A, B)),
    "task | chain": (A | chain(B, C), chain(A, B, C)),
    "chain | task": (chain(A, B) | C, chain(A, B, C)),
    "chain | chain": (chain(A, B) | chain(C, D), chain(A, B, C, D)),
    "task | group": (A | group(B, C), chain(A, group(B, C))),
    "group | task": (group(A, B) | C, chord([A, B], C)),
    "group | group": (group(A, B) | group(C, D), chain(group(A, B), group(C, D))),
    "group | chain": (group(A, B) | chain(C, D), chain(chord([A, B], C), D)),
    "group | chord": (
        group(A, B) | chord([C], D),
        chord([A, B], chord([C], D)),
    ),
    "chain that ends in a group | task": (
        chain(A, group(B, C)) | D,
        chain(A, chord([B, C], D)),
    ),
    "chord | task": (chord([A, B], C) | D, chain(chord([A, B], C), D)),
    "chord | chord": (chord([A], B) | chord([C], D), chain(chord([A], B), chord([C], D))),
    "task | chord": (A | chord([B, C], D), chain(A, chord([B, C], D))),
    "task | empty chain": (A | chain(), A),
    "empty chain | task": (chain() | A, A),
    "chain with options | task": (
        chain(A, B).set(queue="q") | C,
        chain(chain(A, B).set(queue="q"), C),
    ),
}


@pytest.mark.parametrize("name", JOINS)
def test_joining_makes(name):
    made, expected = JOINS[name]

    assert made == expected
    assert type(made) is type(expected)


PLANS = {
    "a chain": (chain(A, B, C), [("a", [], ()), ("b", [], (0,)), ("c", [], (1,))]),
    "a chain of one": (chain(A), [("a", [], ())]),
    "a chain of a list": (chain([A, B]), [("a", [], ()), ("b", [], (0,))]),
    "a chain of a generator": (
        chain(one for one in (A, B)),
        [("a", [], ()), ("b", [], (0,))],
    ),
    "a group": (group(A, B), [("a", [], ()), ("b", [], ())]),
    "a group of a generator": (
        group(task("a", n) for n in range(2)),
        [("a", [0], ()), ("a", [1], ())],
    ),
    "a group of a group": (group(group(A, B), C), [(n, [], ()) for n in "abc"]),
    "an empty group": (group(), []),
    "a chord": (chord([A, B], C), [("a", [], ()), ("b", [], ()), ("c", [], (0, 1))]),
    "a chord of a generator": (
        chord((task("a", n) for n in range(2)), C),
        [("a", [0], ()), ("a", [1], ()), ("c", [], (0, 1))],
    ),
    "a chord of a group": (
        chord(group(A, B), C),
        [("a", [], ()), ("b", [], ()), ("c", [], (0, 1))],
    ),
    "a chord of one task": (chord(A, C), [("a", [], ()), ("c", [], (0,))]),
    "a chord without header": (chord([], A), [("a", [[]], ())]),
    "a group behind a task": (A | group(B, C), [("a", [], ()), ("b", [], (0,)), ("c", [], (0,))]),
    "a group behind a group": (
        group(A, B) | group(C, D),
        [("a", [], ()), ("b", [], ()), gather(0, 1), ("c", [], (2,)), ("d", [], (2,))],
    ),
    "a group of one behind a group": (
        group(A, B) | group(C),
        [("a", [], ()), ("b", [], ()), ("c", [], (0, 1))],
    ),
    "a task behind an empty group": (A | group() | B, [("a", [], ()), ("b", [[]], (0,))]),
    "a group behind an empty group": (
        A | group() | group(B, C),
        [("a", [], ()), ("b", [[]], (0,)), ("c", [[]], (0,))],
    ),
    "a task behind two empty groups": (
        chain(A, group(), group(), B),
        [("a", [], ()), ("b", [[]], (0,))],
    ),
    "a task behind a group and an empty one": (
        chain(group(A, B), group(), C),
        [("a", [], ()), ("b", [], ()), ("c", [[]], (0, 1))],
    ),
    "an immutable link behind an empty group": (
        A | group() | task("b", 5, immutable=True),
        [("a", [], ()), ("b", [5], (0,))],
    ),
    "an empty group at the end": (A | group(), [("a", [], ())]),
    "a map": (
        xmap(A, [1, 2]),
        [("cardoon.map", [], ())],
    ),
    "chunks": (
        chunks(A, ((n,) for n in range(3)), 2),
        [("cardoon.starmap", [], ()), ("cardoon.starmap", [], ())],
    ),
    "chunks of nothing": (chunks(A, [], 2), []),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("travels", [False, True], ids=["made here", "from JSON"])
def test_it_is_planned_as(name, travels):
    canvas, expected = PLANS[name]
    if travels:
        canvas = signature(json.loads(json.dumps(canvas)))

    assert outline(canvas) == expected


def test_what_came_as_json_is_of_the_same_kind_and_says_the_same():
    whole = chain(
        chord([xmap(A, [1]), xstarmap(B, [[1, 2]])], C).set(queue="q"),
        group(chunks(D, [[1]], 1), task("e", 1, immutable=True)),
    )
    whole.link(A)
    whole.link_error(B)

    back = signature(json.loads(json.dumps(whole)))

    assert json.dumps(back) == json.dumps(whole)
    assert [type(one) for one in back.tasks] == [chord, group]
    assert [type(one) for one in back.tasks[0].tasks] == [xmap, xstarmap]
    assert repr(back) == repr(whole)


@pytest.mark.parametrize("kind", [xmap(A, [1]), xstarmap(A, [(1,)]), chunks(A, [(1,), (2,)], 1)])
def test_an_immutable_map_stays_so_on_its_way(kind):
    kind.set(immutable=True)
    back = signature(json.loads(json.dumps(kind)))

    for one in (kind, back, kind.clone(), back.copied()):
        assert all(not step.composes for step in plan(chain(B, one))), one


def test_the_first_of_a_chain_gets_its_arguments_and_options():
    whole = chain(A, B).set(queue="q", countdown=3).clone((1,), {"x": 2})

    first, second = plan(whole)

    assert (first.args, first.kwargs, first.options) == (
        [1],
        {"x": 2},
        {"queue": "q", "countdown": 3},
    )
    assert (second.args, second.kwargs, second.options) == ([], {}, {})
    assert A.args == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_of_a_chain_gets_its_id(count):
    steps = plan(chain([A, B, C][:count]).set(task_id="mine"))

    assert [step.id == "mine" for step in steps] == [False] * (count - 1) + [True]


def test_the_members_of_a_group_get_its_arguments_and_options():
    whole = group(A, group(B, task("c", queue="own"))).set(queue="q").clone((1,))

    assert [(step.args, step.options["queue"]) for step in plan(whole)] == [
        ([1], "q"),
        ([1], "q"),
        ([1], "own"),
    ]


def test_a_group_in_a_group_keeps_its_options_links_and_errbacks():
    inner = group(B, C).set(queue="q")
    inner.link(task("after"))
    inner.link_error(task("sorry"))

    steps = {step.task: step for step in plan(group(A, inner))}
    names = [step.task for step in plan(group(A, inner))]

    assert names == ["a", "b", "after", "sorry", "c", "sorry"]
    assert [steps[name].options.get("queue") for name in "abc"] == [None, "q", "q"]
    assert steps["after"].after == (1,)


@pytest.mark.parametrize(
    "whole",
    [
        chord(group(A, B).set(queue="q"), C),
        group(A, B).set(queue="q") | C,
        chord(json.loads(json.dumps(group(A, B).set(queue="q"))), C),
    ],
    ids=["header", "joined", "header from JSON"],
)
def test_a_group_with_options_keeps_them_as_the_header_of_a_chord(whole):
    assert [step.options.get("queue") for step in plan(whole)] == ["q", "q", None]


def test_the_body_of_a_chord_gets_its_options_and_the_header_its_arguments():
    whole = chord([A, B], C).set(queue="q", task_id="mine").clone((1,))

    a, b, c = plan(whole)

    assert [one.args for one in (a, b, c)] == [[1], [1], []]
    assert (a.options, b.options, c.options) == ({}, {}, {"queue": "q"})
    assert c.id == "mine"


def test_an_immutable_group_or_chord_means_its_members():
    for whole in (group(A, B), chord([A, B], C)):
        made = signature(json.loads(json.dumps(whole)))
        made.set(immutable=True)
        steps = plan(chain(D, made))
        assert [step.composes for step in steps][:3] == [False, False, False]
    assert steps[3].composes  # the body takes the results all the same


@pytest.mark.parametrize(
    ("limits", "countdowns"),
    [((), [1, 2, 3]), ((1, 2.5), [1, 2, 2.5]), ((0, None, 2), [0, 2, 4])],
)
def test_skew_spreads_a_group(limits, countdowns):
    whole = group(task("a"), task("b"), task("c")).skew(*limits)

    assert [step.options["countdown"] for step in plan(whole)] == countdowns


def test_links_of_wholes_follow_their_end():
    def linked(whole):
        made = signature(json.loads(json.dumps(whole)))
        made.link(task("after"))
        return next((s.after, s.take) for s in plan(made) if s.task == "after")

    assert linked(chain(A, B)) == ((1,), Take.RESULT)
    assert linked(chord([A, B], C)) == ((2,), Take.RESULT)
    assert linked(group(A, B)) == ((0,), Take.RESULT)
    assert linked(chain(A, group(B, C))) == ((1, 2), Take.RESULTS)


def test_errbacks_of_wholes_hang_on_the_parts():
    def hanging(whole):
        made = signature(json.loads(json.dumps(whole)))
        made.link_error(task("sorry"))
        steps = plan(made)
        found = [s for s in steps if s.task == "sorry"]
        assert {s.take for s in found} == {Take.FAILURE}
        return [steps[before].task for s in found for before in s.after]

    assert hanging(chain(A, B)) == ["a", "b"]
    assert hanging(group(A, B)) == ["a", "b"]
    assert hanging(chord([A, B], C)) == ["c"]
    assert hanging(chunks(A, [(1,), (2,)], 1)) == ["cardoon.starmap", "cardoon.starmap"]


def test_a_canvas_can_be_an_errback():
    steps = plan(A.clone().on_error(chain(B, C)))

    assert [(s.task, s.after, s.take) for s in steps] == [
        ("a", (), Take.RESULT),
        ("b", (0,), Take.FAILURE),
        ("c", (1,), Take.RESULT),
    ]


def test_planning_changes_no_signature():
    whole = chain(chord(group(A, B).set(queue="q"), C), group(A, D)).set(task_id="mine")
    whole.link(B)
    whole.link_error(C)
    before = json.dumps(whole)

    plan(whole)

    assert json.dumps(whole) == before


def test_a_chord_is_sent_with_the_body_it_is_called_with():
    recorder = Recorder()

    result = chord([A, B], app=recorder)(C, queue="q")

    assert [(step.task, step.options) for step in recorder.sent] == [
        ("a", {}),
        ("b", {}),
        ("c", {"queue": "q"}),
    ]
    assert (result.id, [one.id for one in result.parent]) == (
        recorder.sent[2].id,
        [recorder.sent[0].id, recorder.sent[1].id],
    )


def test_chunks_are_sent_when_called():
    recorder = Recorder()

    result = chunks(A, [(1,), (2,), (3,)], 2, app=recorder)(queue="q")

    assert [step.kwargs["it"] for step in recorder.sent] == [[(1,), (2,)], [(3,)]]
    assert [step.options["queue"] for step in recorder.sent] == ["q", "q"]
    assert len(result) == 2


EAGER = {
    "chain": (chain(A, B), ["b", ["a"]]),
    "group": (group(A, B), [["a"], ["b"]]),
    "chord": (chord([A, B], C), ["c", [["a"], ["b"]]]),
    "chain with a group": (chain(A, group(B, C)), [["b", ["a"]], ["c", ["a"]]]),
    "map": (xmap(A, [1]), ["cardoon.map"]),
    "chunks": (chunks(A, [(1,), (2,)], 1), [["cardoon.starmap"], ["cardoon.starmap"]]),
    "empty group": (group(), []),
}


@pytest.mark.parametrize("name", EAGER)
def test_an_eager_app_runs_a_canvas_here(name):
    canvas, expected = EAGER[name]
    recorder = Recorder()
    recorder.is_eager = True
    canvas = signature(json.loads(json.dumps(canvas)), app=recorder)

    assert canvas.apply_async().get(timeout=1) == expected
    assert recorder.sent == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: plan(chain()), "chain: there is nothing in it"),
        (lambda: plan(chord([A])), "chord: it has no body"),
        (lambda: chunks(A, [(1,)], 0), "chunks: n=0 is not a number from 1"),
        (lambda: chunks(A, [(1,)], True), "chunks: n=True is not a number from 1"),
        (lambda: group("abc"), r"'a' is not a signature; use task\.s"),
        (lambda: chain(A, None), r"None is not a signature; use task\.s"),
        (lambda: chain(5), r"5 is not a signature; use task\.s"),
        (lambda: group(None), r"None is not a signature; use task\.s"),
        (lambda: chord(5, A), r"5 is not a signature; use task\.s"),
        (lambda: chord([A], 5), r"5 is not a signature; use task\.s"),
        (lambda: xmap(5, [1]), r"5 is not a signature; use task\.s"),
        (lambda: xmap(A, 5), r"map: 5 is not a list of items"),
        (lambda: chunks(A, 5, 1), r"chunks: 5 is not a list of items"),
        (
            lambda: signature({"task": "x", "subtask_type": "group", "kwargs": {"tasks": 5}}),
            r"group: kwargs\['tasks'\] is not a list",
        ),
        (
            lambda: signature({"task": "x", "subtask_type": "chord"}),
            r"chord: kwargs\['tasks'\] is not a list",
        ),
        (
            lambda: signature({"task": "x", "subtask_type": "map", "kwargs": {"it": []}}),
            "map: kwargs name no task and items",
        ),
        (
            lambda: signature({"task": "x", "subtask_type": "chunks", "kwargs": {"it": []}}),
            "chunks: kwargs name no task, items and n",
        ),
    ],
)
def test_an_error_names_the_thing_and_the_remedy(make, said):
    with pytest.raises(InvalidTaskError, match=said):
        make()


def test_a_canvas_that_is_called_is_sent():
    recorder = Recorder()
    whole = chain(A, B, app=recorder)
    side = group(A, B, app=recorder)

    whole(1)
    side(2)

    assert [step.args for step in recorder.sent if step.args] == [[1], [2], [2]]
