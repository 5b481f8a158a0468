"""Queues, exchanges and bindings: kombu's names, and what each argument means here."""

from __future__ import annotations

import json
import logging

import pytest

from cardoon.config import Conf
from cardoon.exceptions import ImproperlyConfigured
from cardoon.queues import (
    Broadcast,
    Exchange,
    Queue,
    binding,
    broadcast_names,
    parse_queues,
    private_queue,
    tell_queues,
)

MEDIA = Exchange("media", type="topic")


def conf(**settings):
    made = Conf({})
    made.update(settings)
    return made


def test_a_queue_is_told_by_name_exchange_and_routing_key():
    queue = Queue("videos", MEDIA, routing_key="media.video.#")

    assert (queue.name, queue.exchange, queue.routing_key) == ("videos", MEDIA, "media.video.#")
    assert queue == Queue("videos", exchange=MEDIA, routing_key="media.video.#")
    assert len({queue, Queue("videos", MEDIA, "media.video.#")}) == 1
    assert str(queue) == "videos"


def test_an_exchange_is_direct_unless_it_says_otherwise_and_may_be_a_name():
    assert Exchange("a").type == "direct"
    assert Queue("q", "a").exchange == Exchange("a")


def test_a_queue_may_have_several_bindings_in_place_of_an_exchange():
    ways = [binding(MEDIA, routing_key="media.#"), binding("other", routing_key="x")]

    assert Queue("videos", ways).bindings == tuple(ways)
    assert Queue("videos", bindings=ways) == Queue("videos", ways)
    with pytest.raises(ImproperlyConfigured, match="Queue 'v': it has bindings, and an exchange"):
        Queue("v", "media", bindings=ways)


@pytest.mark.parametrize(
    "value",
    [
        [Queue("a"), Queue("b", MEDIA, routing_key="b.#")],
        (Queue("a"), {"name": "b", "exchange": "media", "exchange_type": "topic", "binding_key": "b.#"}),
        {"a": {}, "b": {"exchange": "media", "exchange_type": "topic", "routing_key": "b.#"}},
        {"a": None, "b": Queue("b", MEDIA, routing_key="b.#")},
        ["a", Queue("b", {"name": "media", "type": "topic"}, "b.#")],
    ],
)  # fmt: skip
def test_the_setting_takes_queues_names_and_dicts(value):
    assert conf(task_queues=value).task_queues == (
        Queue("a"),
        Queue("b", MEDIA, routing_key="b.#"),
    )


def test_the_environment_may_list_names():
    assert Conf({"CARDOON_TASK_QUEUES": "a, b"}).task_queues == (Queue("a"), Queue("b"))


def test_what_a_worker_is_told_of_queues_makes_the_same_queues_from_json():
    queues = parse_queues(
        [Queue("a", alias="first"), Queue("b", MEDIA, "b.#"), Queue("c", [binding(MEDIA, "c")])]
    )

    told = json.loads(json.dumps(tell_queues(queues)))

    assert parse_queues(told) == queues


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (5, "task_queues: 5 is neither a list of queues nor a dict"),
        ([5], "has 5, which is neither a Queue nor a name nor a dict"),
        ([{"exchange": "x"}], "which names no queue"),
        ([""], "is not a queue's name of 1 to 256 printable bytes"),
        (["a\n"], "is neither the name of a queue"),
        (["é" * 200], "1 to 256 printable bytes"),
        ({"a": Queue("b")}, "has 'b' under the name 'a'"),
        (["a", "a"], "task_queues: two queues have the name 'a'"),
        ([Queue("a"), Queue("b", alias="a")], "task_queues: two queues have the name 'a'"),
        (
            [Queue("a", Exchange("x")), Queue("b", Exchange("x", "topic"))],
            "task_queues: exchange 'x' is direct for one queue and topic for 'b'",
        ),
        ({"a": {"exchange_type": "topic"}}, "queue 'a': options of an exchange, but no name"),
        ({"a": {"no_such": 1}}, "Queue 'a': no_such=1: there is no such option"),
    ],
)
def test_what_declares_no_queue_is_refused_with_its_name(value, told):
    with pytest.raises(ImproperlyConfigured) as caught:
        conf(task_queues=value)

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"message_ttl": 60}, "message_ttl=60: messages expire by themselves; give tasks expires="),
        ({"exclusive": True}, "see worker_direct"),
        ({"no_ack": True}, "acks_late=False"),
        ({"max_length": 5}, "queues are not bounded"),
        ({"queue_arguments": {"x-dead-letter-exchange": "d"}}, "see `cardoon dead`"),
        ({"queue_arguments": {"x-odd": 1}}, "x-odd=1: there is no such option"),
        ({"on_declared": print}, "queues are not declared one by one"),
        ({"channel": object()}, "declarations belong to no connection"),
        ({"routing_key": 5}, "Queue 'q': routing_key=5 is not text"),
        ({"exchange": 5}, "Queue 'q': exchange=5 is not an Exchange or its name"),
        ({"bindings": [5]}, "Queue 'q': 5 is not a binding"),
    ],
)
def test_an_argument_that_would_promise_something_in_vain_is_refused(arguments, told):
    with pytest.raises(ImproperlyConfigured) as caught:
        Queue("q", **arguments)

    assert told in str(caught.value)


