"""The options of a task, and whether arguments fit it."""

from __future__ import annotations

import inspect
import math
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import InvalidTaskError
from cardoon.retrying import NO_LIMIT
from cardoon.sandbox.profile import Sandbox
from cardoon.task_options import TASK_OPTIONS, ArgumentCheck, check_task_options, parse_rate


@pytest.mark.parametrize(
    ("rate", "per_second"),
    [
        (None, None),
        (0, None),
        ("0/s", None),
        (10, 10),
        (0.5, 0.5),
        ("10", 10),
        ("10/s", 10),
        ("30/m", 0.5),
        ("7200/h", 2),
        ("1.5/s", 1.5),
    ],
)
def test_a_rate_is_starts_per_second(rate, per_second):
    assert parse_rate(rate) == per_second


@pytest.mark.parametrize("rate", ["ten", "10/d", "10 /s", "/s", "", -1, True, math.nan, "-1/s"])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        parse_rate(rate)


@given(st.text() | st.floats() | st.integers())
def test_any_rate_is_positive_or_none_or_refused(rate):
    try:
        parsed = parse_rate(rate)
    except ValueError:
        return
    assert parsed is None or parsed > 0


def test_an_unknown_option_is_refused_with_a_suggestion():
    with pytest.raises(InvalidTaskError, match=r"task 'a.b': unknown option 'max_retry'; did you"):
        check_task_options("a.b", {"max_retry": 3})
    with pytest.raises(InvalidTaskError, match=r"unknown option 'zzzzzz'$"):
        check_task_options("a.b", {"zzzzzz": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", -1),
        ("max_retries", NO_LIMIT),
        ("max_retries", 1.5),
        ("autoretry_for", "ValueError"),
        ("autoretry_for", (ValueError, 5)),
        ("throws", 5),
        ("retry_kwargs", 5),
        ("retry_backoff", "often"),
        ("retry_backoff", -1),
        ("time_limit", 0),
        ("rate_limit", "often"),
        ("priority", 10),
        ("expires", "tomorrow"),
        ("expires", -1),
        ("bind", "perhaps"),
        ("queue", 5),
        ("default_retry_delay", 10**400),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(name, value):
    with pytest.raises(InvalidTaskError, match=rf"task 'a.b': {name}="):
        check_task_options("a.b", {name: value})


@given(
    st.sampled_from(sorted(TASK_OPTIONS)),
    st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.integers()),
)
def test_any_value_of_any_option_is_taken_or_refused_in_our_own_words(name, value):
    told = f"{name}="

    try:
        check_task_options("a.b", {name: value})
    except InvalidTaskError as error:
        told = str(error)

    assert f"{name}=" in told


def test_values_are_read_as_what_they_mean():
    moment = datetime(2030, 1, 1, tzinfo=UTC)

    checked = check_task_options(
        "a.b",
        {
            "time_limit": timedelta(minutes=1),
            "autoretry_for": ValueError,
            "throws": [KeyError],
            "retry_backoff": True,
            "expires": moment,
            "rate_limit": "10/m",
            "ignore_result": "yes",
        },
    )

    assert checked == {
        "time_limit": 60.0,
        "autoretry_for": (ValueError,),
        "throws": (KeyError,),
        "retry_backoff": True,
        "expires": moment,
        "rate_limit": "10/m",
        "ignore_result": True,
    }


def test_expiry_may_be_a_timedelta():
    assert check_task_options("a.b", {"expires": timedelta(hours=1)}) == {"expires": 3600.0}


def test_the_soft_limit_is_below_the_hard_one():
    with pytest.raises(InvalidTaskError, match=r"soft_time_limit=5.0 is not below time_limit=5.0"):
        check_task_options("a.b", {"soft_time_limit": 5, "time_limit": 5})


def nothing(): ...
def one(a): ...
def default(a, b=2): ...
def positional_only(a, /, b): ...
def variable(a, *rest): ...
def keyword_only(a, *, b): ...
def keyword_default(a, *, b=1): ...
def keywords(a, **rest): ...
def everything(a, b=1, /, c=2, *rest, d=3, **more): ...
def optional_first(a=1, b=2): ...


FUNCTIONS = [
    nothing,
    one,
    default,
    positional_only,
    variable,
    keyword_only,
    keyword_default,
    keywords,
    everything,
    optional_first,
]


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.sampled_from("abcdx"), st.integers(), max_size=3),
)
def test_the_check_agrees_with_python_itself(function, args, kwargs):
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        fits = False
    else:
        fits = True

    try:
        ArgumentCheck("a.b", function)(args, kwargs)
    except InvalidTaskError:
        assert not fits
    else:
        assert fits


def test_a_misspelt_argument_is_refused_with_a_suggestion():
    def task(customer, *, amount=0): ...

    check = ArgumentCheck("shop.pay", task)

    with pytest.raises(InvalidTaskError, match=r"shop.pay\(\): .*'amuont'; did you mean 'amount'"):
        check(["x"], {"amuont": 5})
    with pytest.raises(InvalidTaskError, match=r"'zzz'$"):
        check(["x"], {"zzz": 5})


def test_wrong_arguments_are_a_type_error_too():
    with pytest.raises(TypeError, match=r"a.b\(\): missing a required argument: 'a'"):
        ArgumentCheck("a.b", one)([], {})


def test_a_function_that_does_not_say_what_it_takes_is_given_anything():
    check = ArgumentCheck("a.b", time.time)

    check([1, 2], {"three": 3})


def test_a_sandbox_is_a_profile_or_a_dict_of_its_fields():
    told = {"level": "strict", "tmp": "1MiB"}

    for one in (told, Sandbox(**told)):
        assert check_task_options("shop.pay", {"sandbox": one}) == {"sandbox": Sandbox(**told)}
    assert check_task_options("shop.pay", {"sandbox": None}) == {"sandbox": None}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"levl": "strict"}, "is no profile: sandbox: unknown field 'levl'; did you mean 'level'?"),
        ({"network": "any"}, "is no profile: sandbox: network='any' needs syscalls='net'"),
        ("strict", "is not a dict"),
        ({5: 1}, "task 'shop.pay': sandbox="),
    ],
)
def test_a_sandbox_that_is_none_is_refused(value, complaint):
    with pytest.raises(InvalidTaskError) as caught:
        check_task_options("shop.pay", {"sandbox": value})

    assert complaint in str(caught.value)
