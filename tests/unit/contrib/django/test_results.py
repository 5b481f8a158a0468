"""The page that shows where a task stands."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory, override_settings
from django.urls import include, path, reverse

from cardoon.contrib.django import result_urls, result_view
from cardoon.exceptions import ImproperlyConfigured
from cardoon.testing import Simulation
from tests.unit.stage import make_app


@pytest.fixture
def double(app):
    app.set_current()

    @app.task(name="shop.double")
    def double(number):
        if number < 0:
            raise ValueError("too small")
        return 2 * number

    return double


def anybody(request, task_id):
    return True


def nobody(request, task_id):
    return False


def look(task_id, *, method="get", query="", **options):
    view = result_view(**{"authorize": anybody, **options})
    request = getattr(RequestFactory(), method)(f"/{task_id}{query}")
    return view(request, task_id=task_id)


def shown(*args, **options):
    answer = look(*args, **options)
    assert answer.status_code == 200, answer.content
    return json.loads(answer.content)


def test_a_task_that_waits_is_pending(app, double):
    with Simulation(app):
        assert shown(double.delay(4).id)["state"] == "PENDING"


def test_a_result_is_shown(app, double):
    with Simulation(app) as simulation:
        result = double.delay(4)
        simulation.run_due()

        assert shown(result.id) == {
            "id": result.id,
            "state": "SUCCESS",
            "ready": True,
            "result": 8,
            "error": None,
            "progress": None,
        }


def test_a_failure_is_shown_without_traceback_unless_asked_for(app, double):
    with Simulation(app) as simulation:
        result = double.delay(-1)
        simulation.run_due()

        error = shown(result.id)["error"]
        assert (error["type"], error["message"]) == ("ValueError", "too small")
        assert error["traceback"] is None
        assert "ValueError" in shown(result.id, traceback=True)["error"]["traceback"]


def test_nothing_is_kept_by_browsers(app, double):
    with Simulation(app):
        assert look("t1")["Cache-Control"] == "no-store"


def test_an_id_that_cannot_be_one_is_not_found_like_one_that_is_not_ones_own(app, double):
    with Simulation(app):
        wrong, others = look("x" * 200), look("t1", authorize=nobody)

    assert (wrong.status_code, others.status_code) == (404, 404)
    assert wrong.content == others.content


def test_authorization_may_be_a_coroutine(app, double):
    async def nobody(request, task_id):
        return False

    with Simulation(app):
        assert look("t1", authorize=nobody).status_code == 404


def test_authorization_may_refuse_by_itself(app, double):
    def refuse(request, task_id):
        raise PermissionDenied

    with Simulation(app), pytest.raises(PermissionDenied):
        look("t1", authorize=refuse)


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
def test_an_authorization_that_answers_something_else_shows_nothing(app, double, answer):
    with Simulation(app), pytest.raises(TypeError, match="True or False"):
        look("t1", authorize=lambda request, task_id: answer)


@pytest.mark.parametrize("missing", [None, "login", True])
def test_a_view_without_authorization_cannot_be_made(missing):
    with pytest.raises(ImproperlyConfigured, match="authorize"):
        result_view(authorize=missing)


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_can_only_be_read(app, double, method):
    assert look("t1", method=method).status_code == 405


def test_waiting_answers_when_it_has_ended(app, double):
    with Simulation(app):
        result = double.delay(4)

        assert shown(result.id, query="?wait=5", max_wait=10)["result"] == 8


@pytest.mark.parametrize("wait", ["-1", "11", "soon", "nan"])
def test_a_wait_that_is_not_allowed_is_refused(app, double, wait):
    with Simulation(app):
        assert look("t1", query=f"?wait={wait}", max_wait=10).status_code == 400


def test_a_store_that_does_not_answer_is_503(tmp_path, caplog):
    app = make_app(
        tmp_path / "state",
        broker_url=f"sqlite:///{tmp_path / 'broker.db'}",
        task_publish_timeout=0.1,
    )
    app.send_task("shop.double", (1,))
    app.close()
    (tmp_path / "broker.db").write_bytes(b"no database" * 1000)

    answer = look("t1", app=app)

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert b"broker.db" not in answer.content
    assert "503" in caplog.text
    app.close()


def test_its_address_has_a_name():
    urls = ModuleType("urls")
    urls.urlpatterns = [path("results/", include(result_urls(authorize=anybody)))]

    with override_settings(ROOT_URLCONF=urls):
        assert reverse("result", args=["t1"]) == "/results/t1"
