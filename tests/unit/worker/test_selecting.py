"""Which queues a worker consumes."""

from __future__ import annotations

import json

import pytest

from cardoon.config import Conf
from cardoon.exceptions import ImproperlyConfigured, QueueNotFound
from cardoon.queues import Broadcast, Exchange, Queue
from cardoon.worker.selecting import select_queues, split_queues


def select(*wanted, excluded=(), **settings):
    conf = Conf({})
    conf.update(settings)
    return select_queues(conf.settings(), wanted=wanted, excluded=excluded, hostname="w1@host")


DECLARED = {"task_queues": ["celery", "mail", Queue("videos", alias="films")]}


@pytest.mark.parametrize(
    ("wanted", "excluded", "settings", "found"),
    [
        ((), (), {}, ("celery",)),
        ((), (), {"task_default_queue": "usual"}, ("usual",)),
        ((), (), DECLARED, ("celery", "mail", "videos")),
        (("mail",), (), DECLARED, ("mail",)),
        (("a", "b", "a"), (), {}, ("a", "b")),
        (("films", "videos"), (), DECLARED, ("videos",)),
        (("late",), (), DECLARED, ("late",)),
        ((), ("mail",), DECLARED, ("celery", "videos")),
        (("a", "b"), ("b",), {}, ("a",)),
        ((), ("films",), DECLARED, ("celery", "mail")),
        ((), (), {"worker_direct": True}, ("celery", "w1@host.dq")),
        (("a",), ("celery",), {"worker_direct": True}, ("a", "w1@host.dq")),
        ((), ("celery",), {"worker_direct": True}, ("w1@host.dq",)),
    ],
)
def test_a_worker_consumes(wanted, excluded, settings, found):
    assert select(*wanted, excluded=excluded, **settings) == found


def test_a_queue_that_must_be_declared_and_is_not_is_named():
    with pytest.raises(
        QueueNotFound, match=r"queue 'mial' .* has 'celery', 'mail', 'videos'.*'mail'\?"
    ):
        select("mial", task_create_missing_queues=False, **DECLARED)


def test_none_left_is_an_error():
    with pytest.raises(ImproperlyConfigured, match="-X excludes every queue that -Q names"):
        select("a", excluded=("a",))
    with pytest.raises(ImproperlyConfigured, match="every queue that the settings declare"):
        select(excluded=("celery",))


def test_what_looks_like_a_mistake_is_told(caplog):
    select(excluded=("mial",), **DECLARED)
    select(task_queues=["mail"])
    select("mail", task_queues=["mail"])

    first, second = caplog.messages
    assert first.startswith("-X mial: this worker would not have consumed it anyway")
    assert second.startswith("task_queues does not have 'celery', the task_default_queue")


def test_broadcast_queues_are_told_apart_by_the_settings():
    conf = Conf({})
    conf.update(task_queues=["celery", Broadcast("news", alias="all"), Broadcast("weather")])
    settings = conf.settings()
    names = select_queues(settings, wanted=("all", "other"), excluded=(), hostname="w1@host")

    assert names == ("news", "other")
    assert split_queues(settings, names, hostname="w1@host") == (
        ("other",),
        {"news>w1@host": "news"},
    )


def test_the_worker_is_told_of_queues_in_json_and_of_no_code():
    told = Conf({})
    told.update(
        task_queues=[Queue("a", Exchange("x", "topic"), "a.#"), Broadcast("news")],
        task_routes=[lambda *args, **kw: None],
        task_annotations=[{"*": {"on_failure": print}}],
        worker_direct=True,
    )

    heard = Conf({})
    heard.update(json.loads(json.dumps(told.tell())))

    assert heard.task_queues == told.task_queues
    assert heard.worker_direct
    assert set(heard.explicit) == {"task_queues", "worker_direct"}
