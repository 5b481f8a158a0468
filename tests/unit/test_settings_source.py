"""Settings and tasks from modules, objects and dicts, as Celery's users keep them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cardoon import Cardoon
from cardoon.celery_settings import REFUSED, UNNEEDED, find_reason
from cardoon.config import OPTIONS
from cardoon.exceptions import ImproperlyConfigured
from cardoon.settings_source import read_source

CELERYS = Path(__file__).with_name("celery_settings.txt").read_text().split()


@pytest.fixture
def app():
    with Cardoon("shop", set_as_current=False) as made:
        yield made


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def make(name, text):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_is_read_by_name(app, write):
    write(
        "celeryconfig", "import os\ntask_default_queue = 'jobs'\nhosts = ['a']\ndef task_x(): ...\n"
    )

    app.config_from_object("celeryconfig")

    assert app.conf.task_default_queue == "jobs"


def test_an_object_in_a_module_is_read_by_name(app, write):
    write("shopconf", "class Config:\n    class Deep:\n        task_track_started = True\n")

    app.config_from_object("shopconf:Config.Deep")

    assert app.conf.task_track_started


def test_django_settings_are_read_by_their_namespace(app, write):
    write(
        "shopsettings",
        "CELERY_TASK_TIME_LIMIT = 30\nCELERY_TIMEZONE = 'Europe/Vienna'\nDEBUG = True\n"
        "CELERYX_BROKER_URL = 1\n",
    )

    app.config_from_object("shopsettings", namespace="CELERY")

    assert (app.conf.task_time_limit, app.conf.timezone) == (30, "Europe/Vienna")


class TestAModuleThatIsStillBeingImported:
    """As Django's settings are, when they import the package that makes the app."""

    HALF = (
        "from cardoon.app import current_application\n"
        "current_application().config_from_object({name!r}, namespace='CELERY')\n"
        "{meanwhile}\n"
        "CELERY_TASK_TIME_LIMIT = {limit}\n"
        "CELERY_TASK_DEFAULT_QUEUE = 'slow'\n"
    )

    def test_it_is_read_when_it_is_complete(self, app, write):
        app.set_current()
        write("halfway", self.HALF.format(name="halfway", limit=30, meanwhile=""))

        importlib.import_module("halfway")

        assert app.conf.task_time_limit == 30

    def test_what_is_set_in_between_stays(self, app, write):
        app.set_current()
        app.conf.task_time_limit = 10
        write("halfset", self.HALF.format(name="halfset", limit=30, meanwhile=""))

        importlib.import_module("halfset")
        app.conf.task_default_queue = "fast"

        assert (app.conf.task_time_limit, app.conf.task_default_queue) == (30, "fast")

    def test_what_is_wrong_in_it_is_said_each_time(self, app, write):
        app.set_current()
        write("halfwrong", self.HALF.format(name="halfwrong", limit="'long'", meanwhile=""))

        importlib.import_module("halfwrong")

        for _ in range(2):
            with pytest.raises(ImproperlyConfigured, match="task_time_limit"):
                app.settings  # noqa: B018

    def test_asked_for_too_early_it_gives_what_it_has(self, app, write):
        app.set_current()
        meanwhile = "assert current_application().conf.task_default_queue == 'celery'"
        write("halftold", self.HALF.format(name="halftold", limit=30, meanwhile=meanwhile))

        importlib.import_module("halftold")


@pytest.mark.parametrize(
    "source", [{"task_acks_late": False}, SimpleNamespace(task_acks_late=False)]
)
def test_dicts_and_objects_are_read(app, source):
    app.config_from_object(source)

    assert app.conf.task_acks_late is False


def test_an_app_may_be_made_with_its_source():
    source = {"CELERY_TASK_DEFAULT_QUEUE": "jobs"}

    app = Cardoon("shop", set_as_current=False, config_source=source, namespace="CELERY")

    assert app.conf.task_default_queue == "jobs"


def test_what_the_app_was_given_stays(app):
    app.conf.task_default_queue = "mine"

    app.config_from_object({"task_track_started": True})

    assert app.conf.task_default_queue == "mine"


