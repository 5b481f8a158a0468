"""Ids that are chosen before a canvas is sent, and the small methods of signatures."""

from __future__ import annotations

import pytest

from cardoon.canvas import Signature, chain, chord, chunks, group
from cardoon.exceptions import InvalidTaskError
from tests.unit.canvas.callers import Recorder


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def sig(recorder):
    def make(name, *args):
        return Signature(name, args, caller=recorder)

    return make


def sent_ids(recorder, canvas):
    recorder.sent.clear()
    result = canvas.apply_async()
    return result, {step.task: step.id for step in recorder.sent}


def test_a_frozen_signature_is_sent_under_the_id_that_was_told(recorder, sig):
    made = sig("a")

    frozen = made.freeze()
    result, ids = sent_ids(recorder, made)

    assert frozen.id == made.id == result.id == ids["a"]
    assert made.freeze().id == frozen.id


def test_an_id_may_be_given(sig):
    made = sig("a")

    assert made.freeze("mine").id == made.id == "mine"


def test_the_tasks_of_a_frozen_canvas_keep_their_ids(recorder, sig):
    canvas = chain(sig("a"), group(sig("b"), chain(sig("c"), sig("d"))), sig("e"))

    frozen = canvas.freeze("mine")
    result, ids = sent_ids(recorder, canvas)

    assert frozen.id == result.id == ids["e"] == "mine"
    assert [leaf.id for leaf in frozen.parent.leaves()] == [ids["b"], ids["d"]]
    assert frozen.as_list() == result.as_list() == [ids[name] for name in ("e", "b", "d", "a")]


def test_a_frozen_group_has_an_id_of_its_own(recorder, sig):
    canvas = group(sig("a"), group(sig("b")))

    frozen = canvas.freeze()
    result, ids = sent_ids(recorder, canvas)

    assert (frozen.id, frozen.results) == (result.id, result.results)
    assert {leaf.id for leaf in frozen.leaves()} == set(ids.values())


def test_a_frozen_chord_is_its_body(recorder, sig):
    canvas = chord([sig("a"), sig("b")], chain(sig("c"), sig("d")))

    frozen = canvas.freeze()
    result, ids = sent_ids(recorder, canvas)

    assert frozen == result
    assert frozen.id == ids["d"]


def test_one_signature_in_two_places_gets_two_ids(sig):
    one = sig("a")

    frozen = group(one, one).freeze()

    assert len({leaf.id for leaf in frozen.leaves()}) == 2
    assert one.id is None


def test_an_empty_chain_and_chunks_cannot_be_frozen(sig):
    with pytest.raises(InvalidTaskError, match="nothing in it"):
        chain(app=Recorder()).freeze()
    with pytest.raises(InvalidTaskError, match=r"freeze chunks\.group"):
        chunks(sig("a"), [(1,)], 1).freeze()


def test_arguments_and_options_are_replaced_in_a_copy(sig):
    made = sig("a", 1).set(queue="fast")

    other = made.replace(args=(2,), kwargs={"x": 1}, options={"priority": 3})

    assert (other.args, other.kwargs, other.options) == ([2], {"x": 1}, {"priority": 3})
    assert (made.args, made.kwargs, made.options) == ([1], {}, {"queue": "fast"})
    assert made.replace() == made


def test_an_option_that_is_a_list_grows(sig):
    made = sig("a")

    assert made.append_to_list_option("link", sig("b")) == sig("b")
    made.extend_list_option("link", [sig("b"), sig("c")])
    made.extend_list_option("link", None)

    assert [one.task for one in made.linked("link")] == ["b", "c"]


def test_links_are_flattened(sig):
    made, behind = sig("a"), sig("b")
    behind.link(sig("c"))
    made.link(behind)
    made.link_error(sig("d"))

    assert [one.task for one in made.flatten_links()] == ["a", "b", "c"]


def test_a_call_is_shown_with_further_arguments(sig):
    assert sig("a", 2).reprcall(1, x=3) == "a(1, 2, x=3)"


def test_a_signature_knows_its_app_and_its_task(app):
    task = app.task(name="a")(lambda: 1)

    assert (task.s().app, task.s().type) == (app, task)


def test_the_parts_of_a_chain_have_the_errbacks_of_the_whole(sig):
    whole = chain(sig("a"), sig("b")).on_error(sig("sorry"))

    assert [
        (part.task, [one.task for one in part.linked("link_error")])
        for part in whole.unchain_tasks()
    ] == [("a", ["sorry"]), ("b", ["sorry"])]


def test_chunks_are_sent_by_one_call(recorder, sig):
    result = chunks.apply_chunks(sig("a"), [(1,), (2,), (3,)], 2, app=recorder)

    assert len(result) == len(recorder.sent) == 2
