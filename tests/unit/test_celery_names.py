"""Settings by the names they had before Celery 4."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from cardoon.celery_names import OLD_NAMES
from cardoon.exceptions import ImproperlyConfigured
from tests.unit.test_settings_source import CELERYS


def test_every_old_name_is_one_of_a_setting_of_celerys():
    assert set(OLD_NAMES.values()) <= set(CELERYS)
    assert len(OLD_NAMES) == len(set(OLD_NAMES.values()))


def test_celery_itself_knows_the_same_old_names():
    defaults = pytest.importorskip("celery.app.defaults")

    assert dict(OLD_NAMES) == defaults._TO_NEW_KEY


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("CELERYD_CONCURRENCY", "worker_concurrency", 3),
        ("CELERY_TASK_RESULT_EXPIRES", "result_expires", 60),
        ("BROKER_URL", "broker_url", "memory://"),
        ("CELERYD_TASK_TIME_LIMIT", "task_time_limit", 9),
        ("CELERY_ALWAYS_EAGER", "task_always_eager", True),
    ],
)
def test_a_module_of_old_names_is_read(app, caplog, old, new, value):
    with caplog.at_level(logging.INFO, "cardoon"):
        app.config_from_object(SimpleNamespace(**{old: value, "SECRET_KEY": "x"}))

    assert app.conf[new] == value
    assert f"setting {old} is called {new} now" in caplog.text


def test_a_dict_and_an_update_may_have_old_names(app):
    app.config_from_object({"CELERY_TIMEZONE": "Europe/Vienna"})
    app.conf.update(CELERY_ACKS_LATE=False)

    assert (app.conf.timezone, app.conf.task_acks_late) == ("Europe/Vienna", False)


def test_old_names_with_djangos_prefix_are_read(app):
    settings = SimpleNamespace(CELERY_ALWAYS_EAGER=True, CELERY_TASK_TIME_LIMIT=5, BROKER_URL="x")

    app.config_from_object(settings, namespace="CELERY")

    assert (app.conf.task_always_eager, app.conf.task_time_limit) == (True, 5)


def test_old_and_new_names_together_are_an_error_that_names_the_new_ones(app):
    with pytest.raises(ImproperlyConfigured, match="worker_concurrency instead of CELERYD_CONC"):
        app.config_from_object({"task_acks_late": True, "CELERYD_CONCURRENCY": 3})

    assert app.conf.worker_concurrency is None


def test_a_setting_under_both_names_has_the_value_of_the_new_one(app):
    app.config_from_object({"worker_concurrency": 5, "CELERYD_CONCURRENCY": 3})

    assert app.conf.worker_concurrency == 5


def test_an_old_name_of_a_setting_that_is_refused_is_refused(app):
    with pytest.raises(ImproperlyConfigured, match="worker_agent"):
        app.config_from_object({"CELERYD_AGENT": "x"})


def test_reading_by_an_old_name_says_the_new_one(app):
    with pytest.raises(ImproperlyConfigured, match="is called 'result_expires' now"):
        _ = app.conf.CELERY_TASK_RESULT_EXPIRES
