"""Tasks: how they are made, called, bounded and retried."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import pytest

from cardoon import Task, states
from cardoon.context import Request, carrying_out
from cardoon.exception_info import ExceptionInfo
from cardoon.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    MaxRetriesExceededError,
    Retry,
)
from cardoon.message.serializers import decode_body
from cardoon.retrying import NO_LIMIT


class Told:
    """A `Sender` that remembers states."""

    def __init__(self):
        self.states = []

    def update_state(self, task_id, state, codec, body):
        self.states.append((task_id, state, decode_body(codec, body, max_bytes=1000)))


def running(task, **fields):
    """The request of a call that a worker carries out."""
    given = {"task": task.name, "id": "t1", "called_directly": False, "hostname": "w@h", **fields}
    return carrying_out(Request(**given))


class TestMaking:
    def test_a_function_is_a_task_and_stays_what_it_was(self, app):
        @app.task
        def add(x, y):
            """Add."""
            return x + y

        assert isinstance(add, Task)
        assert (add.__doc__, add.__module__, add.__wrapped__(1, 2)) == ("Add.", __name__, 3)
        assert add.name == f"{__name__}.add"
        assert repr(add) == f"<@task: {add.name}>"
        assert add(1, 2) == 3

    def test_options_are_attributes(self, app):
        task = app.task(name="shop.pay", max_retries=9, rate_limit="5/m", queue="fast")(lambda: 1)

        assert (task.name, task.max_retries, task.queue) == ("shop.pay", 9, "fast")

    def test_an_unknown_option_is_refused(self, app):
        with pytest.raises(InvalidTaskError, match="unknown option 'retires'"):
            app.task(retires=9)(lambda: 1)

    @pytest.mark.parametrize("name", ["a\nb", 5, "x" * 257])
    def test_a_name_that_no_message_can_carry_is_refused(self, app, name):
        with pytest.raises(InvalidTaskError, match="task name="):
            app.task(name=name)(lambda: 1)

    @pytest.mark.parametrize("thing", [5, "text", None])
    def test_what_is_no_function_is_no_task(self, app, thing):
        with pytest.raises(InvalidTaskError, match="is not a function"):
            app.task(name="x")(thing)

    def test_a_callable_object_is_no_task(self, app):
        class Thing:
            def __call__(self): ...

        with pytest.raises(InvalidTaskError, match="wrap it in a def"):
            app.task(name="x")(Thing())

    def test_a_class_is_to_be_registered_otherwise(self, app):
        with pytest.raises(InvalidTaskError, match="use register_task"):
            app.task(Task)
        with pytest.raises(InvalidTaskError, match="is not an instance of a Task subclass"):
            app.register_task(Task)

    def test_the_base_is_a_task(self, app):
        with pytest.raises(InvalidTaskError, match=r"base=.* is not a subclass of Task"):
            app.task(name="x", base=int)(lambda: 1)

    def test_a_bound_function_is_given_its_task(self, app):
        @app.task(bind=True)
        def me(self, x):
            return [self.name, x]

        assert me(5) == [me.name, 5]

    def test_a_subclass_is_a_task_when_it_is_registered(self, app):
        class Pay(Task):
            queue = "fast"

            def run(self, amount):
                return amount * 2

        task = app.register_task(Pay())

        assert task.name == f"{__name__}.Pay"
        assert task(2) == 4
        assert task.call_defaults.queue == "fast"

    def test_the_options_of_a_subclass_are_checked_and_read(self, app):
        class Wrong(Task):
            rate_limit = "often"

        class Right(Task):
            time_limit = timedelta(minutes=1)
            autoretry_for = ValueError

        with pytest.raises(InvalidTaskError, match="Wrong': rate_limit='often'"):
            app.register_task(Wrong())
        task = app.register_task(Right())
        assert (task.time_limit, task.autoretry_for) == (60.0, (ValueError,))

    def test_a_task_without_body_says_so(self, app):
        with pytest.raises(NotImplementedError, match="has no body; define run"):
            app.register_task(type("Empty", (Task,), {})())()

    def test_a_task_without_app_says_so(self):
        with pytest.raises(ImproperlyConfigured, match="belongs to no app"):
            Task().delay()


class TestDefaults:
    def test_settings_fill_in_what_the_task_leaves_open(self, app):
        app.conf.update(
            task_default_queue="q",
            task_default_priority=4,
            task_ignore_result=True,
            task_compression="zlib",
        )
        task = app.task(name="x")(lambda: 1)
        own = app.task(name="y", queue="own", priority=0, ignore_result=False)(lambda: 1)

        defaults = task.call_defaults
        assert (defaults.queue, defaults.priority, defaults.ignore_result) == ("q", 4, True)
        assert defaults.codec.endswith("zlib")
        defaults = own.call_defaults
        assert (defaults.queue, defaults.priority, defaults.ignore_result) == ("own", 0, False)

    def test_defaults_are_computed_anew_when_a_setting_changes(self, app):
        task = app.task(name="x")(lambda: 1)
        first = task.call_defaults
        assert task.call_defaults is first

        app.conf.task_default_queue = "other"

        assert task.call_defaults.queue == "other"

    @pytest.mark.parametrize(
        ("options", "limit"),
        [
            ({}, 3),
            ({"max_retries": None}, NO_LIMIT),
            ({"max_retries": 0}, 0),
            ({"retry_kwargs": {"max_retries": 7}}, 7),
            ({"retry_kwargs": {"max_retries": None}}, NO_LIMIT),
        ],
    )
    def test_the_sender_signs_how_often_the_task_may_retry(self, app, options, limit):
        assert app.task(name="x", **options)(lambda: 1).call_defaults.max_retries == limit


class TestArguments:
    def test_they_are_checked_at_the_call(self, app):
        task = app.task(name="add")(lambda x, y: x + y)

        with pytest.raises(InvalidTaskError, match=r"add\(\): missing a required argument: 'y'"):
            task.delay(1)

    def test_they_are_not_checked_where_that_is_off(self, app):
        task = app.task(name="add", typing=False)(lambda x, y: x + y)

        assert task.delay(1).id

    def test_a_task_given_to_a_bound_function_is_not_one_of_them(self, app):
        task = app.task(name="me", bind=True)(lambda self, x: x)

        task.check_arguments((1,), {})
        with pytest.raises(InvalidTaskError):
            task.check_arguments((1, 2), {})


class TestSignatures:
    def test_they_are_calls_to_make_later(self, app):
        task = app.task(name="add")(lambda x, y: x + y)

        assert task.s(1, y=2) == task.signature((1,), {"y": 2})
        assert task.si(1).immutable
        assert task.signature((1,), queue="fast").options == {"queue": "fast"}
        assert task.s(1)(2) == 3

    def test_a_result_is_found_by_id(self, app):
        assert app.task(name="x")(lambda: 1).AsyncResult("t1").id == "t1"


class TestRequest:
    def test_outside_of_a_call_it_is_empty(self, app):
        task = app.task(name="x")(lambda: 1)

        assert (task.request.id, task.request.task) == (None, "x")

    def test_a_direct_call_has_one_without_id(self, app):
        @app.task(bind=True)
        def me(self, x):
            return [self.request.id, self.request.args, self.request.called_directly]

        assert me(5) == [None, (5,), True]

    def test_a_direct_call_in_a_worker_still_holds_the_worker(self, app):
        inner = app.task(name="inner", bind=True)(lambda self: self.request.hostname)
        outer = app.task(name="outer")(lambda: 1)

        with running(outer):
            assert inner() == "w@h"


class TestUpdateState:
    @pytest.fixture
    def told(self, app):
        told = Told()
        app.attach(told)
        return told

    def test_a_running_task_says_how_far_it_is(self, app, told):
        task = app.task(name="x")(lambda: 1)

        with running(task):
            task.update_state(state="PROGRESS", meta={"done": 1})
        task.update_state(task_id="t2", state="STARTED")

        assert told.states == [
            ("t1", "PROGRESS", {"result": {"done": 1}}),
            ("t2", "STARTED", {"result": None}),
        ]

    @pytest.mark.parametrize("state", [None, "", "x" * 65, "a\nb", 5])
    def test_a_state_is_a_short_text(self, app, told, state):
        task = app.task(name="x")(lambda: 1)

        with running(task), pytest.raises(InvalidTaskError, match="state"):
            task.update_state(state=state)

    def test_outside_of_a_task_it_needs_an_id(self, app, told):
        with pytest.raises(InvalidTaskError, match="a running task or a task_id"):
            app.task(name="x")(lambda: 1).update_state(state="PROGRESS")

    def test_a_client_cannot_sign_the_state_of_a_task(self, app):
        with pytest.raises(InvalidTaskError, match="does not run here"):
            app.task(name="x")(lambda: 1).update_state("t1", "PROGRESS")


class TestRetry:
    @pytest.fixture
    def task(self, app):
        return app.task(name="x", max_retries=3)(lambda *args: 1)

    def retry(self, task, request=None, **options):
        with running(task, **(request or {})), pytest.raises(Retry) as caught:
            task.retry(**options)
        return caught.value

    def test_it_is_later_by_the_tasks_own_delay(self, task, clock):
        retry = self.retry(task)

        assert (retry.when, retry.exc, retry.sig) == (clock.now() + 180, None, None)

    @pytest.mark.parametrize("countdown", [5, timedelta(seconds=5)])
    def test_it_is_later_by_a_countdown(self, task, clock, countdown):
        assert self.retry(task, countdown=countdown).when == clock.now() + 5

    def test_it_is_at_an_eta(self, task):
        assert self.retry(task, eta=datetime(2030, 1, 1, tzinfo=UTC)).when == 1893456000
        assert self.retry(task, eta=datetime(1960, 1, 1, tzinfo=UTC)).when == 0

    @pytest.mark.parametrize("countdown", [math.nan, math.inf, 1e12, "soon", -1e12])
    def test_a_delay_that_is_none_is_refused(self, task, countdown):
        with running(task), pytest.raises(InvalidTaskError, match="retry: countdown="):
            task.retry(countdown=countdown)

    def test_an_eta_that_is_none_is_refused(self, task):
        with running(task), pytest.raises(InvalidTaskError, match="retry: eta='soon'"):
            task.retry(eta="soon")

    def test_changes_make_a_new_signature(self, task):
        request = {"args": (1, 2), "kwargs": {"a": 3}}

        assert self.retry(task, request, queue="q").sig == task.signature(
            (1, 2), {"a": 3}, queue="q"
        )
        assert self.retry(task, request, args=(5,)).sig == task.signature((5,), {"a": 3})
        assert self.retry(task, request, kwargs={}).sig == task.signature((1, 2), {})

    def test_a_change_that_makes_no_sense_is_refused_at_once(self, task):
        with running(task), pytest.raises(InvalidTaskError, match="retry: unknown option 'queu'"):
            task.retry(queu="q")

    def test_the_exception_that_is_handled_is_its_cause(self, app):
        @app.task(bind=True, name="y")
        def work(self):
            try:
                int("no number")
            except ValueError:
                self.retry()

        with running(work), pytest.raises(Retry, match="retry: ValueError") as caught:
            work.run()

        assert isinstance(caught.value.exc, ValueError)

    def test_it_may_be_returned_instead(self, task):
        with running(task) as request:
            retry = task.retry(throw=False)

            assert request.pending_retry is retry

    @pytest.mark.parametrize(
        ("request_fields", "options"),
        [
            ({"retries": 3}, {}),
            ({"retries": 1}, {"max_retries": 1}),
            ({"retries": 2, "max_retries": 2}, {"max_retries": 9}),
        ],
    )
    def test_no_retry_is_left(self, task, request_fields, options):
        with running(task, **request_fields) as request:
            with pytest.raises(MaxRetriesExceededError, match=r"x\[t1\] has used its"):
                task.retry(**options)
            with pytest.raises(ValueError, match="mine"):
                task.retry(exc=ValueError("mine"), **options)
            assert request.exhausted

    def test_called_directly_there_is_no_message(self, app):
        task = app.task(name="y", bind=True)(lambda self, exc: self.retry(exc=exc))

        with pytest.raises(Retry, match="called directly"):
            task(None)
        with pytest.raises(ValueError, match="mine"):
            task(ValueError("mine"))


def test_what_went_wrong_is_shown_as_its_traceback():
    error = ValueError("no")

    info = ExceptionInfo.of(error, "the traceback")

    assert (info.type, info.exception, str(info)) == (ValueError, error, "the traceback")


def test_every_hook_may_be_left_out():
    task = Task()

    assert task.before_start("t", (), {}) is None
    assert task.on_success(1, "t", (), {}) is None
    assert task.after_return(states.SUCCESS, 1, "t", (), {}, None) is None


def test_the_limit_in_a_message_is_that_of_the_task(stage):
    stage.app.task(name="shop.pay", max_retries=1, time_limit=9)(lambda: 1)

    stage.send(headers={"a": 1})
    [job] = stage.consume()

    assert job.head["max_retries"] == 1
    assert job.hard_limit == 9
    assert json.loads(json.dumps(job.head))["headers"]["headers"] == {"a": 1}
