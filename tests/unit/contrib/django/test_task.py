"""DjangoTask: sends that wait for the commit."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import TestCase

from cardoon import Cardoon, Task
from cardoon.contrib.django import DjangoTask, install
from cardoon.contrib.django import shared_task as typed_shared_task
from cardoon.exceptions import InvalidTaskError
from cardoon.shared import shared_task
from cardoon.testing import capture


@pytest.fixture
def app(app):
    install(app)
    return app


@pytest.fixture
def mail(app):
    @app.task(name="shop.mail")
    def mail(number, *, loud=False):
        return number

    return mail


@pytest.fixture
def sent(app):
    with capture(app) as sent:
        yield sent


def test_a_call_is_sent_when_the_transaction_is_committed(mail, sent, alias):
    with transaction.atomic(alias):
        mail.apply_async_on_commit((1,), using=alias)
        sent.assert_not_sent(mail)

    sent.assert_sent(mail, args=(1,))


def test_a_call_is_never_sent_if_it_is_rolled_back(mail, sent, database, rolled_back):
    with rolled_back(transaction.atomic):
        mail.delay_on_commit(1)

    sent.assert_not_sent(mail)


def test_a_call_is_sent_at_once_outside_of_any(mail, sent, database):
    mail.delay_on_commit(1, loud=True)

    sent.assert_sent(mail, args=(1,), kwargs={"loud": True})


def test_options_are_those_of_apply_async(mail, sent, database):
    with transaction.atomic():
        mail.apply_async_on_commit((1,), {"loud": True}, queue="mail", countdown=60)

    sent.assert_sent(mail, kwargs={"loud": True}, queue="mail", countdown=60)


@pytest.mark.parametrize(
    ("args", "options", "why"),
    [((), {}, "number"), ((1,), {"quueue": "mail"}, "did you mean 'queue'")],
)
def test_a_wrong_call_is_an_error_at_once(mail, sent, database, args, options, why):
    with pytest.raises(InvalidTaskError, match=why), transaction.atomic():
        mail.apply_async_on_commit(args, **options)


def test_arguments_given_later_to_the_list_are_not_sent(mail, sent, database):
    args = [1]
    with transaction.atomic():
        mail.apply_async_on_commit(args)
        args[0] = 2

    sent.assert_sent(mail, args=(1,))


def test_a_robust_call_keeps_no_error_from_the_caller(app, database, caplog):
    @app.task
    def fails():
        raise ValueError("no")

    app.conf.update(task_always_eager=True, task_eager_propagates=True)

    with pytest.raises(ValueError, match="no"), transaction.atomic():
        fails.delay_on_commit()
    with transaction.atomic():
        fails.apply_async_on_commit(robust=True)
    assert "on_commit" in caplog.text
    assert "ValueError: no" in caplog.text


def test_an_eager_task_runs_at_the_commit_of_a_test_case(app, database):
    app.conf.task_always_eager = True
    seen = []

    @app.task(name="shop.note_eagerly")
    def note(number):
        seen.append(number)

    with transaction.atomic():
        with TestCase.captureOnCommitCallbacks(execute=True) as callbacks:
            note.delay_on_commit(1)
            assert seen == []
        transaction.set_rollback(True)

    assert (seen, len(callbacks)) == ([1], 1)


def test_a_shared_task_has_it_too(app, sent, database):
    app.set_current()

    @shared_task(name="shop.note_shared")
    def note(number):
        return number

    note.delay_on_commit(1)

    sent.assert_sent(note.name, args=(1,))


def test_a_typed_shared_task_is_djangos_in_every_app(sent, app, database):
    class Own(Task):
        pass

    app.Task = Own

    @typed_shared_task
    def first(number):
        return number

    @typed_shared_task(name="shop.second", bind=True)
    def second(self, number):
        return number

    app.set_current()
    first.delay_on_commit(1)
    second.delay_on_commit(2)

    sent.assert_sent(first.name, args=(1,))
    sent.assert_sent("shop.second", args=(2,))


def test_a_base_of_the_projects_own_stays():
    class Own(Task):
        pass

    app = Cardoon("shop", task_cls=Own, set_as_current=False)
    install(app)

    assert app.Task is Own


def test_a_task_of_djangos_is_a_task():
    assert issubclass(DjangoTask, Task)
