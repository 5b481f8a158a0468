"""Options of tasks and calls, and attributes of the app, that are not here."""

from __future__ import annotations

import pytest


def decorated(decorator):
    return f"from cardoon import shared_task\n@{decorator}\ndef work(): ...\n"


@pytest.mark.parametrize(
    ("decorator", "why"),
    [
        ("shared_task(max_retires=3)", "did you mean 'max_retries'"),
        ("app.task(priority=11)", "priority=11"),
        ("app.task(bind=True, request_stack=x)", "unknown option 'request_stack'"),
    ],
)
def test_a_task_option_that_is_not_taken_is_reported(upgraded, decorator, why):
    [(line, said)] = upgraded(decorated(decorator)).decisions

    assert (line, why in said) == (2, True)


@pytest.mark.parametrize(
    "decorator",
    [
        "shared_task",
        "app.task(bind=True, name='x', base=Base, rate_limit=LIMIT)",
        "other(nonsense=1)",
    ],
)
def test_other_decorators_say_nothing(upgraded, decorator):
    assert upgraded(decorated(decorator)).decisions == []


def test_early_acknowledgement_of_a_task_is_noted(upgraded):
    [(line, said)] = upgraded(decorated("shared_task(acks_late=False)")).notes

    assert (line, said.startswith("acks_late=False: ")) == (2, True)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("work.apply_async((1,), connection=c)", "no 'connection' here: the app keeps its own"),
        ("app.send_task('x', args=(1,), reply_to='y')", "no 'reply_to' here"),
        ("work.apply_async(countdwon=3)", "did you mean 'countdown'"),
        ("work.apply_async(priority=77)", "priority=77"),
    ],
)
def test_an_option_of_a_call_that_is_not_taken_is_reported(upgraded, call, why):
    [(line, said)] = upgraded(call).decisions

    assert (line, why in said) == (1, True)


@pytest.mark.parametrize(
    "call",
    [
        "work.apply_async(args=(1,), kwargs={}, countdown=n, queue='x', **more)",
        "other.send(connection=1)",
    ],
)
def test_calls_that_work_say_nothing(upgraded, call):
    assert upgraded(call).decisions == []


def test_an_attribute_of_the_app_that_is_not_here_is_reported(upgraded):
    done = upgraded(
        """\
        from celery import Celery, current_app
        mine = Celery("x")
        with mine.connection_for_write() as one: ...
        with current_app.producer_or_acquire() as other: ...
        theirs.connection_for_write()
        """
    )

    assert [(line, said.partition(":")[0]) for line, said in done.decisions] == [
        (3, "app.connection_for_write"),
        (4, "app.producer_or_acquire"),
    ]
