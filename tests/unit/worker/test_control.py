"""Commands of your own for remote control: registered, and run where the app is."""

from __future__ import annotations

import pytest

from cardoon.exceptions import ImproperlyConfigured
from cardoon.worker.control import (
    ControlState,
    Panel,
    control_command,
    inspect_command,
    run_command,
)

STATE = ControlState("w1@here", "the app")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(Panel, "data", {})
    monkeypatch.setattr(Panel, "meta", {})


def test_a_command_is_kept_with_what_was_said_of_it():
    @control_command(args=[("n", int)], signature="[N=1]", alias="grow")
    def increase(state, n=1):
        """Take more."""
        return {"ok": n}

    assert increase(None, 2) == {"ok": 2}
    assert Panel.data == {"increase": increase, "grow": increase}
    info = Panel.meta["increase"]
    assert (info.type, info.help, info.signature) == ("control", "Take more.", "[N=1]")


def test_one_may_be_registered_without_arguments_and_under_a_name():
    @inspect_command
    def colour(state):
        return "red"

    @Panel.register(name="size", type="inspect")
    def _size(state):
        return 3

    assert set(Panel.data) == {"colour", "size"}
    assert {one.type for one in Panel.meta.values()} == {"inspect"}


@pytest.mark.parametrize("name", ["ping", "shutdown", "memdump"])
def test_the_names_of_cardoons_own_are_taken(name):
    with pytest.raises(ImproperlyConfigured, match="choose another name"):
        control_command(name=name)(lambda state: None)

    assert Panel.data == {}


def test_it_is_called_with_its_worker_and_its_arguments():
    @inspect_command
    def where(state, *, room):
        return {"host": state.hostname, "app": state.app, "room": room}

    assert run_command("where", {"room": 7}, STATE) == {
        "host": "w1@here",
        "app": "the app",
        "room": 7,
    }


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "where: missing a required argument: 'room'"),
        ({"room": 1, "floor": 2}, "where: got an unexpected keyword argument 'floor'"),
        ({"room": 0}, "ValueError: no such room"),
        ({"room": -1}, "AttributeError: state.consumer: commands of yours run beside"),
    ],
)
def test_what_goes_wrong_is_its_answer(arguments, error):
    @inspect_command
    def where(state, *, room):
        if room < 0:
            return state.consumer
        raise ValueError("no such room")

    assert run_command("where", arguments, STATE)["error"].startswith(error)


def test_one_that_nobody_has_registered_is_an_error():
    assert "no command 'absent'" in run_command("absent", {}, STATE)["error"]
