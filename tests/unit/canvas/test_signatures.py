"""Signatures: calls to make later."""

from __future__ import annotations

import copy
import json

import pytest

from cardoon.canvas import Signature, chain, maybe_signature, signature
from cardoon.exceptions import InvalidTaskError
from tests.unit.canvas.callers import Recorder, plan


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def sig(recorder):
    def make(*args, immutable=False, **kwargs):
        return Signature("shop.pay", args, kwargs, immutable=immutable, caller=recorder)

    return make


def sent(recorder):
    [step] = recorder.sent
    return step.task, step.args, step.kwargs, step.options


def test_a_signature_is_a_dict_that_travels_as_json(sig):
    made = sig(1, x=2).set(queue="fast")

    back = Signature(json.loads(json.dumps(made)))

    assert back == made
    assert (back.task, back.name, back.args, back.kwargs) == (
        "shop.pay",
        "shop.pay",
        [1],
        {"x": 2},
    )
    assert back.options == {"queue": "fast"}
    assert not back.immutable


def test_later_arguments_come_first_and_later_options_win(sig, recorder):
    made = sig(1, x=2, y=3).set(queue="fast", priority=1)

    made.apply_async((0,), {"x": 9}, queue="slow")

    assert sent(recorder) == (
        "shop.pay",
        [0, 1],
        {"x": 9, "y": 3},
        {"queue": "slow", "priority": 1},
    )
    assert (made.args, made.options) == ([1], {"queue": "fast", "priority": 1})


def test_an_immutable_signature_takes_no_arguments_but_options(sig, recorder):
    sig(1, immutable=True).apply_async((0,), {"x": 9}, queue="slow")

    assert sent(recorder) == ("shop.pay", [1], {}, {"queue": "slow"})


def test_immutability_can_be_taken_back(sig, recorder):
    sig(1, immutable=True).set(immutable=False).delay(0)

    assert sent(recorder)[1] == [0, 1]


def test_delay_adds_arguments(sig, recorder):
    sig(1).delay(0, x=2)

    assert sent(recorder) == ("shop.pay", [0, 1], {"x": 2}, {})


def test_the_handle_has_the_chosen_id_and_names_the_message_that_was_sent(sig):
    made = sig(1).set(task_id="mine")

    result = made.delay()

    assert made.id == "mine"
    assert (result.id, result.request) == ("mine", b"digest of mine")


def test_an_eager_app_runs_it_and_sends_nothing(sig, recorder):
    recorder.is_eager = True

    assert sig(1).set(queue="fast").delay(0).get() == ["shop.pay", 0, 1]
    assert recorder.ran == [("shop.pay", [0, 1], {}, {"queue": "fast"})]
    assert recorder.sent == []


def test_apply_runs_here_and_a_call_gives_the_value(sig, recorder):
    assert sig(1).apply((0,), {"x": 2}).get() == ["shop.pay", 0, 1]
    assert sig(1)(0) == ["shop.pay", 0, 1]
    assert [ran[2] for ran in recorder.ran] == [{"x": 2}, {}]


def test_what_is_linked_is_linked_once(sig):
    made, after, error = sig(), sig(1), sig(2)

    assert made.link(after) is after
    made.link(after)
    assert made.link_error(error) is error
    assert made.on_error(error) is made

    assert made.options == {"link": [after], "link_error": [error]}


def test_a_single_link_may_be_given_as_an_option(sig, recorder):
    sig().apply_async(link=sig(1), link_error=sig(2))

    assert [(step.args, step.after, step.take.name) for step in recorder.sent] == [
        ([], (), "RESULT"),
        ([1], (0,), "RESULT"),
        ([2], (0,), "FAILURE"),
    ]


def test_a_clone_shares_nothing(sig):
    made = sig([1])
    made.link(sig(5))
    clone = made.clone((0,))

    clone.set(queue="x")
    clone["args"].append(2)
    clone.link(sig(6))

    assert (made.options, made.args) == ({"link": [sig(5)]}, [[1]])
    assert clone.args == [0, [1], 2]
    assert made.partial((0,)).args == [0, [1]]


def test_a_deep_copy_is_a_signature_of_the_same_app(sig, recorder):
    twin = copy.deepcopy(sig(1))

    twin.delay()

    assert sent(recorder)[1] == [1]


def test_what_another_made_may_say_little(recorder):
    made = Signature({"task": "shop.pay"}, caller=recorder)

    made.set(queue="q").delay(1)

    assert sent(recorder) == ("shop.pay", [1], {}, {"queue": "q"})
    made.link(made)
    assert len(made.options["link"]) == 1


def test_a_signature_is_made_of_a_name_or_of_a_dict(recorder):
    made = signature("shop.pay", (1,), kwargs={"x": 2}, immutable=True, queue="q", app=recorder)

    assert (made.args, made.kwargs, made.options, made.immutable) == (
        [1],
        {"x": 2},
        {"queue": "q"},
        True,
    )
    assert signature(json.loads(json.dumps(made)), app=recorder) == made
    assert signature(made) is made
    assert maybe_signature(made) is made
    assert maybe_signature(None) is None


@pytest.mark.parametrize("made", [{}, {"task": 5}, {"args": [1]}])
def test_a_signature_names_a_task(made):
    with pytest.raises(InvalidTaskError, match="names no task"):
        Signature(made)


@pytest.mark.parametrize("found", ["shop.pay", 5, None, [1]])
def test_what_is_no_signature_is_refused_with_the_remedy(found):
    with pytest.raises(InvalidTaskError, match=r"is not a signature; use task\.s"):
        Signature.from_dict(found)


def test_an_unknown_kind_is_refused_with_those_that_there_are():
    with pytest.raises(InvalidTaskError, match=r"subtask_type 'ring'; use .*chain.*chord"):
        signature({"task": "shop.pay", "subtask_type": "ring"})


def test_the_first_caller_is_kept(sig, recorder):
    sig().bound_to(Recorder()).delay()

    assert len(recorder.sent) == 1


def test_a_signature_without_app_takes_the_given_one(recorder):
    Signature("shop.pay").bound_to(recorder).delay()

    assert sent(recorder)[0] == "shop.pay"


def test_a_signature_is_shown_as_a_call(sig):
    assert repr(sig(1, "a", x=2)) == "shop.pay(1, 'a', x=2)"


def test_joining_in_place_makes_a_chain_and_changes_nobody(sig):
    first = joined = sig(1)

    joined |= sig(2)

    assert type(joined) is chain
    assert first == sig(1)
    assert [(step.args, step.after) for step in plan(joined)] == [([1], ()), ([2], (0,))]


@pytest.mark.parametrize("other", [5, None, "shop.pay", [1]])
def test_only_signatures_can_be_joined(sig, other):
    with pytest.raises(TypeError):
        sig() | other
