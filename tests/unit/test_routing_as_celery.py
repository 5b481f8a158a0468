"""The same routes, tasks and calls as Celery's own router: where both have an answer, it is the same."""

from __future__ import annotations

import itertools
import re

import pytest

from cardoon import queues as ours

celery = pytest.importorskip("celery", reason="celery comes with the extra `test`")
theirs = pytest.importorskip("kombu")


def by_prefix(name, args, kwargs, options, task=None, **more):
    return {"queue": "dynamic", "priority": 6} if name.startswith("feed.") else None


ROUTES = [
    None,
    {"feed.fetch": "feeds"},
    {"feed.fetch": {"queue": "feeds", "priority": 5}},
    {"feed.*": "all-feeds", "feed.fetch": "feeds"},
    {"*": {"queue": "everything"}, "feed.*": "never"},
    {"feed.*": {"priority": 5}},
    [{"web.*": "web"}, {"feed.*": "all-feeds"}],
    ([("feed.f*", {"queue": "first"}), ("feed.*", {"queue": "second"})],),
    ({re.compile(r"(feed|web)\..*"): {"queue": "either"}},),
    (by_prefix,),
    ({"feed.fetch": "feeds"}, by_prefix),
    (by_prefix, {"*": "rest"}),
]
OWN = [{}, {"queue": "own"}, {"priority": 2}, {"queue": "own", "priority": 2}]
CALLS = [{}, {"queue": "mine"}, {"priority": 1}, {"queue": "mine", "priority": 0}]


def settings(module):
    """Settings with queues of either library's classes."""
    return {
        "task_default_queue": "usual",
        "task_queues": [
            module.Queue("usual"),
            module.Queue("feeds", module.Exchange("f"), routing_key="feeds"),
        ],
    }


@pytest.mark.parametrize("routes", ROUTES, ids=range(len(ROUTES)))
def test_a_call_goes_where_celery_sends_it(app, routes):
    other = celery.Celery("shop", broker="memory://", set_as_current=False)
    other.conf.update(settings(theirs), task_routes=routes)
    app.conf.update(settings(ours), task_routes=routes)

    for own, call, name in itertools.product(OWN, CALLS, ["feed.fetch", "feed.other", "web.get"]):
        found = [one.amqp.router.route({**own, **call}, name, (), {}, None) for one in (app, other)]

        # A route without a queue leaves Celery's choice of the default one to its next step.
        first, second = [
            (str(getattr(route.get("queue"), "name", "usual")), route.get("priority"))
            for route in found
        ]
        assert first == second, (own, call, name)
    other.close()


def test_a_message_is_sent_where_the_router_says(make_stage):
    for routes, own, call in itertools.product(ROUTES, OWN, CALLS):
        stage = make_stage(settings={"task_routes": routes, **settings(ours)})
        task = stage.app.task(name="feed.fetch", **own)(lambda: None)
        told = stage.app.amqp.router.route({**task.given_options(), **call}, "feed.fetch")

        task.apply_async(**call)

        names = [depth.queue for depth in stage.broker.depths()]
        [sent] = stage.broker.receive(names, limit=2, lease=30.0, timeout=0)
        assert (sent.queue, sent.priority) == (told["queue"].name, told.get("priority", 0))
