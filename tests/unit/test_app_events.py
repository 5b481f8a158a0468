"""`app.events`, and the events of who sends: through the public API."""

from __future__ import annotations

import importlib
import json

import pytest

from cardoon.events import HIDDEN, TYPES, Event, State
from cardoon.events.kinds import COMMON
from cardoon.exceptions import InvalidTaskError
from tests.unit.stage import make_app


@pytest.fixture
def seen(app):
    """A receiver, and what it has seen."""
    found = []
    receiver = app.events.Receiver(handlers={"*": found.append})
    receiver.receive(0)

    def look(count):
        receiver.capture(limit=count)
        return found

    return look


def test_events_of_an_applications_own_are_sent_and_received(app, seen):
    with app.events.Dispatcher(hostname="web@host") as dispatcher:
        dispatcher.send("order-paid", amount=5)

    [got] = seen(1)

    assert (got["type"], got["amount"], got["hostname"]) == ("order-paid", 5, "web@host")


def test_the_default_dispatcher_has_a_name_of_its_own(app, seen):
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send("order-paid")

    [got] = seen(1)

    assert got["hostname"].startswith("gen")


def test_a_client_tells_what_it_sends_where_that_is_wanted(tmp_path):
    with make_app(tmp_path, task_send_sent_event=True) as app:
        receiver = app.events.Receiver()
        receiver.receive(0)
        app.send_task("shop.pay", ["secret"], task_id="t1", queue="mail")

        [got] = receiver.itercapture(limit=1)

    assert set(got) == {"type", *COMMON, *TYPES["task-sent"]}
    assert (got["type"], got["uuid"], got["name"]) == ("task-sent", "t1", "shop.pay")
    assert (got["queue"], got["args"], got["root_id"]) == ("mail", HIDDEN, "t1")
    assert "secret" not in json.dumps(got)


def test_without_that_it_tells_nothing_and_has_nobody_who_would(app):
    app.send_task("shop.pay", [1])

    assert app.sender._events is None


def test_a_task_has_no_events(app):
    class Link:
        pass

    app.attach(Link())

    with pytest.raises(InvalidTaskError, match="clients and workers send and receive them"):
        app.events.Receiver()


def test_an_event_is_a_dict():
    made = Event("x-y", {"a": 1}, b=2)

    assert made == {"a": 1, "b": 2, "type": "x-y", "timestamp": made["timestamp"]}
    assert Event("x", timestamp=5)["timestamp"] == 5


def test_a_state_is_made_with_its_bounds(app):
    assert isinstance(app.events.State(max_tasks_in_memory=5), State)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("celery.events", ["Event", "EventDispatcher", "EventReceiver", "group_from"]),
        ("celery.events.state", ["State", "Task", "Worker"]),
        ("celery.events.snapshot", ["Polaroid"]),
        ("celery.events.receiver", ["EventReceiver"]),
        ("celery.events.dispatcher", ["EventDispatcher"]),
    ],
)
def test_celerys_names_are_here(module, names):
    celery = pytest.importorskip(module)
    ours = importlib.import_module(module.replace("celery", "cardoon", 1))

    for name in names:
        assert hasattr(celery, name)
        assert hasattr(ours, name)
