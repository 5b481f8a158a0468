"""Commands of your own for remote control: kept, and said not to be run."""

from __future__ import annotations

import logging

import pytest

from cardoon.worker.control import Panel, control_command, inspect_command


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(Panel, "data", {})
    monkeypatch.setattr(Panel, "meta", {})


def test_a_command_is_kept_and_the_log_says_that_nothing_runs_it(caplog):
    with caplog.at_level(logging.WARNING, "cardoon"):

        @control_command(args=[("n", int)], signature="[N=1]", alias="grow")
        def increase(state, n=1):
            """Take more."""
            return {"ok": n}

    assert increase(None, 2) == {"ok": 2}
    assert Panel.data == {"increase": increase, "grow": increase}
    info = Panel.meta["increase"]
    assert (info.type, info.help, info.signature) == ("control", "Take more.", "[N=1]")
    assert "'increase' is kept, but this version's worker runs no commands of yours" in caplog.text


def test_one_may_be_registered_without_arguments_and_under_a_name(caplog):
    @inspect_command
    def colour(state):
        return "red"

    @Panel.register(name="size", type="inspect")
    def _size(state):
        return 3

    assert set(Panel.data) == {"colour", "size"}
    assert {one.type for one in Panel.meta.values()} == {"inspect"}
