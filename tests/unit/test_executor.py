"""How a task's body is called, and what each way to end means."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cardoon import Task
from cardoon.context import Request, current_request
from cardoon.coroutines import LoopRunner
from cardoon.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    SoftShutdown,
)
from cardoon.executor import (
    MAX_TRACEBACK_CHARACTERS,
    Failed,
    HandedBack,
    Ignored,
    Rejected,
    Retried,
    Succeeded,
    execute,
    execute_async,
    format_traceback,
)


class Hooked(Task):
    """Remembers which hooks were called, in order."""

    abstract = True

    def __init__(self):
        self.called = []

    def before_start(self, task_id, args, kwargs):
        self.called.append(("before_start", task_id, list(args), kwargs))

    def on_success(self, retval, task_id, args, kwargs):
        self.called.append(("on_success", retval))

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        self.called.append(("on_retry", type(exc), einfo.type, str(einfo) == einfo.traceback))

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self.called.append(("on_failure", exc, einfo.exception))

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        self.called.append(("after_return", status))


def request_of(task, *args, **fields):
    given = {"id": "t1", "called_directly": False, **fields}
    return Request(task=task.name, args=args, **given)


def no_loop(awaitable):
    raise AssertionError("no coroutine here")


def run(task, *args, **fields):
    return execute(task, request_of(task, *args, **fields), no_loop)


def make(app, function, **options):
    return app.task(base=Hooked, **options)(function)


def test_a_task_that_returns_has_succeeded(app):
    task = make(app, lambda x: x + 1, name="inc")

    assert run(task, 1) == Succeeded(2)
    assert task.called == [
        ("before_start", "t1", [1], {}),
        ("on_success", 2),
        ("after_return", "SUCCESS"),
    ]


def test_a_task_that_raises_has_failed(app):
    error = ValueError("no")

    def fail():
        raise error

    task = make(app, fail)
    outcome = run(task)

    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.exhausted) == (error, False)
    assert outcome.traceback.startswith("Traceback (most recent call last):")
    assert "in fail" in outcome.traceback
    assert "cardoon/executor.py" not in outcome.traceback
    assert task.called[1:] == [("on_failure", error, error), ("after_return", "FAILURE")]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_nothing_that_a_task_raises_ends_the_process(app, error):
    def leave():
        raise error

    assert run(make(app, leave)).error is error


def test_a_task_may_end_without_result(app):
    def ignore():
        raise Ignore

    task = make(app, ignore)

    assert run(task) == Ignored()
    assert task.called[-1] == ("after_return", "IGNORED")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Reject("not mine", requeue=True), Rejected("not mine", requeue=True)),
        (Reject(), Rejected("", requeue=False)),
        (Reject(ValueError("x")), Rejected("x", requeue=False)),
    ],
    ids=["with a reason", "without", "with an error"],
)
def test_a_task_may_refuse_its_message(app, error, outcome):
    def reject():
        raise error

    task = make(app, reject)

    assert run(task) == outcome
    assert task.called[-1] == ("after_return", "REJECTED")


def test_a_task_that_is_interrupted_by_a_shutdown_is_handed_back(app):
    def work():
        raise SoftShutdown

    task = make(app, work)

    assert run(task) == HandedBack()
    assert len(task.called) == 1


def test_a_task_may_ask_to_run_again(app, clock):
    def work(self):
        raise self.retry(exc=ValueError("not yet"), countdown=5)

    task = make(app, work, bind=True)
    outcome = run(task)

    assert isinstance(outcome, Retried)
    assert outcome.retry.when == clock.now() + 5
    assert task.called[1:] == [
        ("on_retry", ValueError, ValueError, True),
        ("after_return", "RETRY"),
    ]


def test_a_retry_without_throw_counts_at_the_end(app):
    def work(self):
        self.retry(throw=False, countdown=1)
        return "ignored"

    assert isinstance(run(make(app, work, bind=True)), Retried)


def test_a_task_that_has_no_retries_left_fails_with_its_own_error(app):
    def work(self):
        raise self.retry(exc=ValueError("not yet"))

    task = make(app, work, bind=True, max_retries=2)

    assert isinstance(run(task, retries=1), Retried)
    outcome = run(task, retries=2)
    assert (str(outcome.error), outcome.exhausted) == ("not yet", True)


def test_the_limit_that_the_sender_signed_counts_too(app):
    def work(self):
        self.retry()

    task = make(app, work, bind=True, max_retries=None)

    assert isinstance(run(task, retries=5), Retried)
    assert isinstance(run(task, retries=5, max_retries=5).error, MaxRetriesExceededError)


def test_a_retry_raised_by_hand_keeps_to_the_signed_limit(app):
    def work():
        raise Retry("again", exc=ValueError("not yet"))

    task = make(app, work)

    assert isinstance(run(task, retries=2, max_retries=3), Retried)
    outcome = run(task, retries=3, max_retries=3)
    assert (str(outcome.error), outcome.exhausted) == ("not yet", True)


def test_a_task_retries_by_itself_for_some_errors(app, clock):
    def work(kind):
        raise kind("x")

    task = make(
        app,
        work,
        autoretry_for=(OSError,),
        dont_autoretry_for=(FileNotFoundError,),
        retry_backoff=3,
        retry_jitter=False,
        retry_backoff_max=10,
    )

    waits = [run(task, OSError, retries=n).retry.when - clock.now() for n in range(3)]
    assert waits == [3, 6, 10]
    assert run(task, OSError, retries=3).exhausted
    assert isinstance(run(task, FileNotFoundError), Failed)
    assert isinstance(run(task, ValueError), Failed)


def test_jitter_never_waits_longer_than_the_backoff(app, clock):
    def work():
        raise OSError

    task = make(app, work, autoretry_for=OSError, retry_backoff=True)

    assert 0 <= run(task).retry.when - clock.now() <= 1


def test_the_retry_options_of_a_task_are_those_of_its_retries(app, clock):
    def work():
        raise OSError("x")

    task = make(app, work, autoretry_for=OSError, retry_kwargs={"max_retries": 5, "countdown": 7})

    assert run(task, retries=4).retry.when == clock.now() + 7
    assert run(task, retries=5).exhausted


@pytest.mark.parametrize("hook", ["on_success", "after_return"])
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1)], ids=repr)
def test_a_hook_that_raises_changes_nothing_and_is_logged(app, caplog, hook, error):
    class Bad(Task):
        pass

    def raise_it(self, *args):
        raise error

    setattr(Bad, hook, raise_it)
    task = app.task(base=Bad, name="bad")(lambda: 5)

    with caplog.at_level(logging.ERROR):
        assert run(task) == Succeeded(5)
    assert "raise" in caplog.text


def test_what_the_first_hook_raises_counts_as_the_tasks(app):
    class Strict(Task):
        def before_start(self, task_id, args, kwargs):
            raise Reject("not now")

    task = app.task(base=Strict, name="strict")(lambda: 5)

    assert run(task) == Rejected("not now", requeue=False)


def test_an_expected_error_is_said_so(app, caplog):
    def fail():
        raise KeyError("x")

    task = make(app, fail, throws=(KeyError,))

    with caplog.at_level(logging.INFO):
        assert isinstance(run(task), Failed)
    assert "raised expected: KeyError('x')" in caplog.text


def test_the_body_sees_its_request_and_nobody_else_does(app):
    def work():
        return current_request().id

    assert run(make(app, work), id="t7") == Succeeded("t7")
    assert current_request() is None


def test_a_class_may_wrap_the_call(app):
    class Wrapped(Task):
        def __call__(self, *args, **kwargs):
            return ["wrapped", super().__call__(*args, **kwargs), self.request.id]

    task = app.task(base=Wrapped, name="wrapped")(lambda x: x)

    assert run(task, 5) == Succeeded(["wrapped", 5, "t1"])


@pytest.mark.parametrize("wraps", [False, True])
def test_a_task_that_calls_itself_directly_is_another_call(app, wraps):
    class Wrapped(Task):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    def countdown(self, number):
        direct = [self.request.called_directly]
        return direct + (self(number - 1) if number else [])

    task = app.task(base=Wrapped if wraps else None, bind=True, name="count")(countdown)

    assert run(task, 2) == Succeeded([False, True, True])


def test_a_coroutine_is_driven_to_its_end(app):
    async def work(x):
        await asyncio.sleep(0)
        return [x, current_request().id]

    runner = LoopRunner()
    task = make(app, work)
    try:
        assert execute(task, request_of(task, 5), runner) == Succeeded([5, "t1"])
    finally:
        runner.close()


def test_a_coroutine_runs_in_the_loop_there_is(app):
    async def work(x):
        await asyncio.sleep(0)
        return [x, current_request().id]

    task = make(app, work)

    assert asyncio.run(execute_async(task, request_of(task, 5))) == Succeeded([5, "t1"])


def test_a_plain_function_and_a_failing_coroutine_in_the_loop(app):
    async def fail():
        raise ValueError("x")

    plain, failing = make(app, lambda: 5, name="plain"), make(app, fail)

    assert asyncio.run(execute_async(plain, request_of(plain))) == Succeeded(5)
    assert isinstance(asyncio.run(execute_async(failing, request_of(failing))), Failed)


def test_a_traceback_is_bounded():
    code = compile("1 / 0", "x" * 40_000, "exec")
    with pytest.raises(ZeroDivisionError) as caught:
        exec(code, {})

    text = format_traceback(caught.value)

    assert len(text) <= MAX_TRACEBACK_CHARACTERS + 20
    assert "... cut ..." in text
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_a_traceback_can_always_be_encoded():
    assert format_traceback(ValueError("\ud800")).encode()