@pytest.mark.parametrize(
    ("source", "namespace", "told"),
    [
        ({"task_default_qeue": "x"}, None, "did you mean 'task_default_queue'"),
        (SimpleNamespace(task_default_qeue="x"), None, "did you mean 'task_default_queue'"),
        ({"CELERY_TASK_DEFAULT_QEUE": "x"}, "CELERY", "did you mean 'task_default_queue'"),
        ("no.such.module", None, "config_from_object: 'no.such.module': No module named 'no'"),
        ("sys:no_such_thing", None, "config_from_object: 'sys:no_such_thing'"),
        (
            {"beat_enable_remote_control": True},
            None,
            "'beat_enable_remote_control' is Celery's and not here: beats take no commands",
        ),
    ],
)
def test_a_mistake_is_named_with_its_remedy(app, source, namespace, told):
    with pytest.raises(ImproperlyConfigured, match=told):
        app.config_from_object(source, namespace=namespace)


def test_a_module_that_is_not_there_may_be_passed_over(app):
    app.config_from_object("no.such.module", silent=True)
    app.config_from_envvar("NO_SUCH_VARIABLE", silent=True)

    with pytest.raises(ImproperlyConfigured, match="no variable 'NO_SUCH_VARIABLE'"):
        app.config_from_envvar("NO_SUCH_VARIABLE")


def test_the_environment_may_name_the_module(app, write, monkeypatch):
    write("envconf", "task_default_queue = 'jobs'\n")
    monkeypatch.setenv("SHOP_CONFIG", "envconf")

    app.config_from_envvar("SHOP_CONFIG")

    assert app.conf.task_default_queue == "jobs"


def test_names_of_a_module_that_are_no_settings_are_left_alone(write):
    write(
        "mixed",
        "from os import path\nimport json\nhosts = []\nResult_Backend = 1\ntask_x = 2\n",
    )

    assert read_source("mixed") == {}


@pytest.mark.parametrize("name", CELERYS)
def test_every_setting_of_celery_works_or_is_refused_with_the_reason(name):
    refused = name not in OPTIONS and find_reason(name) is not None
    verdicts = [name in OPTIONS, name in UNNEEDED, refused]

    assert verdicts.count(True) == 1


def test_only_settings_of_celery_have_a_verdict():
    assert (UNNEEDED.keys() | REFUSED.keys()) <= set(CELERYS)


def test_what_there_is_nothing_to_set_of_is_taken_and_noted(app, caplog):
    with caplog.at_level("INFO", logger="cardoon.config"):
        app.conf.update(broker_connection_retry_on_startup=True, task_track_started=True)

    assert app.conf.task_track_started
    assert "setting broker_connection_retry_on_startup changes nothing here: connec" in caplog.text


def test_tasks_are_discovered_when_the_app_is_first_needed(app, write):
    write("shop_a.__init__", "")
    write("shop_a.tasks", "import shop_seen\nshop_seen.names.append('a')\n")
    write("shop_b.__init__", "")
    write("shop_seen", "names = []\n")
    app.autodiscover_tasks(["shop_a", "shop_b"])
    import shop_seen  # noqa: PLC0415

    assert shop_seen.names == []
    app.discover()
    app.discover()

    assert shop_seen.names == ["a"]


def test_tasks_are_discovered_at_once_by_force_and_under_another_name(app, write):
    write("shop_c.__init__", "")
    write("shop_c.jobs", "from shop_seen2 import names\nnames.append('c')\n")
    write("shop_seen2", "names = []\n")

    app.autodiscover_tasks(lambda: ["shop_c"], related_name="jobs", force=True)

    import shop_seen2  # noqa: PLC0415

    assert shop_seen2.names == ["c"]


def test_what_a_discovered_module_raises_is_raised(app, write):
    write("shop_d.__init__", "")
    write("shop_d.tasks", "import no_such_dependency\n")

    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        app.autodiscover_tasks(["shop_d"], force=True)


def test_the_task_that_runs_is_the_current_one(app):
    seen = []
    task = app.task(name="shop.look")(lambda: seen.append(app.current_task))

    task.apply()

    assert seen == [task]
    assert app.current_task is None
