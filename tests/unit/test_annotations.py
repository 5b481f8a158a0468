"""`task_annotations`: attributes of tasks that the settings change."""

from __future__ import annotations

import functools
import sys

import pytest

from cardoon import Task
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.worker.catalogue import rules_of


@pytest.fixture
def add(app):
    @app.task(name="shop.add")
    def add(x, y=0):
        return x + y

    return add


def limits(app):
    """The rate limits of the app's own tasks, once the settings count."""
    _ = app.settings
    return {name: task.rate_limit for name, task in app.tasks.items() if "cardoon." not in name}


class ByName:
    def annotate(self, task):
        return {"rate_limit": "7/s"} if task.name.startswith("shop.") else None


class ForAll:
    def annotate_any(self):
        return {"rate_limit": "7/s"}


@pytest.mark.parametrize(
    "annotations",
    [
        {"shop.add": {"rate_limit": "7/s"}},
        {"shop.*": {"rate_limit": "7/s"}},
        {"*": {"rate_limit": "7/s"}},
        [{"shop.add": {"rate_limit": "7/s"}}, {"web.*": {"rate_limit": "8/s"}}],
        ByName(),
        [ByName],
        ForAll(),
        "annotations_of_shop.ByName",
        ("annotations_of_shop:ForAll",),
    ],
)
def test_a_task_is_given_what_the_settings_say(app, add, annotations, monkeypatch):
    monkeypatch.setitem(sys.modules, "annotations_of_shop", sys.modules[__name__])

    app.conf.task_annotations = annotations

    assert limits(app) == {"shop.add": "7/s"}
    assert rules_of(add, app.settings).rate_limit == 7.0


def test_a_task_that_is_declared_later_is_given_it_too(app):
    app.conf.task_annotations = {"shop.add": {"max_retries": 9, "priority": 4}}
    _ = app.settings

    task = app.task(name="shop.add")(lambda x: x)

    assert task.max_retries == 9
    assert (task.call_defaults.max_retries, task.call_defaults.priority) == (9, 4)


def test_the_most_specific_wins_and_of_those_that_are_alike_the_first(app, add):
    app.task(name="shop.mail")(lambda: None)
    app.task(name="web.get")(lambda: None)

    app.conf.task_annotations = [
        {"*": {"rate_limit": 1, "priority": 1}, "shop.add": {"rate_limit": 3}},
        {"shop.*": {"rate_limit": 2}, "shop.add": {"rate_limit": 4, "time_limit": 5}},
    ]

    assert limits(app) == {"shop.add": 3, "shop.mail": 2, "web.get": 1}
    assert (add.priority, add.time_limit) == (1, 5.0)


def test_settings_count_more_than_the_declaration_and_their_change_is_followed(app):
    task = app.task(name="shop.add", rate_limit=5)(lambda x: x)

    app.conf.task_annotations = {"*": {"rate_limit": 1, "queue": "slow"}}
    assert (limits(app), task.call_defaults.queue) == ({"shop.add": 1}, "slow")

    app.conf.task_annotations = {"*": {"priority": 3}}
    assert (limits(app), task.call_defaults.queue) == ({"shop.add": 5}, "celery")

    app.conf.task_annotations = None
    assert (limits(app), task.priority) == ({"shop.add": 5}, None)


def test_patterns_leave_the_tasks_alone_that_canvases_are_made_of(app):
    app.conf.task_annotations = {"*": {"rate_limit": 1}, "cardoon.m*": {"rate_limit": 1}}
    _ = app.settings

    assert {task.rate_limit for task in app.tasks.values()} == {None}

    app.conf.task_annotations = {"cardoon.map": {"rate_limit": 1}}
    _ = app.settings
    assert app.tasks["cardoon.map"].rate_limit == 1


def test_hooks_are_methods_of_the_task(app):
    seen = []

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        seen.append((self.name, repr(exc), args))

    @app.task(name="shop.fail")
    def fail(x):
        raise ValueError(x)

    app.conf.task_annotations = {"*": {"on_failure": on_failure}}
    fail.apply((1,))

    assert seen == [("shop.fail", "ValueError(1)", (1,))]


