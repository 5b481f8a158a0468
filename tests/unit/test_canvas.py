"""Signatures: calls to make later."""

from __future__ import annotations

import json

import pytest

from cardoon.canvas import Signature
from cardoon.exceptions import InvalidTaskError


class Recorder:
    """A caller that makes no call, and says which it was asked for."""

    def send_task(self, name, args=None, kwargs=None, **options):
        return ("sent", name, args, kwargs, options)

    def apply_task(self, name, args, kwargs, **options):
        return Ran(name, args, kwargs, options)


class Ran(tuple):
    __slots__ = ()

    def __new__(cls, *parts):
        return super().__new__(cls, parts)

    def get(self):
        return "value"


def sig(*args, immutable=False, **kwargs):
    return Signature("shop.pay", args, kwargs, immutable=immutable, caller=Recorder())


def test_a_signature_is_a_dict_that_travels_as_json():
    signature = sig(1, x=2).set(queue="fast")

    back = Signature(json.loads(json.dumps(signature)))

    assert back == signature
    assert (back.task, back.args, back.kwargs) == ("shop.pay", [1], {"x": 2})
    assert back.options == {"queue": "fast"}
    assert not back.immutable


def test_later_arguments_come_first_and_later_options_win():
    signature = sig(1, x=2, y=3).set(queue="fast", priority=1)

    sent = signature.apply_async((0,), {"x": 9}, queue="slow")

    assert sent == ("sent", "shop.pay", [0, 1], {"x": 9, "y": 3}, {"queue": "slow", "priority": 1})
    assert signature.args == [1]


def test_an_immutable_signature_takes_no_arguments_but_options():
    sent = sig(1, immutable=True).apply_async((0,), {"x": 9}, queue="slow")

    assert sent == ("sent", "shop.pay", [1], {}, {"queue": "slow"})


def test_delay_adds_arguments():
    assert sig(1).delay(0, x=2) == ("sent", "shop.pay", [0, 1], {"x": 2}, {})


def test_apply_runs_here_and_a_call_gives_the_value():
    assert sig(1).apply((0,)) == ("shop.pay", [0, 1], {}, {})
    assert sig(1)(0) == "value"


def test_what_is_linked_is_linked_once():
    signature, after, error = sig(), sig(1), sig(2)

    assert signature.link(after) is after
    signature.link(after)
    assert signature.link_error(error) is error

    assert signature.options == {"link": [after], "link_error": [error]}


def test_a_clone_shares_nothing():
    signature = sig([1])
    clone = signature.clone()

    clone.set(queue="x")
    clone["args"].append(2)

    assert (signature.options, signature.args) == ({}, [[1]])


def test_what_another_made_may_say_little():
    signature = Signature({"task": "shop.pay"}, caller=Recorder())

    assert signature.set(queue="q").delay(1) == ("sent", "shop.pay", [1], {}, {"queue": "q"})
    signature.link(sig())
    assert len(signature.options["link"]) == 1


@pytest.mark.parametrize("made", [{}, {"task": 5}, {"args": [1]}])
def test_a_signature_names_a_task(made):
    with pytest.raises(InvalidTaskError, match="names no task"):
        Signature(made)


def test_a_signature_without_app_says_so():
    with pytest.raises(InvalidTaskError, match="belongs to no app"):
        Signature("shop.pay").delay()


def test_a_signature_is_shown_as_a_call():
    assert repr(sig(1, "a", x=2)) == "shop.pay(1, 'a', x=2)"
