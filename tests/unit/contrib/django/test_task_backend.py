"""The backend of `django.tasks`, by its public interface."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from cardoon import Cardoon, current_app
from cardoon.contrib.django import atomic_send, install
from cardoon.contrib.django.tasks import CardoonBackend
from cardoon.exceptions import ImproperlyConfigured
from cardoon.registry import SHARED
from cardoon.testing import FakeClock, Simulation
from tests.unit.contrib.django import jobs
from tests.unit.stage import make_app

try:
    from django import tasks
    from django.tasks import signals
    from django.tasks.exceptions import TaskException, TaskResultDoesNotExist, TaskResultMismatch
except ImportError:
    import django_tasks as tasks
    from django_tasks import signals
    from django_tasks.exceptions import (
        TaskException,
        TaskResultDoesNotExist,
        TaskResultMismatch,
    )

Status = tasks.TaskResultStatus
OURS = [one for one in SHARED if one.name.startswith(jobs.__name__)]
SHARED[:] = [one for one in SHARED if one not in OURS]  # the tasks of these tests are no other's


@pytest.fixture
def app(tmp_path):
    made = make_app(tmp_path / "state", clock=FakeClock(timezone.now().timestamp()))
    install(made)
    for shared in OURS:
        made.register_shared(shared)
    made.set_current()
    yield made
    made.close()


@pytest.fixture
def simulation(app):
    jobs.SEEN.clear()
    with Simulation(app, start=timezone.now(), queues=["celery", "mail"]) as made:
        yield made


class TestEnqueue:
    def test_a_task_is_ready_until_it_has_run(self, simulation):
        result = jobs.add.enqueue(1, right=2)

        assert result.status == Status.READY
        assert (result.args, result.kwargs) == ([1], {"right": 2})
        assert not result.is_finished
        assert abs(result.enqueued_at - timezone.now()) < timedelta(minutes=1)
        with pytest.raises(ValueError, match="not finished"):
            _ = result.return_value

    def test_it_is_successful_when_it_has_returned(self, simulation):
        result = jobs.add.enqueue(1, 2)

        simulation.run_due()
        result.refresh()

        assert result.status == Status.SUCCESSFUL
        assert result.return_value == 3
        assert result.errors == []
        assert result.finished_at is not None
        assert len(result.worker_ids) == result.attempts == 1

    def test_it_is_failed_when_it_has_raised(self, simulation):
        result = jobs.fail.enqueue("no luck")

        simulation.run_due()
        result.refresh()

        assert result.status == Status.FAILED
        [error] = result.errors
        assert error.exception_class is ValueError
        assert "no luck" in error.traceback
        with pytest.raises(ValueError, match="failed"):
            _ = result.return_value

    def test_it_is_failed_when_json_has_no_such_value(self, simulation):
        result = jobs.answer_oddly.enqueue()

        simulation.run_due()
        result.refresh()

        assert result.errors[0].exception_class is TypeError

    def test_a_coroutine_runs(self, simulation):
        result = jobs.aadd.enqueue(1, 2)

        simulation.run_due()
        result.refresh()

        assert result.return_value == 3

    def test_one_that_takes_its_context_gets_it(self, simulation):
        result = jobs.look.enqueue(7)

        simulation.run_due()
        result.refresh()

        assert result.return_value == {"id": result.id, "attempt": 1, "number": 7}
        [context] = jobs.SEEN
        assert context.task_result.args == [7]
        assert context.task_result.task.func is jobs.look.func
        assert context.task_result.enqueued_at == result.enqueued_at

    def test_a_coroutine_enqueues_and_reads(self, simulation):
        async def enqueue():
            result = await jobs.add.aenqueue(1, 2)
            return result, await jobs.add.aget_result(result.id)

        result, found = asyncio.run(enqueue())

        assert (found.id, found.status) == (result.id, Status.READY)

    @pytest.mark.parametrize("args", [(), (1,), (1, 2, 3)])
    def test_arguments_that_do_not_fit_are_refused(self, simulation, args):
        with pytest.raises(TypeError):
            jobs.add.enqueue(*args)

    def test_arguments_that_json_has_not_are_refused(self, simulation):
        with pytest.raises(TypeError):
            jobs.add.enqueue(object(), 1)

    def test_a_task_runs_after_its_time(self, simulation):
        later = timezone.now() + timedelta(hours=1)
        result = jobs.add.using(run_after=later).enqueue(1, 2)

        simulation.advance(3000)
        assert jobs.add.get_result(result.id).status == Status.READY
        simulation.advance(1000)

        assert jobs.add.get_result(result.id).status == Status.SUCCESSFUL

    def test_the_most_urgent_run_first(self, simulation):
        for priority in (0, -100, 100, 50):
            jobs.mail.using(priority=priority).enqueue(str(priority))

        simulation.run_due()

        assert jobs.SEEN == ["100", "50", "0", "-100"]

    def test_a_queue_is_cardoons_of_that_name(self, app):
        jobs.SEEN.clear()
        with Simulation(app, queues=["mail"]) as simulation:
            jobs.mail.enqueue("ada")
            jobs.add.enqueue(1, 2)  # in task_default_queue
            simulation.run_due()

        assert jobs.SEEN == ["ada"]

    @pytest.mark.parametrize(
        "wrong", [{"queue_name": "nosuch"}, {"priority": 101}, {"priority": 1.5}]
    )
    def test_what_django_refuses_is_refused(self, simulation, wrong):
        with pytest.raises(TaskException):
            jobs.add.using(**wrong)

    def test_a_function_of_a_function_is_refused(self, simulation):
        with pytest.raises(TaskException, match="module level"):

            @tasks.task
            def inner():
                pass

    def test_an_eager_task_has_ended_at_once(self, app):
        app.conf.task_always_eager = True

        done, failed = jobs.add.enqueue(1, 2), jobs.fail.enqueue("no luck")

        assert (done.status, done.return_value) == (Status.SUCCESSFUL, 3)
        assert failed.errors[0].exception_class is ValueError

    def test_it_can_belong_to_a_transaction(self, simulation, database):
        jobs.SEEN.clear()
        with atomic_send():
            kept = jobs.add.enqueue(1, 2)
            with pytest.raises(TaskResultDoesNotExist):
                jobs.add.get_result(kept.id)
        with atomic_send():
            lost = jobs.add.enqueue(3, 4)
            transaction.set_rollback(True)
        simulation.run_due()

        assert jobs.SEEN == [(1, 2)]
        assert jobs.add.get_result(kept.id).return_value == 3
        with pytest.raises(TaskResultDoesNotExist):
            jobs.add.get_result(lost.id)

    def test_its_task_is_cardoons_by_its_path(self, app):
        assert jobs.add.module_path in app.tasks
        assert current_app.tasks[jobs.add.module_path].delay_on_commit


class TestGetResult:
    def test_it_knows_what_was_asked(self, simulation):
        later = timezone.now() + timedelta(hours=1)
        sent = jobs.mail.using(priority=-3, run_after=later).enqueue("ada")

        found = jobs.mail.get_result(sent.id)

        assert (found.args, found.kwargs) == (["ada"], {})
        assert found.task == sent.task
        assert found.enqueued_at == sent.enqueued_at
        assert found.backend == "default"

    @pytest.mark.parametrize("result_id", ["nosuch", "", "x" * 500, "a\nb"])
    def test_an_id_that_was_never_sent_does_not_exist(self, simulation, result_id):
        with pytest.raises(TaskResultDoesNotExist):
            jobs.add.get_result(result_id)

    def test_another_tasks_result_does_not_match(self, simulation):
        result = jobs.add.enqueue(1, 2)

        with pytest.raises(TaskResultMismatch):
            jobs.mail.get_result(result.id)

    def test_one_that_runs_says_when_it_began_and_where(self, simulation, app):
        states = []

        def look_inside(task_result, **_):
            states.append(jobs.add.get_result(task_result.id))

        signals.task_finished.connect(look_inside)
        try:
            jobs.add.enqueue(1, 2)
            simulation.run_due()
        finally:
            signals.task_finished.disconnect(look_inside)

        [seen] = states
        assert seen.status == Status.RUNNING
        assert seen.started_at == seen.last_attempted_at is not None
        assert len(seen.worker_ids) == 1


class TestSignals:
    def test_they_tell_a_tasks_life(self, simulation):
        told = []

        def hear(signal, sender, task_result, **_):
            told.append((signal, sender, str(task_result.status)))

        every = (signals.task_enqueued, signals.task_started, signals.task_finished)
        for signal in every:
            signal.connect(hear)
        try:
            jobs.add.enqueue(1, 2)
            jobs.fail.enqueue("no luck")
            simulation.run_due()
        finally:
            for signal in every:
                signal.disconnect(hear)

        assert [(every.index(one), kind, status) for one, kind, status in told] == [
            (0, CardoonBackend, "READY"),
            (0, CardoonBackend, "READY"),
            (1, CardoonBackend, "RUNNING"),
            (2, CardoonBackend, "SUCCESSFUL"),
            (1, CardoonBackend, "RUNNING"),
            (2, CardoonBackend, "FAILED"),
        ]


class TestSettings:
    BACKEND = "cardoon.contrib.django.tasks.CardoonBackend"

    def test_an_unknown_option_is_refused(self):
        with pytest.raises(ImproperlyConfigured, match="'colour'"):
            CardoonBackend("default", {"OPTIONS": {"colour": "blue"}})

    def test_the_app_can_be_named(self, app):
        made = CardoonBackend("default", {"OPTIONS": {"app": f"{__name__}:HERE"}})

        assert made.app is HERE

    @pytest.mark.parametrize("name", ["nosuch:app", f"{__name__}:timezone"])
    def test_an_app_that_is_none_is_found_by_the_checks(self, app, name):
        made = CardoonBackend("default", {"OPTIONS": {"app": name}})

        [error] = made.check()

        assert error.id == "cardoon.E001"
        assert name.partition(":")[0] in error.msg

    def test_the_checks_find_nothing_else(self, app):
        with override_settings(SILENCED_SYSTEM_CHECKS=[]):
            assert [one for one in run_checks() if one.id == "cardoon.E001"] == []

    def test_without_django_tasks_it_says_what_is_missing(self):
        code = """
            import sys
            sys.modules["django.tasks"] = sys.modules["django_tasks"] = None
            import cardoon.contrib.django.tasks as tasks  # as autodiscover_tasks does
            try:
                tasks.CardoonBackend
            except ImportError as error:
                assert "pip install django-tasks" in str(error), error
            else:
                raise AssertionError
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


HERE = Cardoon("here", set_as_current=False)