@pytest.mark.parametrize("kind", ["headers", "x-delayed-message", 5])
def test_an_exchange_of_an_unknown_type_is_refused(kind):
    with pytest.raises(ImproperlyConfigured, match=r"is unknown; use direct, topic, fanout"):
        Exchange("x", type=kind)


def test_what_changes_nothing_is_noted_and_what_is_so_anyway_is_not(caplog):
    caplog.set_level(logging.INFO, "cardoon")

    Exchange("x", durable=True, delivery_mode=2, auto_delete=False, arguments=None)
    Queue("q", durable=True, queue_arguments={}, exclusive=False)
    assert caplog.messages == []

    Queue("q", durable=False, auto_delete=True, queue_arguments={"x-max-priority": 10})
    assert [message.partition(" changes")[0] for message in caplog.messages] == [
        "Queue 'q': durable=False",
        "Queue 'q': auto_delete=True",
        "Queue 'q': x-max-priority=10",
    ]


def test_a_broadcast_queue_is_bound_to_a_fanout_of_its_name():
    news = Broadcast("news", alias="all")

    assert (news.name, news.exchange, news.alias) == ("news", Exchange("news", "fanout"), "all")
    assert news == Broadcast("news", "news", unique=True, auto_delete=True, alias="all")
    assert news != Queue("news", Exchange("news", "fanout"), alias="all")
    assert Broadcast("news", exchange="press").exchange == Exchange("press", "fanout")
    assert Broadcast("news", exchange=MEDIA, routing_key="a.#").routing_key == "a.#"
    assert Broadcast("news", bindings=[binding(MEDIA, "a.#")]).exchange is None


@pytest.mark.parametrize(
    "news",
    [
        Broadcast("news"),
        Broadcast("news", exchange="press", alias="all"),
        Broadcast("news", exchange=MEDIA, routing_key="a.#"),
        Broadcast("news", bindings=[binding(MEDIA, "a.#"), binding(None, "b")]),
    ],
)
def test_a_broadcast_queue_is_the_same_after_json(news):
    queues = (Queue("celery"), news)

    told = json.loads(json.dumps(tell_queues(queues)))

    assert parse_queues(told) == queues
    assert broadcast_names(parse_queues(told)) == {"news"}


def test_a_dict_may_say_that_a_queue_is_a_broadcast():
    [news, plain] = parse_queues({"news": {"broadcast": True}, "plain": {"broadcast": False}})

    assert (news, plain) == (Broadcast("news"), Queue("plain"))
    [press] = parse_queues({"press": {"broadcast": True, "exchange": "all"}})
    assert press.exchange == Exchange("all", "fanout")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "give it a name without '>'"),
        ({"name": ""}, "give it a name"),
        ({"name": "a>b"}, "Broadcast 'a>b': give it a name without '>'"),
        ({"name": "a", "queue": "shared"}, "queue='shared': each worker has a queue of its own"),
        ({"name": "a", "message_ttl": 5}, "messages expire by themselves"),
    ],
)
def test_a_broadcast_queue_that_would_be_none_is_refused(arguments, told):
    with pytest.raises(ImproperlyConfigured, match=told):
        Broadcast(**arguments)


def test_no_two_workers_and_broadcast_queues_share_a_queue():
    names = ["a", "a.b", "b"]
    hosts = ["w@h", ">w@h", "b>w@h", "a@h"]

    found = {private_queue(name, host) for name in names for host in hosts}

    assert len(found) == len(names) * len(hosts)
