"""Arguments from what a task waited for."""

from __future__ import annotations

import json

import pytest

from cardoon.exceptions import RefusedError
from cardoon.message.protocol import Take
from cardoon.message.serializers import JSON, JSON_ZLIB, encode_body
from cardoon.result import describe_exception
from cardoon.worker.composing import DependencyError, compose

FAILED = {"id": "t1", "task": "shop.pay", "retries": 2}


@pytest.fixture
def pay(app):
    return app.task(name="shop.pay")(lambda *args: None)


@pytest.fixture
def arguments(pay):
    def make(contents, *, take=Take.RESULTS, embed=None, failed=None, task=pay, codecs=(JSON,)):
        bodies = [
            encode_body(content, codecs[at % len(codecs)]) for at, content in enumerate(contents)
        ]
        told = {
            "take": int(take),
            "codecs": list(codecs),
            "parts": [[len(body), at % len(codecs)] for at, body in enumerate(bodies)],
        }
        if failed is not None:
            told["failed"] = failed
        embed = {"compose": {"form": len(bodies)}} if embed is None else embed
        return compose(task, embed, json.loads(json.dumps(told)), b"".join(bodies), most=10_000)

    return make


def results(*values):
    return [{"result": value} for value in values]


def failure(error):
    return [{"error": describe_exception(error), "traceback": "tb"}]


@pytest.mark.parametrize(
    ("form", "values", "composed"),
    [
        (None, [5], [5]),
        (None, [None], [None]),
        (None, [[1, 2]], [[1, 2]]),
        (1, [5], [[5]]),
        (2, [5, 6], [[5, 6]]),
        ([None, 2], [5, 6, 7], [[5, [6, 7]]]),
        ([1, 0], [5], [[[5], []]]),
    ],
)
def test_results_are_arranged_as_signed(arguments, form, values, composed):
    embed = {"compose": {"form": form}}

    assert arguments(results(*values), embed=embed) == composed


def test_each_result_is_read_in_its_own_codec(arguments):
    assert arguments(results(1, 2, 3), codecs=(JSON, JSON_ZLIB)) == [[1, 2, 3]]


@pytest.mark.parametrize("failed", [None, FAILED])
def test_an_immutable_call_is_given_nothing(arguments, failed):
    contents = results(1) if failed is None else failure(ValueError("no"))
    take = Take.RESULT if failed is None else Take.FAILURE

    assert arguments(contents, take=take, embed={}, failed=failed) == []


@pytest.mark.parametrize("embed", [{}, {"compose": {"form": 1}}])
def test_a_body_whose_member_failed_is_a_chord_error_that_names_it(arguments, embed):
    contents = failure(ValueError("no"))

    with pytest.raises(DependencyError, match=r"^Dependency t1 raised ValueError\('no'\)$"):
        arguments(contents, embed=embed, failed=FAILED)


@pytest.mark.parametrize(
    "function",
    [
        lambda task_id: None,
        lambda task_id=None: None,
        lambda task_id, *, note="": None,
        lambda task_id, **more: None,
        lambda: None,
    ],
)
def test_an_errback_of_one_argument_is_given_the_id(app, arguments, function):
    sorry = app.task(name="shop.sorry")(function)

    given = arguments(failure(ValueError("no")), take=Take.FAILURE, failed=FAILED, task=sorry)

    assert given == ["t1"]


@pytest.mark.parametrize(
    "function",
    [
        lambda request, error, traceback: None,
        lambda request, error, traceback, note="": None,
        lambda *args: None,
        lambda first, *args: None,
    ],
)
def test_an_errback_of_more_is_given_request_error_and_traceback(app, arguments, function):
    sorry = app.task(name="shop.sorry")(function)

    request, error, traceback = arguments(
        failure(KeyError("k")), take=Take.FAILURE, failed=FAILED, task=sorry
    )

    assert (request.id, request.task, request.retries) == ("t1", "shop.pay", 2)
    assert (type(error), str(error), traceback) == (KeyError, "'k'", "tb")


def test_the_task_itself_is_no_argument_of_a_bound_errback(app, arguments):
    sorry = app.task(name="shop.sorry", bind=True)(lambda self, task_id: None)

    given = arguments(failure(ValueError("no")), take=Take.FAILURE, failed=FAILED, task=sorry)

    assert given == ["t1"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"form": 1},
        {"form": 3},
        {"form": None},
        {"form": True},
        {"form": -2},
        {"form": "2"},
        {"form": {"a": 1}},
        {"form": [2, 2]},
        {"form": 2.0},
        7,
        "form",
        [2],
    ],
    ids=str,
)
def test_a_form_that_does_not_fit_the_results_is_refused(arguments, wanted):
    with pytest.raises(RefusedError, match="form"):
        arguments(results(1, 2), embed={"compose": wanted})


def test_a_form_deeper_than_anybody_can_go_is_refused(arguments):
    form = None
    for _ in range(100_000):
        form = [form]

    with pytest.raises(RefusedError, match="form"):
        arguments(results(1), embed={"compose": {"form": form}})


@pytest.mark.parametrize("content", [[1], 5, "text", None])
def test_a_result_that_is_none_is_refused(arguments, content):
    with pytest.raises(RefusedError, match="no result"):
        arguments([content])


def test_a_result_larger_than_agreed_when_unpacked_is_refused(arguments):
    with pytest.raises(RefusedError):
        arguments(results("x" * 20_000), codecs=(JSON_ZLIB,))
