"""Finding the app that `-A` names."""

from __future__ import annotations

import sys

import pytest

from cardoon.exceptions import ImproperlyConfigured
from cardoon.loading import load_app, load_modules
from cardoon.signals import import_modules

APP = "from cardoon import Cardoon\n{name} = Cardoon({main!r}, set_as_current=False)\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty working directory whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(project, name, text):
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", ["app", "celery", "cardoon", "application", "other"])
def test_the_app_of_a_module_is_found_whatever_its_name(project, name):
    write(project, "place.py", APP.format(name=name, main="found"))

    assert load_app("place").main == "found"


def test_the_usual_name_comes_first(project):
    write(
        project, "place.py", APP.format(name="other", main="b") + APP.format(name="app", main="a")
    )

    assert load_app("place").main == "a"
    assert load_app("place:other").main == "b"


@pytest.mark.parametrize("module", ["cardoon", "celery", "tasks"])
def test_the_app_of_a_package_may_lie_in_the_usual_modules(project, module):
    write(project, "place/__init__.py", "")
    write(project, f"place/{module}.py", APP.format(name="app", main="inner"))

    assert load_app("place").main == "inner"


def test_a_module_in_a_package_is_found(project):
    write(project, "place/__init__.py", "")
    write(project, "place/deep.py", APP.format(name="app", main="deep"))

    assert load_app("place.deep:app").main == "deep"


@pytest.mark.parametrize("target", ["", ":app", "a/b.py", "a..b", "1a", "place;x"])
def test_what_is_no_module_name_is_refused(project, target):
    with pytest.raises(ImproperlyConfigured, match="is not the name of a module"):
        load_app(target)


@pytest.mark.parametrize("target", ["nowhere", "place.nowhere", "nowhere.at.all", "json.nothing"])
def test_a_module_that_is_not_there_is_an_error_that_says_where_it_was_looked_for(project, target):
    write(project, "place/__init__.py", "")

    with pytest.raises(ImproperlyConfigured, match=rf"there is no module {target!r} in {project}"):
        load_app(target)


def test_a_submodule_of_what_is_no_package_is_not_there(project):
    write(project, "place.py", "")

    with pytest.raises(ImproperlyConfigured, match=r"there is no module 'place.tasks'"):
        load_app("place.tasks")


def test_an_attribute_that_is_no_app_is_an_error(project):
    write(project, "place.py", "app = 5\n")

    with pytest.raises(ImproperlyConfigured, match=r"place.app is not a Cardoon app"):
        load_app("place:app")
    with pytest.raises(ImproperlyConfigured, match=r"place.nothing is not a Cardoon app"):
        load_app("place:nothing")


def test_an_attribute_may_be_a_path(project):
    write(
        project,
        "place.py",
        APP.format(name="app", main="deep") + "class shop:\n    queue = app\n",
    )

    assert load_app("place:shop.queue").main == "deep"


@pytest.mark.parametrize("target", ["place.celery", "place.inner.celery"])
def test_an_attribute_may_stand_behind_a_dot(project, target):
    write(project, "place/__init__.py", APP.format(name="celery", main="found"))
    write(project, "place/inner.py", APP.format(name="celery", main="found"))

    assert load_app(target).main == "found"


def test_a_module_comes_before_an_attribute_of_the_same_name(project):
    write(project, "place/__init__.py", APP.format(name="celery", main="attribute"))
    write(project, "place/celery.py", APP.format(name="app", main="module"))

    assert load_app("place.celery").main == "module"


def test_an_app_may_be_made_by_a_function(project):
    source = APP.format(name="made", main="made").replace("\n", "\n    ").rstrip()
    write(project, "place.py", f"def make():\n    {source}\n    return made\n")

    assert load_app("place:make()").main == "made"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("place:make", r"place.make is not a Cardoon app; write place:make\(\) to call it"),
        ("place:make()", r"what place.make\(\) returns is not a Cardoon app"),
        ("place:five()", r"place.five is not a function"),
        ("place:nothing()", r"place.nothing is not a function"),
        ("place:make(1)", r"'make\(1\)' is not an attribute"),
        ("place:a..b", r"'a..b' is not an attribute"),
        ("place", r"no Cardoon app in place; write place:make_celery\(\) to call it"),
    ],
)
def test_what_does_not_make_an_app_is_an_error_that_says_what_to_write(project, target, message):
    write(project, "place.py", "five = 5\ndef make(): ...\ndef make_celery(): ...\n")

    with pytest.raises(ImproperlyConfigured, match=message):
        load_app(target)


FLASK = """
from flask import Flask, current_app, request
from cardoon import Cardoon

def create_app():
    made = Flask("shop")
    made.extensions[{key!r}] = Cardoon("found", set_as_current=False)
    return made
"""


@pytest.mark.parametrize("key", ["celery", "cardoon"])
def test_a_flask_application_leads_to_its_app(project, key):
    write(project, "place.py", FLASK.format(key=key))
    write(project, "other.py", "from place import *\nflask_app = create_app()\n")

    assert load_app("place:create_app()").main == "found"
    assert load_app("other:flask_app").main == "found"
    assert load_app("other").main == "found"


def test_flasks_own_make_celery_module_is_found(project):
    write(project, "place.py", FLASK.format(key="celery"))
    write(
        project,
        "make_celery.py",
        "from place import create_app\nflask_app = create_app()\n"
        'celery_app = flask_app.extensions["celery"]\n',
    )

    assert load_app("make_celery").main == "found"


def test_a_flask_application_without_app_is_not_one(project):
    write(project, "place.py", "from flask import Flask\napp = Flask('shop')\n")

    with pytest.raises(ImproperlyConfigured, match="no Cardoon app in place"):
        load_app("place")


def test_a_module_without_app_is_an_error(project):
    write(project, "place.py", "x = 1\n")

    with pytest.raises(ImproperlyConfigured, match="no Cardoon app in place"):
        load_app("place")


@pytest.mark.parametrize("file", ["place/__init__.py", "place/tasks.py"])
def test_an_error_inside_of_the_users_code_is_the_users_to_see(project, file):
    write(project, "place/__init__.py", "")
    write(project, "place/tasks.py", "")
    write(project, file, "import not_installed_anywhere\n")

    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load_app("place.tasks")


def test_included_modules_are_imported(project):
    write(project, "place.py", APP.format(name="app", main="m") + "app.conf.include = ['more']\n")
    write(project, "more.py", "import place\n@place.app.task\ndef extra(): ...\n")
    app = load_app("place")

    load_modules(app)

    assert "more.extra" in app.tasks


def test_an_included_module_that_is_not_there_is_an_error(project):
    write(project, "place.py", APP.format(name="app", main="m") + "app.conf.imports = 'nowhere'\n")

    with pytest.raises(ImproperlyConfigured, match="include: there is no module 'nowhere'"):
        load_modules(load_app("place"))


def test_modules_may_be_imported_by_a_receiver_which_comes_first(app, hearing):
    hearing.listen(import_modules)

    load_modules(app)

    [told] = hearing.told
    assert told.sender is app


def test_what_a_receiver_of_import_modules_raises_is_raised(app, hearing):
    def broken(**_):
        raise ImportError("no module")

    hearing.connect(import_modules, broken)

    with pytest.raises(ImportError, match="no module"):
        load_modules(app)