def test_an_at_sign_wraps_the_present_method(app):
    seen = []

    class Base(Task):
        def on_success(self, retval, task_id, args, kwargs):
            seen.append((self.name, retval))

    def twice(method):
        def wrapper(self, retval, *rest):
            method(self, retval, *rest)
            method(self, -retval, *rest)

        return wrapper

    @app.task(name="shop.add", base=Base)
    def add(x):
        return x

    app.conf.task_annotations = {"shop.add": {"@on_success": twice}}
    add.apply((2,))
    app.conf.task_annotations = {}
    add.apply((3,))

    assert seen == [("shop.add", 2), ("shop.add", -2), ("shop.add", 3)]


@pytest.mark.parametrize("bind", [False, True])
def test_the_body_can_be_wrapped_and_keeps_its_signature(app, bind):
    def doubled(run):
        @functools.wraps(run)
        def wrapper(*args, **kwargs):
            return 2 * run(*args, **kwargs)

        return wrapper

    if bind:
        task = app.task(name="shop.add", bind=True)(lambda self, x: len(self.name) + x)
    else:
        task = app.task(name="shop.add")(lambda x: 8 + x)

    app.conf.task_annotations = {"*": {"@run": doubled}}
    _ = app.settings

    assert task(1) == task.apply((1,)).get() == 18
    with pytest.raises(InvalidTaskError, match="missing a required argument: 'x'"):
        task.delay()


def test_an_attribute_that_the_tasks_own_class_has_may_be_changed(app):
    class Base(Task):
        database = "main"

    task = app.task(name="shop.add", base=Base)(lambda: None)

    app.conf.task_annotations = {"shop.*": {"database": "copy"}}
    _ = app.settings

    assert task.database == "copy"
    assert Base.database == "main"


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"rate_limt": 1}, "'shop.add': unknown option 'rate_limt'; did you mean 'rate_limit'?"),
        ({"rate_limit": "fast"}, "task 'shop.add': rate_limit='fast' is not a rate"),
        ({"bind": True}, "no 'bind' here: it is part of how the function is written"),
        ({"name": "x"}, "no 'name' here: messages call a task by its name"),
        ({"@__call__": lambda f: f}, "no '@__call__' here: use '@run'"),
        ({"on_failure": "x"}, "'shop.add': on_failure='x' is no function"),
        ({"@on_failure": lambda f: 5}, "'shop.add': on_failure=5 is no function"),
        ({"_application": 1}, "unknown option '_application'"),
        ({"delay": print}, "unknown option 'delay'"),
        ({"soft_time_limit": 50}, "soft_time_limit=50.0 is not below time_limit=9.0"),
    ],
)
def test_an_attribute_that_is_wrong_is_refused_at_each_use(app, attributes, told):
    task = app.task(name="shop.add", time_limit=9)(lambda: None)
    app.conf.task_annotations = {"shop.*": attributes}

    for _ in range(2):
        with pytest.raises(InvalidTaskError, match=r"^task_annotations: ") as caught:
            task.delay()
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        (5, "task_annotations: 5 has 5, which is neither a dict nor has annotate"),
        ({"a": 5}, "has 'a': 5, which is no dict of options"),
        ([{5: {}}], "has 5: {}, which is no dict of options"),
    ],
)
def test_annotations_that_are_none_are_refused_when_they_are_set(app, annotations, told):
    with pytest.raises(ImproperlyConfigured) as caught:
        app.conf.task_annotations = annotations

    assert told in str(caught.value)


def test_an_annotation_that_answers_something_else_is_named(app, add):
    class Odd:
        def annotate(self, task):
            return "rate_limit"

    app.conf.task_annotations = Odd()

    with pytest.raises(ImproperlyConfigured, match=r"Odd .* said 'rate_limit' of '"):
        add.delay(1)
