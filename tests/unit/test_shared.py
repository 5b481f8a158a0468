"""Tasks of libraries, which belong to whichever app there is."""

from __future__ import annotations

import gc

import pytest

from cardoon import Cardoon, shared_task
from cardoon import app as app_module
from cardoon.app import current_application
from cardoon.exceptions import ImproperlyConfigured
from cardoon.standin import Current
from tests.unit.stage import make_app


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No app is current."""
    monkeypatch.setattr(app_module, "_current", Current())


def test_a_shared_task_belongs_to_apps_made_before_and_after(tmp_path):
    before = make_app(tmp_path / "one")

    @shared_task
    def add(x, y):
        """Add."""
        return x + y

    after = make_app(tmp_path / "two")

    assert add.name == f"{__name__}.add"
    assert add.name in before.tasks
    assert add.name in after.tasks
    assert (add.__doc__, add.__wrapped__(1, 2)) == ("Add.", 3)
    assert repr(add) == f"<@shared_task: {add.name}>"


def test_it_is_called_through_the_current_app(tmp_path):
    @shared_task(name="lib.add", max_retries=9)
    def add(x, y):
        return x + y

    first = make_app(tmp_path / "one")
    first.set_default()
    assert add(1, 2) == 3
    assert add.max_retries == 9
    assert add.task is first.tasks["lib.add"]

    second = make_app(tmp_path / "two")
    second.set_default()
    assert add.task is second.tasks["lib.add"]
    second.conf.task_always_eager = True
    assert add.delay(1, 2).get() == 3


def test_without_any_app_it_says_so():
    @shared_task
    def lonely(): ...

    with pytest.raises(ImproperlyConfigured, match="there is no app yet"):
        lonely.delay()


def test_the_last_app_that_was_made_is_the_current_one(tmp_path):
    first = Cardoon("one", broker="memory://")
    second = Cardoon("two", broker="memory://")
    make_app(tmp_path)

    assert current_application() is second
    first.set_default()
    assert current_application() is first


def test_an_app_that_nobody_holds_is_forgotten(tmp_path):
    make_app(tmp_path)
    gc.collect()
    known = len(app_module.known_applications())

    kept = make_app(tmp_path)

    assert len(app_module.known_applications()) == known + 1
    assert kept in app_module.known_applications()
