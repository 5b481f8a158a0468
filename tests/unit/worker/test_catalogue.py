"""What a worker knows of each task without importing it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from cardoon.exceptions import ImproperlyConfigured
from cardoon.sandbox.profile import Sandbox
from cardoon.worker.catalogue import AppCatalogue, read_catalogue, rules_of, write_catalogue
from tests.unit.stage import make_app

OWN = {
    "acks_late": False,
    "acks_on_failure_or_timeout": False,
    "reject_on_worker_lost": False,
    "max_crashes": 7,
    "ignore_result": True,
    "store_errors_even_if_ignored": True,
    "track_started": True,
    "time_limit": 60.0,
    "soft_time_limit": 50.0,
}
GENERAL = {
    "task_acks_late": True,
    "task_acks_on_failure_or_timeout": True,
    "task_reject_on_worker_lost": True,
    "task_max_crashes": 2,
    "task_ignore_result": False,
    "task_store_errors_even_if_ignored": False,
    "task_track_started": False,
    "task_time_limit": 600.0,
    "task_soft_time_limit": 500.0,
}


@pytest.fixture
def make_task(tmp_path):
    """A task with options, of an app with settings."""
    apps = []

    def make(*, settings=None, **options):
        app = make_app(tmp_path / "state", **(settings or {}))
        apps.append(app)
        return app.task(name="shop.pay", **options)(lambda: None), app.settings

    yield make
    for app in apps:
        app.close()


def test_a_task_that_says_nothing_follows_the_settings(make_task):
    task, settings = make_task(settings=GENERAL)

    rules = rules_of(task, settings)

    found = dataclasses.asdict(rules)
    assert {f"task_{name}": found[name] for name in OWN} == GENERAL


def test_what_a_task_says_counts_more_than_the_settings(make_task):
    task, settings = make_task(settings=GENERAL, **OWN)

    found = dataclasses.asdict(rules_of(task, settings))

    assert {name: found[name] for name in OWN} == OWN


def test_no_where_the_settings_say_yes_is_a_choice_and_not_a_silence(make_task):
    task, settings = make_task(settings={"task_ignore_result": True}, ignore_result=False)

    assert rules_of(task, settings).ignore_result is False


@pytest.mark.parametrize(
    ("given", "per_second"), [(None, None), (0, None), (5, 5.0), ("30/m", 0.5), ("7200/h", 2.0)]
)
def test_a_rate_limit_is_told_in_starts_per_second(make_task, given, per_second):
    task, settings = make_task(rate_limit=given)

    assert rules_of(task, settings).rate_limit == per_second


@pytest.mark.parametrize(("own", "per_second"), [(None, 5.0), ("60/m", 1.0), (0, None)])
def test_a_task_without_a_rate_limit_has_that_of_the_settings(make_task, own, per_second):
    task, settings = make_task(settings={"task_default_rate_limit": "5/s"}, rate_limit=own)

    assert rules_of(task, settings).rate_limit == per_second


def test_a_catalogue_arrives_as_it_was_written(make_task):
    sandbox = {"level": "strict", "tmp": "1MiB", "network": ["db:5432"], "syscalls": "net"}
    first, settings = make_task(**OWN, rate_limit="10/m", max_retries=9, sandbox=sandbox)
    second, _ = make_task(max_retries=None)

    told = json.loads(json.dumps(write_catalogue({"a": first, "b": second}, settings)))

    assert read_catalogue(told) == {
        "a": rules_of(first, settings),
        "b": rules_of(second, settings),
    }
    assert read_catalogue(told)["a"].sandbox == Sandbox(**sandbox)


@pytest.mark.parametrize("change", [{"unknown": 1}, {"acks_late": ...}], ids=["more", "less"])
def test_a_catalogue_of_another_version_is_refused_with_the_name_of_what_is_wrong(
    make_task, change
):
    task, settings = make_task()
    told = write_catalogue({"a": task}, settings)
    for name, value in change.items():
        told["a"][name] = value
        if value is ...:
            del told["a"][name]

    with pytest.raises(ImproperlyConfigured, match=next(iter(change))):
        read_catalogue(told)


def test_a_catalogue_of_an_app_in_this_process_has_what_is_added_later(tmp_path):
    with make_app(tmp_path) as app:
        catalogue = AppCatalogue(app.tasks, app.settings)
        assert catalogue.get("late") is None

        app.task(name="late", time_limit=5)(lambda: 1)

        assert catalogue["late"].time_limit == 5
        assert catalogue["late"] is catalogue["late"]
        assert set(catalogue) == set(app.tasks)
        assert len(catalogue) == len(app.tasks)


def test_a_task_that_takes_anothers_place_brings_its_own_rules(tmp_path):
    with make_app(tmp_path) as app:
        catalogue = AppCatalogue(app.tasks, app.settings)
        for limit in (5, 6):
            app.tasks.pop("late", None)
            app.task(name="late", time_limit=limit)(lambda: 1)
            assert catalogue["late"].time_limit == limit
