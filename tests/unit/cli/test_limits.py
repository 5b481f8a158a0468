"""`cardoon limits`, and what `cardoon queues` tells of them."""

from __future__ import annotations

import pytest


@pytest.fixture
def full(project):
    """One task runs, three wait for it, and one waits for its rate."""
    for _ in range(4):
        project.send(1, concurrency_limit=1)
    for _ in range(2):
        project.send(2, queue="mail", cluster_rate_limit="10/h", limit_key="n", kwargs={"n": 7})
    project.hands.take()
    project.hands.broker.receive(["mail"], limit=9, lease=30, timeout=0)
    return project


def test_what_holds_messages_back_is_shown_for_people(full):
    head, whole, keyed = full.answer("limits").splitlines()
    name = full.json("limits", "--json")[0]["key"]

    assert head.split() == ["key", "waiting", "running", "rate", "next"]
    assert whole.split() == [name, "3", "1", "of", "1", "-", "-"]
    assert keyed.split()[0].startswith(f"{name}/")
    assert keyed.split()[1:4] == ["1", "-", "10/h"]
    assert keyed.split()[4].endswith("s")


def test_what_holds_messages_back_is_shown_for_programs(full):
    whole, keyed = full.json("limits", "--json")

    assert {**whole, "key": ""} == {
        "key": "",
        "most": 1,
        "gap": 0.0,
        "running": 1,
        "waiting": 3,
        "opens_in": None,
    }
    assert (keyed["gap"], keyed["waiting"]) == (360.0, 1)
    assert 300 < keyed["opens_in"] <= 360
    assert full.json("limits", "--json", "--limit", "1")[0]["key"] == whole["key"]


def test_what_is_held_back_is_not_ready(full):
    celery, mail = full.json("queues", "--json")

    assert (celery["ready"], celery["limited"], celery["leased"]) == (0, 3, 1)
    assert (mail["ready"], mail["limited"], mail["oldest"]) == (0, 1, None)


@pytest.mark.parametrize(
    ("rate", "shown"), [("7/s", "7/s"), ("100/m", "100/m"), (1 / 30, "2/m"), ("2.5/h", "2.5/h")]
)
def test_a_rate_is_shown_in_a_unit_that_can_be_read(project, rate, shown):
    for _ in range(2):
        project.send(1, cluster_rate_limit=rate)
    project.hands.take()

    assert project.answer("limits").splitlines()[1].split()[3] == shown


def test_where_nothing_waits_there_is_nothing_to_show(project):
    project.send(1, concurrency_limit=1)

    assert project.json("limits", "--json") == []
