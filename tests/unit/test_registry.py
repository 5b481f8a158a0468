"""Tasks by name."""

from __future__ import annotations

import pytest

from cardoon import Task
from cardoon.exceptions import AlreadyRegistered, NotRegistered


def test_a_task_is_found_by_its_name(app):
    task = app.task(name="shop.pay")(lambda: 1)

    assert app.tasks["shop.pay"] is task


def test_an_unknown_name_is_refused_with_a_suggestion(app):
    app.task(name="shop.pay")(lambda: 1)

    with pytest.raises(NotRegistered, match=r"no task 'shop.pya' is registered here; did you mean"):
        app.tasks["shop.pya"]
    with pytest.raises(KeyError):
        app.tasks["zzz"]


def test_two_functions_cannot_have_one_name(app):
    def one(): ...
    def two(): ...

    app.task(name="shop.pay")(one)

    with pytest.raises(AlreadyRegistered, match=r"two tasks are named 'shop.pay': .*one and .*two"):
        app.task(name="shop.pay")(two)


def test_the_same_function_again_takes_the_old_ones_place(app):
    def one(): ...

    app.task(name="shop.pay")(one)
    second = app.task(name="shop.pay", max_retries=9)(one)

    assert app.tasks["shop.pay"] is second


def test_a_class_is_registered_once_and_again(app):
    class Pay(Task):
        name = "shop.pay"

    class Other(Task):
        name = "shop.pay"

    app.register_task(Pay())
    app.register_task(Pay())
    with pytest.raises(AlreadyRegistered):
        app.register_task(Other())
