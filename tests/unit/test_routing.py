"""Where messages go: by the call, the task, the routes and the settings, through every door."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest

from cardoon import chain, chord, group
from cardoon.broker import Subscription
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, QueueNotFound
from cardoon.queues import Broadcast, Exchange, Queue, binding
from cardoon.utils.nodenames import worker_direct
from tests.unit.stage import RULES, succeeded

CATALOGUE = {"shop.pay": RULES, "shop.mail": RULES}
MEDIA = Exchange("media", "topic")
NEWS_OF_ONE = Subscription("news", "news>one")
QUEUES = (
    Queue("celery"),
    Queue("videos", MEDIA, "media.video.#"),
    Queue("images", MEDIA, "media.image.*"),
    Queue("mail", Exchange("mail"), "mail"),
    Queue("all", Exchange("news", "fanout")),
)


@pytest.fixture
def shop(make_stage):
    """A client with routes or other settings, and two tasks."""

    def make(routes=None, *, own=None, catalogue=None, **settings):
        stage = make_stage(settings={"task_routes": routes, **settings}, catalogue=catalogue)

        @stage.app.task(name="shop.pay", **(own or {}))
        def pay(amount=0, currency="EUR"):
            raise AssertionError("not run here")

        @stage.app.task(name="shop.mail")
        def mail(*args):
            raise AssertionError("not run here")

        stage.pay, stage.mail = pay, mail
        return stage

    return make


def taken(stage):
    """What was sent, as deliveries."""
    names = [depth.queue for depth in stage.broker.depths()]
    return stage.broker.receive(names, limit=100, lease=30.0, timeout=0)


def queues(stage):
    """The queues of what was sent, in order of their names."""
    return sorted(one.queue for one in taken(stage))


# Routes


@pytest.mark.parametrize(
    "routes",
    [
        {"shop.pay": "money"},
        {"shop.pay": {"queue": "money"}},
        {"shop.pay": Queue("money")},
        {"shop.*": "money"},
        {"shop.pa[xy]": "money"},
        {re.compile(r"(shop|bank)\.pay"): "money"},
        [("shop.*", {"queue": "money"})],
        ([("web.*", "web"), ("shop.*", "money")],),
        [{"web.*": "web"}, {"shop.*": "money"}],
        [{"shop.pay": "money"}, {"shop.*": "other"}],
        {"shop.*": "other", "shop.pay": "money"},
        [("shop.p*", "money"), ("shop.*", "other")],
        lambda name, args, kwargs, options, task=None, **kw: "money",
        [lambda *args, **kw: None, {"*": "money"}],
        [{"web.*": "web"}, lambda *args, **kw: {"queue": Queue("money")}],
    ],
)
def test_a_task_goes_where_its_route_says(shop, routes):
    stage = shop(routes)

    stage.pay.delay(1)

    assert queues(stage) == ["money"]


def test_a_task_that_no_route_fits_goes_to_the_default_queue(shop):
    stage = shop({"web.*": "web", "shop": "no", "hop.pay": "no"}, task_default_queue="usual")

    stage.pay.delay()

    assert queues(stage) == ["usual"]


def test_a_router_is_told_of_the_call(shop):
    asked = []

    def router(name, args, kwargs, options, task=None, **more):
        asked.append((name, list(args), dict(kwargs), options, task))

    stage = shop((router,), own={"priority": 3})
    stage.pay.apply_async((1,), {"currency": "USD"}, countdown=5)
    stage.app.send_task("elsewhere.run", (2,))

    assert asked == [
        ("shop.pay", [1], {"currency": "USD"}, {"priority": 3, "max_retries": 3, "countdown": 5}, stage.pay),
        ("elsewhere.run", [2], {}, {}, None),
    ]  # fmt: skip


def test_a_router_may_decide_by_the_arguments(shop):
    stage = shop(lambda name, args, *rest, **kw: "large" if args[0] > 100 else None)

    stage.pay.send_many([(1,), (1000,), (2,)])

    assert queues(stage) == ["celery", "celery", "large"]


class ByObject:
    def route_for_task(self, task, args=None, kwargs=None):
        return {"queue": f"for-{task}"}


def by_function(name, args, kwargs, options, task=None, **kw):
    return f"for-{name}"


@pytest.mark.parametrize(
    "router", [ByObject(), ByObject, "ByObject", "by_function", ":by_function"]
)
def test_a_router_may_be_an_object_or_a_name(shop, router, monkeypatch):
    if isinstance(router, str):
        monkeypatch.setitem(sys.modules, "shop_routers", sys.modules[__name__])
        router = f"shop_routers{router}" if router.startswith(":") else f"shop_routers.{router}"
    stage = shop(router)

    stage.pay.delay()
    stage.pay.delay()

    assert queues(stage) == ["for-shop.pay"] * 2


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nowhere.at.all", "task_routes: 'nowhere.at.all': No module named 'nowhere'"),
        ("sys.no_such_router", "task_routes: 'sys.no_such_router': module 'sys' has no attribute"),
        ("sys.maxsize", f"task_routes: {sys.maxsize} is neither callable nor has route_for_task"),
        ("router", "task_routes: 'router' names nothing; write package.module.name"),
    ],
)
def test_a_router_that_is_not_there_is_named_at_the_call(shop, path, told):
    stage = shop((path,))

    with pytest.raises(ImproperlyConfigured, match=re.escape(told)):
        stage.pay.delay()


def test_an_answer_that_is_no_route_is_named_with_its_router(shop):
    def sharded(*args, **kw):
        return {"quue": "x"}

    stage = shop(sharded)

    with pytest.raises(ImproperlyConfigured) as caught:
        stage.pay.delay()

    assert "sharded for task 'shop.pay' has an unknown option 'quue'" in str(caught.value)
    assert "did you mean 'queue'" in str(caught.value)


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        (5, "task_routes: 5 has 5, which is neither a dict nor a list of pairs nor a router"),
        ({"a": 5}, "for 'a' has 5 for a route; use a queue's name or a dict of options"),
        ({"a": {"qeue": "x"}}, "an unknown option 'qeue' in a route; did you mean 'queue'?"),
        ({"a": {"priority": 10}}, "has priority=10 in a route, which is not between 0 and 9"),
        ({"a": {"task_id": "x"}}, "'task_id' in a route, which belongs to one call"),
        ({"a": {"retry": True}}, "set task_publish_timeout"),
        ({"a": {"queue": ""}}, "1 to 256 printable bytes"),
        ({re.compile("a.*"): {"expires": "soon"}}, "for 'a.*' has expires='soon'"),
        ({5: "a"}, "which is no pair of a task's name and a route"),
        ([[("a", "b"), ("c",)]], "which is no pair"),
        ({"a": {"time_limit": 1, "soft_time_limit": 2}}, "soft_time_limit=2.0 in a route"),
    ],
)
def test_routes_that_are_wrong_are_refused_when_they_are_set(app, routes, told):
    with pytest.raises(ImproperlyConfigured, match=r"^task_routes: ") as caught:
        app.conf.task_routes = routes

    assert told in str(caught.value)


def test_a_route_may_give_other_options_than_a_queue(shop):
    stage = shop(
        {"shop.pay": {"priority": 7, "headers": {"trace": "a", "kept": 1}, "countdown": 5}}
    )

    stage.pay.apply_async((1,), headers={"trace": "b"})
    assert taken(stage) == []
    stage.clock.advance(6)
    [job] = stage.consume()

    assert job.head["headers"]["headers"] == {"trace": "b", "kept": 1}
    assert job.head["headers"]["priority"] == 7
    assert job.head["queue"] == "celery"


def test_a_call_with_an_eta_is_not_given_the_countdown_of_its_route(shop):
    stage = shop({"shop.pay": {"countdown": 500}})

    stage.pay.apply_async(countdown=1)
    stage.clock.advance(2)

    assert queues(stage) == ["celery"]


def test_the_countdown_of_a_route_counts_from_the_end_of_what_a_task_waits_for(shop):
    stage = shop({"shop.mail": {"countdown": 60}}, catalogue=CATALOGUE)
    pay, mail = stage.pay, stage.mail

    chain(pay.s(1), mail.s()).apply_async()
    [job] = stage.consume()
    stage.end(job, succeeded(2))

    assert stage.consume() == []
    stage.clock.advance(59)
    assert stage.consume() == []
    stage.clock.advance(2)
    assert [job.task for job in stage.consume()] == ["shop.mail"]


def test_settings_that_were_read_may_be_set_again(app):
    app.conf.update(
        task_queues=QUEUES,
        task_routes=[{"a.*": "x", re.compile("b"): "y"}, "some.router", print, ByObject()],
        task_annotations=[{"*": {"priority": 1}}, "some.Annotation"],
    )
    before = dict(app.conf.explicit)

    app.conf.update(before)

    assert app.conf.explicit == before


# Precedence


CALL, TASK, ROUTE = {"queue": "of-call"}, {"queue": "of-task"}, {"queue": "of-route"}


@pytest.mark.parametrize(
    ("call", "own", "route", "queue"),
    [
        (CALL, TASK, ROUTE, "of-call"),
        ({}, TASK, ROUTE, "of-task"),
        ({}, {}, ROUTE, "of-route"),
        ({}, {}, {}, "of-settings"),
        (CALL, {}, ROUTE, "of-call"),
        (CALL, TASK, {}, "of-call"),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_call_counts_more_than_the_task_and_that_more_than_its_route(
    shop, call, own, route, queue, dynamic
):
    routes = (lambda *args, **kw: dict(route)) if dynamic else {"shop.*": dict(route)}
    stage = shop(routes, own=own, task_default_queue="of-settings")

    stage.pay.apply_async((), **call)

    assert queues(stage) == [queue]


@pytest.mark.parametrize(
    ("call", "own", "route", "priority"),
    [(1, 2, 3, 1), (None, 2, 3, 2), (None, None, 3, 3), (None, None, None, 4), (0, 2, 3, 0), (None, 0, 3, 0)],
)  # fmt: skip
def test_each_option_is_decided_by_itself(shop, call, own, route, priority):
    stage = shop({"shop.*": {"priority": route}}, own={"priority": own}, task_default_priority=4)

    stage.pay.apply_async(priority=call)

    assert [one.priority for one in taken(stage)] == [priority]


def test_a_change_of_settings_is_followed(shop):
    stage = shop({"shop.*": "before"})
    stage.pay.delay()

    stage.app.conf.task_routes = {"shop.*": "after"}
    stage.pay.delay()
    stage.app.send_task("shop.unknown")

    assert queues(stage) == ["after", "after", "before"]


def test_what_the_name_decides_is_decided_once(shop):
    def never(*args, **kw):
        raise AssertionError("asked although a route was found before")

    stage = shop([{"shop.*": {"queue": "money"}}, never])

    defaults = stage.pay.call_defaults
    assert defaults.per_call is None
    assert stage.pay.call_defaults is defaults
    assert stage.app.defaults_of("shop.unknown") is stage.app.defaults_of("shop.unknown")


# Doors


def delay(stage):
    stage.pay.delay(1)


def apply_async(stage):
    stage.pay.apply_async((1,), priority=1)


def send_task(stage):
    stage.app.send_task("shop.pay", (1,))


def send_task_of_unknown(stage):
    stage.app.send_task("shop.unknown", (1,))


def send_many(stage):
    stage.pay.send_many([(1,)])


def send_many_signatures(stage):
    stage.app.send_many([stage.pay.s(1)])


def signature(stage):
    stage.pay.s(1).set(priority=2).delay()


def adelay(stage):
    async def send():
        await stage.pay.adelay(1)

    asyncio.run(send())


@pytest.mark.parametrize(
    "send",
    [delay, apply_async, send_task, send_task_of_unknown, send_many, send_many_signatures, signature, adelay],
)  # fmt: skip
@pytest.mark.parametrize("routes", [{"shop.*": "money"}, lambda *args, **kw: "money"])
def test_every_way_to_send_follows_the_routes(shop, send, routes):
    stage = shop(routes)

    send(stage)

    assert queues(stage) == ["money"]


def test_every_step_of_a_canvas_follows_the_routes(shop):
    stage = shop({"shop.pay": "money", "shop.mail": "post", "cardoon.*": "joins"})
    pay, mail = stage.pay, stage.mail

    chord(group(pay.s(1), pay.s(2)), mail.s()).apply_async()
    (group(pay.s(3), pay.s(4)) | group(mail.s(), mail.s())).apply_async()
    pay.apply_async((5,), link=mail.s(), link_error=mail.s())

    found = {depth.queue: depth.ready + depth.dormant for depth in stage.broker.depths()}
    assert found == {"money": 5, "post": 5, "joins": 1}


# Exchanges and routing keys


@pytest.mark.parametrize(
    ("place", "queue"),
    [
        ({"exchange": "media", "routing_key": "media.video"}, "videos"),
        ({"exchange": "media", "routing_key": "media.video.short.new"}, "videos"),
        ({"exchange": MEDIA, "routing_key": "media.image.png"}, "images"),
        ({"exchange": "mail", "routing_key": "mail"}, "mail"),
        ({"exchange": "news"}, "all"),
        ({"exchange": "news", "routing_key": "anything"}, "all"),
        ({"exchange": "", "routing_key": "mail"}, "mail"),
        ({"exchange": "", "routing_key": "nobody.declared"}, "nobody.declared"),
        ({"exchange": "late", "routing_key": "late"}, "late"),
        ({"routing_key": "celery"}, "celery"),
        ({"exchange": "celery"}, "celery"),
        ({"queue": "videos", "routing_key": "media.video.x"}, "videos"),
        ({"queue": "mail", "routing_key": "of.no.interest"}, "mail"),
        ({"queue": "mail", "exchange": "mail", "routing_key": "mail"}, "mail"),
        ({"queue": Queue("anywhere")}, "anywhere"),
        ({"queue": worker_direct("w1@host")}, "w1@host.dq"),
    ],
)
def test_exchange_and_routing_key_lead_to_the_queue_that_is_bound(shop, place, queue):
    stage = shop(task_queues=QUEUES)

    stage.pay.apply_async(**place)
    stage.app.send_task("shop.unknown", **place)

    assert queues(stage) == [queue] * 2


@pytest.mark.parametrize("level", ["task", "route", "router"])
def test_task_and_route_may_name_exchange_and_routing_key(shop, level):
    place = {"exchange": "media", "routing_key": "media.video.x"}
    route = (lambda *args, **kw: place) if level == "router" else {"shop.*": place}
    stage = shop(
        None if level == "task" else route, own=place if level == "task" else {}, task_queues=QUEUES
    )

    stage.pay.delay()

    assert queues(stage) == ["videos"]


def test_a_routing_key_alone_belongs_to_the_exchange_that_the_route_names(shop):
    stage = shop(
        {"shop.*": {"exchange": "media", "routing_key": "media.image.x"}}, task_queues=QUEUES
    )

    stage.pay.apply_async(routing_key="media.video.x")
    stage.pay.apply_async(queue="mail")
    stage.pay.apply_async(exchange="mail", routing_key="mail")

    assert queues(stage) == ["mail", "mail", "videos"]


def test_queues_that_say_little_are_bound_to_the_default_exchange(shop):
    stage = shop(
        task_queues=[Queue("default", routing_key="task.#"), Queue("feeds", routing_key="feed.*")],
        task_default_exchange="tasks",
        task_default_exchange_type="topic",
        task_default_routing_key="task.default",
        task_default_queue="default",
    )  # fmt: skip

    stage.pay.delay()
    stage.pay.apply_async(exchange="tasks")
    stage.pay.apply_async(routing_key="feed.import")

    assert queues(stage) == ["default", "default", "feeds"]


def test_a_queue_without_a_routing_key_is_bound_by_the_default_one_or_its_name(shop):
    named, keyed = [
        shop(task_queues=["a", "b"], task_default_routing_key=key).app.amqp.queues
        for key in (None, "k")
    ]

    assert [named[name].routing_key for name in named] == ["a", "b"]
    assert [keyed[name].routing_key for name in keyed] == ["k", "k"]


@pytest.mark.parametrize(
    ("place", "kind", "told"),
    [
        (
            {"exchange": "media", "routing_key": "media.audio"},
            QueueNotFound,
            "leads to no queue; task_queues binds 'celery/celery', 'media/media.video.#'",
        ),
        ({"routing_key": "hipri"}, QueueNotFound, "name a queue with queue="),
        ({"exchange": "medai", "routing_key": "x"}, QueueNotFound, "exchange 'medai'"),
        ({"exchange": "media", "routing_key": "media.image.x.y"}, QueueNotFound, "no queue"),
        (
            {"queue": "videos", "routing_key": "media.image.x"},
            InvalidTaskError,
            "queue 'videos' is bound to 'media/media.video.#', so routing_key='media.image.x' does",
        ),
        (
            {"queue": "mail", "exchange": "media", "routing_key": "media.video"},
            InvalidTaskError,
            "so exchange='media', routing_key='media.video' does not lead there",
        ),
        ({"exchange": "", "routing_key": ""}, InvalidTaskError, "queue '' is not a queue's name"),
        ({"exchange": "a\n", "routing_key": "a\n"}, InvalidTaskError, "neither the name of a queue"),
        ({"queue": 5}, InvalidTaskError, "apply_async: queue=5 is neither the name of a queue nor a"),
        ({"queue": Queue()}, InvalidTaskError, "1 to 256 printable bytes"),
        ({"exchange": 5}, InvalidTaskError, "exchange=5 is not text"),
    ],
)  # fmt: skip
def test_a_place_that_leads_nowhere_is_an_error_with_what_there_is(shop, place, kind, told):
    stage = shop(task_queues=QUEUES)

    with pytest.raises(kind) as caught:
        stage.pay.apply_async(**place)

    assert told in str(caught.value)
    assert queues(stage) == []


@pytest.mark.parametrize(
    ("exchange", "why"),
    [
        (Exchange("x"), "does not send one message there"),
        (Exchange("x", "topic"), "does not send one message there"),
        (Exchange("x", "fanout"), "does not send messages to several queues at once there"),
    ],
)
def test_more_than_one_queue_is_an_error_that_names_them(shop, exchange, why):
    stage = shop(task_queues=[Queue("a", exchange, "k"), Queue("b", exchange, "k")])

    with pytest.raises(InvalidTaskError) as caught:
        stage.pay.apply_async(exchange="x", routing_key="k")

    assert "exchange 'x' with routing_key 'k' leads to 'a', 'b'" in str(caught.value)
    assert why in str(caught.value)


def test_two_bindings_of_one_queue_are_one_way(shop):
    both = Queue("a", [binding(MEDIA, "media.#"), binding(MEDIA, "#.video"), binding(None, "k")])
    stage = shop(task_queues=[both])

    stage.pay.apply_async(exchange="media", routing_key="media.video")
    stage.pay.apply_async(routing_key="k")

    assert queues(stage) == ["a", "a"]


@pytest.mark.parametrize(
    ("pattern", "keys", "others"),
    [
        ("#", ["", "a", "a.b.c"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "aa", "b.a"]),
        ("#.a", ["a", "b.a", "c.b.a"], ["a.b"]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c"]),
        ("*.*", ["a.b"], ["a", "a.b.c"]),
        ("a.#.z", ["a.z", "a.b.c.z"], ["a", "z", "a.z.b"]),
        ("#.a.#", ["a", "b.a.c", "a.a"], ["b", ""]),
        ("#.#.#.#.#.b", ["b", "a.b"], ["a." * 120]),
    ],
)
def test_topics_are_amqps(shop, pattern, keys, others):
    stage = shop(task_queues=[Queue("a", MEDIA, pattern)])

    for key in keys:
        stage.pay.apply_async(exchange="media", routing_key=key)
    assert queues(stage) == ["a"] * len(keys)
    for key in others:
        with pytest.raises(QueueNotFound):
            stage.pay.apply_async(exchange="media", routing_key=key)


def test_a_default_exchange_of_two_types_is_refused(shop):
    stage = shop(
        task_queues=[Queue("a", Exchange("tasks", "topic"), "#")],
        task_default_exchange="tasks",
        task_default_exchange_type="direct",
    )

    with pytest.raises(ImproperlyConfigured, match="declares exchange 'tasks' as topic"):
        stage.pay.delay()


# Queues that must be declared


def test_with_missing_queues_forbidden_a_queue_must_be_declared(shop):
    stage = shop({"shop.mail": "nowhere"}, task_queues=QUEUES, task_create_missing_queues=False)

    stage.pay.delay()
    stage.pay.apply_async(queue="mail")
    stage.pay.apply_async(queue=Queue("mine"))
    stage.mail.apply_async(queue="videos")
    with pytest.raises(
        QueueNotFound, match=r"queue 'mial' is not in task_queues.*did you mean 'mail'"
    ):
        stage.pay.apply_async(queue="mial")
    with pytest.raises(
        QueueNotFound, match="queue 'nowhere' is not in task_queues, which has 'celery'"
    ):
        stage.mail.delay()
    with pytest.raises(QueueNotFound):
        stage.pay.apply_async(exchange="late", routing_key="late")

    assert queues(stage) == ["celery", "mail", "mine", "videos"]


def test_with_missing_queues_forbidden_the_default_queue_must_be_declared_too(shop):
    stage = shop(task_queues=["a"], task_create_missing_queues=False)

    stage.pay.apply_async(queue="a")
    with pytest.raises(QueueNotFound, match="queue 'celery' is not in task_queues"):
        stage.pay.delay()

    assert queues(stage) == ["a"]


def test_without_task_queues_the_default_queue_is_the_one_that_is_declared(shop):
    stage = shop(task_create_missing_queues=False)

    stage.pay.delay()
    with pytest.raises(QueueNotFound):
        stage.pay.apply_async(queue="other")

    assert queues(stage) == ["celery"]


def test_an_alias_stands_for_its_queue(shop):
    stage = shop({"shop.mail": "post"}, task_queues=[Queue("mail", alias="post"), Queue("celery")])

    stage.pay.apply_async(queue="post")
    stage.mail.delay()

    assert queues(stage) == ["mail", "mail"]


@pytest.mark.parametrize("queue", ["fast", Queue("fast")])
def test_a_queue_may_be_an_object_wherever_a_name_may_be(shop, queue):
    stage = shop({"shop.mail": queue}, own={"queue": queue}, task_default_queue=queue)

    stage.pay.delay()
    stage.mail.delay()
    stage.app.send_task("shop.unknown")
    stage.mail.apply_async(queue=queue)
    stage.mail.s().set(queue=queue).apply_async()
    group(stage.pay.s(), stage.pay.s()).apply_async(queue=queue)

    assert queues(stage) == ["fast"] * 7


# app.amqp


def test_the_queues_can_be_looked_up_under_celerys_names(shop):
    amqp = shop(task_queues=QUEUES).app.amqp

    assert list(amqp.queues) == ["celery", "videos", "images", "mail", "all"]
    assert amqp.queues["videos"].routing_key == "media.video.#"
    assert "videos" in amqp.queues
    assert "late" not in amqp.queues
    assert amqp.queues.get("late") is None
    assert amqp.queues["late"] == Queue("late", Exchange("late"), "late")
    assert amqp.default_queue == Queue("celery", Exchange("celery"), "celery")
    assert amqp.default_exchange == Exchange("celery")
    assert list(amqp.queues.consume_from) == list(amqp.queues)


def test_the_router_says_how_a_call_would_be_sent(shop):
    stage = shop({"shop.*": {"queue": "mail", "priority": 3}}, task_queues=QUEUES)

    route = stage.app.amqp.router.route

    mail = stage.app.amqp.queues["mail"]
    assert route({"headers": None}, "shop.pay") == {"queue": mail, "priority": 3}
    assert route({"priority": 5}, "shop.pay")["priority"] == 5
    assert route({}, "web.get")["queue"].name == "celery"
    assert route({"queue": Queue("own")}, "shop.pay")["queue"] == Queue("own")
    assert route({"exchange": "media", "routing_key": "media.video"}, "a")["queue"].name == "videos"


def test_a_task_that_runs_here_is_not_routed(shop):
    def never(*args, **kw):
        raise AssertionError("asked for a call that is not sent")

    stage = shop(never, task_always_eager=True)
    stage.app.task(name="shop.add")(lambda x: x + 1)

    assert stage.app.tasks["shop.add"].delay(1).get() == 2


@pytest.mark.parametrize(
    "place",
    [
        {"queue": "news"},
        {"queue": "all"},
        {"queue": Broadcast("news")},
        {"queue": "news", "exchange": "news"},
        {"exchange": "news"},
        {"exchange": "news", "routing_key": "whatever"},
    ],
)
def test_every_way_to_a_broadcast_queue_is_a_broadcast(shop, place):
    stage = shop(task_queues=[Queue("celery"), Broadcast("news", alias="all")])
    stage.broker.subscribe([NEWS_OF_ONE], seconds=60)

    stage.pay.apply_async(**place)

    [copy] = stage.broker.receive([NEWS_OF_ONE.queue], limit=9, lease=30.0, timeout=0)
    assert copy.frame
    assert queues(stage) == []


def test_a_route_as_in_celerys_documentation_leads_to_a_broadcast_queue(shop):
    stage = shop(
        task_queues=(Broadcast("news"),),
        task_routes={"shop.pay": {"queue": "news", "exchange": "news"}},
    )
    stage.broker.subscribe([NEWS_OF_ONE], seconds=60)

    stage.pay.delay()

    [copy] = stage.broker.receive([NEWS_OF_ONE.queue], limit=9, lease=30.0, timeout=0)
    assert copy.frame
    assert queues(stage) == []


def test_a_broadcast_queue_must_be_declared(shop):
    stage = shop(task_queues=[Queue("celery"), Queue("news")])

    for queue in (Broadcast("news"), Broadcast("other")):
        with pytest.raises(
            InvalidTaskError, match="is a Broadcast that is not in task_queues; add"
        ):
            stage.pay.apply_async(queue=queue)

    assert queues(stage) == []
