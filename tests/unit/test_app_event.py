"""Events of an app's life."""

from __future__ import annotations

import logging

from cardoon.app_event import AppEvent


def recorder(told):
    def receive(sender, **named):
        told.append((sender, named))
        return len(told)

    return receive


def test_receivers_are_told_in_the_order_in_which_they_were_connected():
    event, told = AppEvent("app.born"), []

    @event.connect
    def first(sender, **named):
        told.append(1)

    @event.connect(weak=False)
    def second(sender, signal, colour):
        told.append((sender, signal, colour))
        return "seen"

    found = event.send(sender="app", colour="red")

    assert told == [1, ("app", event, "red")]
    assert found == [(first, None), (second, "seen")]
    assert event.happened


def test_what_happens_once_is_told_once():
    event, told = AppEvent("app.born"), []
    event.connect(recorder(told))

    event.send(sender="app")

    assert event.send(sender="app") == []
    assert len(told) == 1


def test_who_connects_late_is_told_at_once():
    event, told = AppEvent("app.born"), []
    event.send(sender="app", colour="red")

    event.connect(recorder(told))

    assert told == [("app", {"signal": event, "colour": "red"})]


def test_what_happens_often_is_told_to_those_who_are_there():
    event, told = AppEvent("app.forked", once=False), []
    event.send(sender="app")

    event.connect(recorder(told))
    event.send(sender="app")
    event.send(sender="app")

    assert len(told) == 2
    assert not event.happened


def test_a_receiver_is_told_once_however_often_it_connects():
    event, told = AppEvent("app.born"), []
    receive = recorder(told)

    event.connect(receive)
    event.connect(receive)
    event.connect(recorder(told), dispatch_uid="mine")
    event.connect(recorder(told), dispatch_uid="mine")

    assert len(event.send(sender="app")) == 2
    assert repr(event) == "<AppEvent: app.born receivers=2>"


def test_who_disconnects_is_told_no_more():
    event, told = AppEvent("app.born"), []
    receive = recorder(told)
    event.connect(receive)
    event.connect(recorder(told), dispatch_uid="mine")

    assert event.disconnect(receive)
    assert event.disconnect(dispatch_uid="mine")
    assert not event.disconnect(receive)

    assert event.send(sender="app") == []
    assert told == []


def test_a_receiver_that_raises_is_logged_and_keeps_no_other_from_being_told(caplog):
    event, told = AppEvent("app.born"), []

    @event.connect
    def broken(sender, **named):
        raise ValueError("my mistake")

    event.connect(recorder(told))

    with caplog.at_level(logging.ERROR, "cardoon"):
        [(_, error), _] = event.send(sender="app")

    assert isinstance(error, ValueError)
    assert len(told) == 1
    assert "app.born: receiver" in caplog.text
    assert "my mistake" in caplog.text
