"""`cardoon routes` and `cardoon list bindings`, and the places that `cardoon call` takes."""

from __future__ import annotations

import pytest

TASKS = """\
from cardoon import Cardoon
from cardoon.queues import Exchange, Queue

app = Cardoon("tasks", set_as_current=False)
app.conf.task_queues = [Queue("celery"), Queue("videos", Exchange("media", "topic"), "media.#")]
app.conf.task_routes = [
    {"tasks.sh*": {"exchange": "media", "routing_key": "media.short", "priority": 4}},
    lambda name, args, *rest, **kw: "large" if args and args[0] > 100 else None,
]


@app.task
def add(x, y=0):
    return x + y


@app.task(queue="mail")
def mail():
    pass


@app.task
def shorten():
    pass
"""


@pytest.fixture
def routed(project):
    """A project whose app has routes."""
    (project.folder / "tasks.py").write_text(TASKS)
    return project


@pytest.mark.parametrize(
    ("arguments", "queue", "because", "priority"),
    [
        (["add"], "celery", "nobody says otherwise: task_default_queue", 0),
        (["add", "-a", "[500]"], "large", "task_routes, <lambda>: queue='large'", 0),
        (["mail"], "mail", "the task's own options: queue='mail'", 0),
        (["shorten"], "videos", "task_routes, tasks.sh*: exchange='media'", 4),
        (["mail", "--queue", "x"], "x", "the call: queue='x'", 0),
        (["add", "--routing-key", "celery"], "celery", "the call: routing_key='celery'", 0),
    ],
)
def test_a_route_is_shown_with_what_decides_it(routed, arguments, queue, because, priority):
    told = routed.json("-A", "tasks", "routes", "--json", *arguments)

    assert told == {
        "task": f"tasks.{arguments[0]}",
        "queue": queue,
        "because": because,
        "priority": priority,
    }
    assert not (routed.state / "cardoon.db").exists(), "nothing was sent"


def test_a_route_is_shown_for_people(routed):
    assert routed.answer("-A", "tasks", "routes", "web.get").splitlines() == [
        "task      web.get, which is not known here",
        "queue     celery",
        "because   nobody says otherwise: task_default_queue",
        "priority  0",
    ]


def test_a_place_that_leads_nowhere_is_an_error(routed):
    told = routed.error("-A", "tasks", "routes", "add", "--exchange", "medai")

    assert "exchange 'medai' with routing_key 'celery' leads to no queue" in told


def test_bindings_are_listed(routed):
    assert routed.answer("-A", "tasks", "list", "bindings").splitlines() == [
        "exchange  type    routing key  queue",
        "celery    direct  celery       celery",
        "media     topic   media.#      videos",
    ]
    assert routed.json("-A", "tasks", "list", "bindings", "--json")[1] == {
        "exchange": "media",
        "type": "topic",
        "routing key": "media.#",
        "queue": "videos",
    }


def test_a_call_may_name_exchange_and_routing_key(routed):
    options = ["--exchange", "media", "--routing-key", "media.long"]

    routed.answer("-A", "tasks", "call", "add", "-a", "[1]", *options)

    assert [queue["queue"] for queue in routed.json("queues", "--json")] == ["videos"]
