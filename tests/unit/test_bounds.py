"""From the arguments of a call to the keys that a broker counts."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from cardoon.bounds import MAX_KEY_BYTES, Bounds, bind
from cardoon.broker import Limit, Unique
from cardoon.exceptions import EncodeError, InvalidTaskError
from cardoon.task_options import ArgumentCheck

NAME = "shop.pay"


def pay(user, amount=1, *, note=None, **more):
    """What the calls of these tests are of."""


def bound(*args, is_composed=False, known=True, task=NAME, **kwargs):
    options = {name: kwargs.pop(name) for name in Bounds._fields if name in kwargs}
    return bind(
        task,
        args,
        kwargs,
        Bounds(**options),
        name_arguments=ArgumentCheck(NAME, pay).names if known else None,
        is_composed=is_composed,
    )


def unique_key(*args, **kwargs):
    unique, _ = bound(*args, unique=True, **kwargs)
    return unique.key


def test_nothing_asked_is_nothing_told():
    assert bound(1) == (None, None)
    assert bound(1, unique=False, concurrency_limit=0, cluster_rate_limit=0) == (None, None)


def test_a_unique_call_has_the_key_of_its_arguments():
    unique, limit = bound("ann", unique=True)

    assert (unique, limit) == (Unique(unique.key, 0.0), None)
    assert unique.key.startswith("shop.pay/")
    assert "ann" not in unique.key
    assert len(unique.key) == len(NAME) + 33


def test_a_period_is_in_seconds():
    assert bound(1, unique=60.0)[0].period == 60.0


@pytest.mark.parametrize(
    "same",
    [
        lambda: unique_key(1, 1),
        lambda: unique_key(1, amount=1),
        lambda: unique_key(amount=1, user=1),
        lambda: unique_key(1, 1, note=None),
    ],
)
def test_the_same_arguments_are_the_same_however_they_are_given(same):
    assert same() == unique_key(1)


def test_the_order_of_keys_makes_no_difference():
    assert unique_key({"a": 1, "b": [2]}, x=1, y=2) == unique_key({"b": [2], "a": 1}, y=2, x=1)


@pytest.mark.parametrize(
    "other",
    [
        lambda: unique_key(2),
        lambda: unique_key("1"),
        lambda: unique_key(1.0),
        lambda: unique_key(True),
        lambda: unique_key(1, 2),
        lambda: unique_key(1, more=1),
        lambda: unique_key(1, unique_key=("user",)),
        lambda: unique_key(1, task="shop.ship"),
    ],
)
def test_other_arguments_or_tasks_are_others(other):
    assert other() != unique_key(1)


def test_arguments_that_json_needs_tags_for_make_keys():
    moment = datetime(2026, 11, 22, tzinfo=UTC)

    assert unique_key(moment) == unique_key(datetime(2026, 11, 22, tzinfo=UTC))
    assert unique_key(moment) != unique_key(moment + timedelta(seconds=1))
    with pytest.raises(EncodeError):
        unique_key(object())


def test_a_set_makes_the_same_key_in_every_process():
    code = "from tests.unit.test_bounds import *\nprint(unique_key({'a', 'b', 'c', 'd', 'e', 'f'}))"

    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }

    assert len(keys) == 1


def test_named_arguments_alone_make_the_key():
    keys = {unique_key(1, amount, unique_key=("user",)) for amount in range(3)}

    assert len(keys) == 1
    assert keys != {unique_key(2, unique_key=("user",))}
    assert unique_key(1, unique_key=("amount",)) == unique_key(2, 1, unique_key=("amount",))


def test_a_function_of_the_arguments_makes_the_key():
    def first_letter(user, *_, **__):
        return user[0]

    keys = [unique_key(name, unique_key=first_letter) for name in ("ann", "adam", "bob")]

    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (lambda *_: 7, "returned 7, which is not text"),
        (lambda *_: {}[1], "unique_key failed: KeyError"),
    ],
)
def test_a_function_that_makes_no_text_is_an_error(source, complaint):
    with pytest.raises(InvalidTaskError, match=complaint):
        unique_key(1, unique_key=source)


def test_a_limit_is_for_the_whole_task_unless_it_has_a_key():
    _, whole = bound(1, concurrency_limit=3)
    _, of_one = bound(1, concurrency_limit=3, limit_key=("user",))

    assert whole == Limit("shop.pay", 3, 0.0)
    assert of_one.key.startswith("shop.pay/")
    assert of_one.most == 3


def test_limits_and_uniqueness_have_keys_of_their_own():
    unique, limit = bound(
        1, unique=True, unique_key=("user",), concurrency_limit=1, limit_key=("user",)
    )

    assert unique.key != limit.key


@pytest.mark.parametrize(("rate", "gap"), [("100/m", 0.6), (4, 0.25), ("1/h", 3600.0)])
def test_a_rate_is_seconds_between_starts(rate, gap):
    _, limit = bound(1, cluster_rate_limit=rate)

    assert limit == Limit("shop.pay", 0, pytest.approx(gap))


def test_of_a_task_that_is_not_known_here_arguments_are_known_by_keyword_only():
    known = unique_key(user=1, unique_key=("user",))

    assert unique_key(user=1, known=False, unique_key=("user",)) == known
    assert unique_key(known=False, user=1) == unique_key(known=False, user=1)
    with pytest.raises(InvalidTaskError, match="the task is not known here; pass them by keyword"):
        unique_key(1, known=False)
    with pytest.raises(InvalidTaskError, match="'usr' is not one of its arguments; did you mean"):
        unique_key(user=1, known=False, unique_key=("usr",))


def test_behind_another_task_arguments_are_known_by_keyword_only():
    def limit_of(*args, **kwargs):
        return bound(*args, concurrency_limit=1, is_composed=True, **kwargs)[1]

    assert limit_of(1).key == "shop.pay"
    assert (
        limit_of(amount=1, limit_key=("amount",))
        == bound(9, amount=1, concurrency_limit=1, limit_key=("amount",))[1]
    )
    with pytest.raises(InvalidTaskError, match="pass them by keyword"):
        limit_of(1, limit_key=("amount",))
    with pytest.raises(InvalidTaskError, match="a function of all arguments"):
        limit_of(amount=1, limit_key=lambda **_: "x")


def test_the_longest_name_makes_a_key_that_may_travel():
    assert len(unique_key(1, task="é" * 128).encode()) <= MAX_KEY_BYTES


def test_what_a_call_says_comes_before_what_the_task_says():
    task = Bounds(True, ("user",), 3, ("user",), "1/s")

    assert Bounds(unique=False).over(task) == task._replace(unique=False)
    assert Bounds(concurrency_limit=0, limit_key=("a",)).over(task) == task._replace(
        concurrency_limit=0, limit_key=("a",)
    )
    assert Bounds(unique=5.0).over(None) == Bounds(unique=5.0)
