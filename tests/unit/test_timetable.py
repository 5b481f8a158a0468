"""`beat_schedule` and `add_periodic_task`: what is taken, and with which words the rest is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cardoon import Cardoon, chain
from cardoon.config import Settings
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.schedules import crontab, schedule
from cardoon.timetable import PeriodicTask, Timetable

NIGHTLY = {"task": "shop.sum_up", "schedule": crontab(hour=3, minute=0)}


@pytest.fixture
def app():
    with Cardoon("shop", set_as_current=False) as made:

        @made.task(name="shop.add")
        def add(x, y=0):
            return x + y

        yield made


@pytest.fixture
def add(app):
    return app.tasks["shop.add"]


def test_entries_are_read_as_celerys_users_write_them(app):
    app.conf.beat_schedule = {
        "nightly": NIGHTLY,
        "often": {
            "task": "shop.add",
            "schedule": 30.0,
            "args": [1],
            "kwargs": {"y": 2},
            "options": {"queue": "fast", "expires": 15},
            "relative": True,
        },
        "now and then": {"task": "shop.add", "schedule": timedelta(minutes=5), "args": None},
    }

    nightly, often, rarely = app.conf.beat_schedule.values()
    assert nightly == PeriodicTask(task="shop.sum_up", schedule=crontab(hour=3, minute=0))
    assert often.schedule == schedule(30, relative=True)
    assert (often.args, often.kwargs) == ((1,), {"y": 2})
    assert often.options == {"queue": "fast", "expires": 15}
    assert rarely.schedule == schedule(300)
    assert rarely.args == ()


def test_entries_come_from_a_module_as_all_settings(app):
    app.config_from_object({"CELERY_BEAT_SCHEDULE": {"nightly": NIGHTLY}}, namespace="CELERY")

    assert list(app.conf.beat_schedule) == ["nightly"]


def test_an_entry_is_asked_like_a_dict(app):
    app.conf.beat_schedule = {"nightly": NIGHTLY}
    entry = app.conf.beat_schedule["nightly"]

    assert entry["task"] == "shop.sum_up"
    assert dict(entry)["schedule"] == crontab(hour=3, minute=0)
    with pytest.raises(KeyError):
        _ = entry["keys"]


def test_entries_are_added_to_those_there_are(app):
    app.conf.beat_schedule = {"nightly": NIGHTLY}

    app.conf.beat_schedule = {**app.conf.beat_schedule, "more": {**NIGHTLY, "args": (1,)}}

    assert list(app.conf.beat_schedule) == ["nightly", "more"]
    assert len(app.conf.beat_schedule) == 2


def test_what_was_read_cannot_be_changed_unnoticed(app):
    with pytest.raises(TypeError, match=r"use app.add_periodic_task, or assign a whole dict"):
        app.conf.beat_schedule["nightly"] = NIGHTLY


def test_nothing_is_what_there_is_without_the_setting(app):
    assert app.conf.beat_schedule == {} == Settings().beat_schedule
    app.conf.beat_schedule = None
    assert app.conf.beat_schedule == Timetable()
    assert hash(app.conf.beat_schedule) == hash(Timetable())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([NIGHTLY], "is not a dict of entries by name"),
        ({1: NIGHTLY}, "has an entry 1 whose name is not text"),
        ({"a": 30}, "has an entry 'a' that is not a dict with 'task' and 'schedule'"),
        ({"a": {"schedule": 30}}, "has no 'task' in entry 'a'"),
        ({"a": {"task": "t"}}, "has no 'schedule' in entry 'a'"),
        ({"a": {**NIGHTLY, "schedul": 1}}, "unknown key 'schedul' in entry 'a'; did you mean 'sch"),
        ({"a": {**NIGHTLY, "zzz": 1}}, "unknown key 'zzz' in entry 'a'; use task, schedule, args"),
        ({"a": {"task": "t", "schedule": "30"}}, "wrong entry 'a': schedule: '30' is not a period"),
        ({"a": {"task": "t", "schedule": -1}}, "wrong entry 'a': schedule: -1 is not between"),
        ({"a": {**NIGHTLY, "task": len}}, "is not the name of a task"),
        ({"a": {**NIGHTLY, "args": 16}}, r"args=16 is not a tuple; for one argument write \(16,\)"),
        ({"a": {**NIGHTLY, "args": "x"}}, r"for one argument write \('x',\)"),
        ({"a": {**NIGHTLY, "kwargs": [1]}}, r"kwargs=\[1\] is not a dict with names"),
        ({"a": {**NIGHTLY, "options": {1: 2}}}, r"options=\{1: 2\} is not a dict with names"),
        ({"a": {**NIGHTLY, "relative": "yes"}}, "relative='yes' is neither True nor False"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(app, value, said):
    with pytest.raises(ImproperlyConfigured, match=f"beat_schedule: .*{said}"):
        app.conf.beat_schedule = value


def test_a_long_value_is_not_repeated_in_its_error(app):
    many = {f"entry {number}": NIGHTLY for number in range(100)}

    with pytest.raises(ImproperlyConfigured, match="beat_schedule: the given value has no 'task'"):
        app.conf.beat_schedule = {**many, "a": {}}


def test_arguments_are_not_shown(app):
    app.conf.beat_schedule = {"a": {**NIGHTLY, "args": ("hunter2",), "kwargs": {"x": "hunter2"}}}

    assert "hunter2" not in repr(app.conf)
    assert "shop.sum_up" in repr(app.conf)


def test_a_periodic_task_is_added(app, add):
    app.conf.beat_schedule = {"nightly": NIGHTLY}

    name = app.add_periodic_task(10, add.s(2), args=(1,), queue="fast", priority=3)
    named = app.add_periodic_task(crontab(), add, args=(1,), kwargs={"y": 2}, name="mine")

    assert name == "shop.add(1, 2)"
    assert named == "mine"
    assert list(app.conf.beat_schedule) == ["nightly", name, named]
    first, second = app.conf.beat_schedule[name], app.conf.beat_schedule[named]
    assert first.args == (1, 2)
    assert first.options == {"queue": "fast", "priority": 3}
    assert first.schedule == schedule(10)
    assert (second.args, second.kwargs) == ((1,), {"y": 2})


def test_the_same_name_is_replaced(app, add):
    app.add_periodic_task(10, add.s(1), name="mine")
    app.add_periodic_task(20, add.s(1), name="mine")

    assert app.conf.beat_schedule["mine"].schedule == schedule(20)


def test_a_wrong_periodic_task_is_refused(app, add):
    with pytest.raises(
        InvalidTaskError, match=r"add_periodic_task: unknown option 'qeue'; did you"
    ):
        app.add_periodic_task(10, add.s(1), qeue="fast")
    with pytest.raises(
        InvalidTaskError, match=r"entry 'shop.add\(1\)': schedule: '10' is not a per"
    ):
        app.add_periodic_task("10", add.s(1))
    for wrong in (chain(add.s(1), add.s(2)), "shop.add", None):
        with pytest.raises(InvalidTaskError, match="is not a task or its signature; of a canvas"):
            app.add_periodic_task(10, wrong)
    assert app.conf.beat_schedule == {}


@pytest.mark.parametrize(
    "name",
    ["celery.beat:PersistentScheduler", "celery.beat.Scheduler", "cardoon.beat:Beat"],
)
def test_celerys_names_of_its_scheduler_mean_the_one_there_is(app, name):
    app.conf.beat_scheduler = name
    assert app.conf.beat_scheduler == "cardoon.beat:Beat"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("django_celery_beat.schedulers:DatabaseScheduler", "app.schedules and `cardoon schedule`"),
        ("shop.Scheduler", "is not a scheduler that Cardoon has; leave it out"),
        ({}, "is not a scheduler"),
    ],
)
def test_another_scheduler_is_refused_with_what_to_use(app, name, said):
    with pytest.raises(ImproperlyConfigured, match=f"beat_scheduler: .*{said}"):
        app.conf.beat_scheduler = name


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"catch_up": "al"}, "catch_up='al' is unknown; did you mean 'all'"),
        ({"overlap": "no"}, "overlap='no' is unknown; use 'allow' or 'skip'"),
        ({"paused": 1}, "paused=1 is neither True nor False"),
        ({"tz": "Europe/Berln"}, "tz='Europe/Berln' is not a time zone"),
        ({"tz": 2}, "tz=2 is not the name of a time zone"),
        ({"tz": "UTC", "schedule": crontab(tz="Asia/Tokyo")}, "but its schedule says 'Asia/Tokyo'"),
        ({"catchup": "all"}, "unknown key 'catchup' in entry 'a'; did you mean 'catch_up'"),
    ],
)
def test_what_an_entry_says_besides_its_call_is_checked(app, wishes, said):
    with pytest.raises(ImproperlyConfigured, match=said):
        app.conf.beat_schedule = {"a": {**NIGHTLY, **wishes}}


def test_many_tasks_are_not_all_named(app):
    app.conf.beat_schedule = {str(n): {"task": f"t{n}", "schedule": 1} for n in range(7)}

    assert app.conf.beat_schedule.describe() == "7 entries (t0, t1, t2, t3, t4, ...)"
