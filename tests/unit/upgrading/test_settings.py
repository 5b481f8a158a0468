"""Old names of settings become new ones, and values that mean something else are reported."""

from __future__ import annotations

import pytest

MODULE = """\
    # Settings of ours.
    BROKER_URL = "sqlite:///a.db"  # where they are
    CELERY_RESULT_BACKEND    =    BROKER_URL
    CELERYD_CONCURRENCY: int = 4
    CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "auth"

    class Testing:
        CELERY_ALWAYS_EAGER = True

    OTHER = f"{BROKER_URL} and {CELERYD_CONCURRENCY}"
    """


def test_names_of_a_settings_module_are_replaced_and_its_layout_stays(upgraded):
    done = upgraded(MODULE)

    assert done.text.splitlines()[:8] == [
        "# Settings of ours.",
        'broker_url = "sqlite:///a.db"  # where they are',
        "result_backend    =    broker_url",
        "worker_concurrency: int = 4",
        'task_serializer = result_serializer = "auth"',
        "",
        "class Testing:",
        "    task_always_eager = True",
    ]


def test_djangos_names_keep_their_prefix(upgraded):
    done = upgraded(
        """\
        INSTALLED_APPS = []
        BROKER_URL = "sqlite:///a.db"
        CELERY_RESULT_BACKEND = BROKER_URL
        CELERYD_CONCURRENCY = 4
        CELERY_TIMEZONE = TIME_ZONE = "UTC"
        S3_ACCESS = 1
        """,
        files={"views.py": "from django.conf import settings\nx = settings.CELERYD_CONCURRENCY\n"},
    )

    assert done.text.splitlines() == [
        "INSTALLED_APPS = []",
        'CELERY_BROKER_URL = "sqlite:///a.db"',
        "CELERY_RESULT_BACKEND = CELERY_BROKER_URL",
        "CELERY_WORKER_CONCURRENCY = 4",
        'CELERY_TIMEZONE = TIME_ZONE = "UTC"',
        "S3_ACCESS = 1",
    ]
    assert "settings.CELERY_WORKER_CONCURRENCY" in done.read("views.py")


def test_a_file_may_be_said_to_be_djangos(upgraded):
    done = upgraded("CELERYD_CONCURRENCY = 4\n", django=True)

    assert done.text == "CELERY_WORKER_CONCURRENCY = 4\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("app.conf.CELERYD_CONCURRENCY = 3", "app.conf.worker_concurrency = 3"),
        ("app.conf['CELERYD_CONCURRENCY'] = 3", "app.conf['worker_concurrency'] = 3"),
        ("print(app.conf.CELERY_TIMEZONE)", "print(app.conf.timezone)"),
        ("app.conf.update(CELERY_TIMEZONE='UTC', a=1)", None),
        ("app.conf.update({'CELERY_TIMEZONE': 'UTC'})", "app.conf.update({'timezone': 'UTC'})"),
        (
            "app.config_from_object(dict(CELERY_TIMEZONE='UTC'))",
            "app.config_from_object(dict(timezone='UTC'))",
        ),
        ("x = Celery('x', CELERY_TIMEZONE='UTC')", "x = Celery('x', timezone='UTC')"),
        (
            "f.config.from_mapping(CELERY={'BROKER_URL': 'memory://'})",
            "f.config.from_mapping(CELERY={'broker_url': 'memory://'})",
        ),
        ("CELERY = dict(BROKER_URL='memory://')", "CELERY = dict(broker_url='memory://')"),
    ],
)
def test_settings_are_found_where_an_app_is_given_them(upgraded, before, after):
    done = upgraded(before)

    assert done.text == (after or "app.conf.update(timezone='UTC', a=1)")
    assert (not done.decisions) == (after is not None)


@pytest.mark.parametrize(
    "text",
    [
        "url = os.environ['BROKER_URL']",
        "BROKER_URL = 'x'",
        "def f(CELERY_TIMEZONE): ...",
        "cache.update(CELERY_TIMEZONE=1)",
        "x = {'CELERY_TIMEZONE': 1}",
    ],
)
def test_what_is_no_setting_is_left(upgraded, text):
    assert upgraded(text).text == text


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("worker_agent = 'x'", "the parts of the worker cannot be exchanged"),
        ("CELERYD_AGENT = 'x'", "the parts of the worker cannot be exchanged"),
        ("worker_concurrency = 0", "is not between 1 and"),
        ("worker_pool = 'gevent'", "use prefork, isolated, threads, asyncio, solo"),
        ("task_serializer = 'pickle'", "task_serializer"),
        ("accept_content = ['json', 'pickle']", "accept_content names 'pickle'"),
    ],
)
def test_a_setting_that_is_not_taken_is_reported_with_the_reason(upgraded, line, why):
    done = upgraded(f"CELERY_TRACK_STARTED = True\n{line}\n")

    assert [(place, why in said) for place, said in done.decisions] == [(2, True)]


@pytest.mark.parametrize(
    "value",
    ["'kafka://user:hunter2@host'", "os.environ.get('X', 'kafka://user:hunter2@host')"],
)
def test_a_url_that_no_driver_is_for_is_reported_without_its_password(upgraded, value):
    done = upgraded(f"import os\nCELERY_TRACK_STARTED = True\nbroker_url = {value}\n")

    [(line, said)] = done.decisions
    assert (line, "kafka" in said, "hunter2" in said) == (3, True, False)


def test_what_an_app_is_made_with_is_looked_at_too(upgraded):
    done = upgraded(
        "x = Celery('x', broker='kafka://host', backend='sqlite:///a.db', task_cls='y')\n"
    )

    [(line, said)] = done.decisions
    assert (line, "kafka" in said) == (1, True)


def test_a_setting_that_changes_nothing_is_noted(upgraded):
    done = upgraded("CELERY_TRACK_STARTED = True\nbroker_heartbeat = 3\n")

    [(line, said)] = done.notes
    assert (line, said.partition(":")[0]) == (2, "broker_heartbeat changes nothing here")


def test_messages_that_are_not_signed_are_a_decision(upgraded):
    done = upgraded("CELERY_ACCEPT_CONTENT = ['json']\nCELERY_TASK_SERIALIZER = 'json'\n")

    [(line, said)] = done.decisions
    assert (line, "messages are not signed" in said) == (0, True)


def test_when_tasks_are_acknowledged_is_said_unless_the_project_says_it(upgraded):
    silent = upgraded("CELERY_TRACK_STARTED = True\n").report.findings[-1].text
    early = upgraded("CELERY_ACKS_LATE = False\n")

    assert silent.startswith("tasks are acknowledged after they have run")
    assert [said.partition(":")[0] for _, said in early.notes] == ["task_acks_late=False"]


def test_djangos_settings_read_without_namespace_are_a_decision(upgraded):
    done = upgraded("app.config_from_object('django.conf:settings')\n")

    assert [(line, "namespace='CELERY'" in said) for line, said in done.decisions] == [(1, True)]
