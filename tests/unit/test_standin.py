"""`current_app` and `current_task`."""

from __future__ import annotations

import inspect
import threading

import pytest

from cardoon import Cardoon, current_app, current_task, shared_task
from cardoon import app as app_module
from cardoon.app import app_or_default, current_application, default_app
from cardoon.exceptions import ImproperlyConfigured
from cardoon.result import AsyncResult, GroupResult, result_from_tuple
from cardoon.standin import Current
from tests.unit.stage import make_app


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No app is current."""
    monkeypatch.setattr(app_module, "_current", Current())


@pytest.fixture
def make(tmp_path):
    """Makes apps."""
    return lambda name: make_app(tmp_path / name)


def in_a_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


class TestCurrentApp:
    def test_it_stands_for_the_app_in_all_that_is_asked_of_it(self, make):
        app = make("one")
        app.set_current()

        current_app.conf.task_default_queue = "fast"
        current_app.colour = "red"

        assert app.conf.task_default_queue == "fast"
        assert (app.colour, current_app.main) == ("red", "shop")
        assert current_app == app == current_app
        assert hash(current_app) == hash(app)
        assert "send_task" in dir(current_app)
        assert current_app._get_current_object() is app
        assert repr(current_app) == "<current_app: <Cardoon shop>>"
        del current_app.colour
        assert not hasattr(current_app, "colour")

    def test_without_an_app_it_is_false_and_says_so(self):
        assert not current_app
        assert repr(current_app) == "<current_app: none>"
        assert not hasattr(current_app, "__wrapped__")
        assert list(inspect.signature(current_app).parameters) == ["args", "kwargs"]
        with pytest.raises(ImproperlyConfigured, match="no app yet; create one"):
            _ = current_app.conf

    def test_the_app_made_last_is_it_in_every_thread(self, tmp_path):
        Cardoon("first", state_directory=str(tmp_path))
        second = Cardoon("second", state_directory=str(tmp_path))

        assert current_application() is second
        assert in_a_thread(current_application) is second

    def test_a_thread_may_choose_its_own(self, make):
        everybodys, mine = make("one"), make("two")
        everybodys.set_default()
        mine.set_current()

        assert current_app == mine
        assert in_a_thread(current_application) is everybodys

    def test_a_default_stays_when_further_apps_are_made(self, make):
        chosen, other = make("one"), make("two")
        chosen.set_default()
        in_a_thread(other.set_current)

        assert in_a_thread(current_application) is chosen

    def test_an_app_may_be_given_or_not(self, make):
        current, given = make("one"), make("two")
        current.set_current()

        assert app_or_default() is current
        assert app_or_default(given) is given
        assert default_app == current

    def test_results_are_read_by_it(self, make):
        app = make("one")
        app.set_current()
        task = app.task(name="x")(lambda: 1)
        sent = task.delay()
        group = GroupResult("g1", [sent], source=app)
        group.save()

        assert AsyncResult(sent.id).state == "PENDING"
        assert AsyncResult(sent.id, app=app).source is app
        assert AsyncResult(sent.id, backend=app.backend).source is app
        assert GroupResult.restore("g1").results == [sent]
        assert result_from_tuple(sent.as_tuple()).source is app

    def test_a_result_without_any_app_is_refused(self):
        with pytest.raises(ImproperlyConfigured, match="no app yet"):
            AsyncResult("x")


class TestCurrentTask:
    def test_it_is_the_task_that_runs(self, make):
        app = make("one")
        app.set_current()

        @app.task(name="shop.who")
        def who():
            return bool(current_task), current_task.name, current_task.request.id

        found = who.apply(task_id="t1").get()

        assert found == (True, "shop.who", "t1")

    def test_of_a_shared_task_too(self, make):
        make("one").set_current()
        who = shared_task(name="lib.who")(lambda: current_task.name)

        assert who.apply().get() == "lib.who"

    def test_outside_of_a_task_there_is_none(self, make):
        make("one").set_current()

        assert not current_task
        assert current_task == None  # noqa: E711  # as Celery's users write it
        assert repr(current_task) == "<current_task: none>"
        with pytest.raises(AttributeError, match="there is no current_task here"):
            _ = current_task.request
        with pytest.raises(AttributeError, match="there is no current_task here"):
            current_task()

    def test_a_call_is_passed_on(self, make):
        app = make("one")
        app.set_current()
        inner = []

        @app.task(name="shop.twice", bind=True)
        def twice(self, again=True):
            inner.append(again)
            return current_task(False) if again else "done"

        assert twice.apply().get() == "done"
        assert inner == [True, False]
