"""`cardoon queues`, `cardoon purge`, `cardoon pause` and `cardoon resume`."""

from __future__ import annotations

import pytest


@pytest.fixture
def full(project):
    """Two queues: three messages ready, one scheduled, one on loan."""
    project.send(0)
    project.hands.take()
    for number in range(2):
        project.send(number)
    project.send(3, countdown=3600)
    project.send(4, queue="mail")
    return project


def test_queues_are_shown_for_people(full):
    head, celery, mail = full.answer("queues").splitlines()

    assert head.split() == [
        *("queue", "ready", "limited", "scheduled", "dormant", "running", "oldest", "subscribers")
    ]
    assert celery.split()[:6] == ["celery", "2", "0", "1", "0", "1"]
    assert mail.split()[:6] == ["mail", "1", "0", "0", "0", "0"]
    assert mail.split()[6].endswith("s")


def test_queues_are_shown_for_programs(full):
    celery, mail = full.json("queues", "--json")

    assert celery["oldest"] >= 0
    assert {**celery, "oldest": 0} == {
        "queue": "celery",
        "ready": 2,
        "limited": 0,
        "scheduled": 1,
        "dormant": 0,
        "leased": 1,
        "oldest": 0,
        "paused": False,
        "subscribers": 0,
    }
    assert (mail["queue"], mail["ready"]) == ("mail", 1)


def test_a_queue_in_which_nothing_waits_has_no_oldest(project):
    assert project.hands.take() == []

    assert project.answer("queues").splitlines()[1].split() == [
        "celery",
        "0",
        "0",
        "0",
        "0",
        "0",
        "-",
        "-",
    ]


def test_a_new_project_has_no_queues(project):
    assert project.json("queues", "--json") == []


def test_purging_asks_first(full):
    told = full.answer("purge", input="y\n")

    assert "Delete all that waits in celery, mail? [y/N]" in told
    assert told.endswith("deleted 4 messages\n")
    assert [one["leased"] for one in full.json("queues", "--json")] == [1]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_whoever_does_not_agree_keeps_everything(full, answer):
    done = full.run("purge", input=answer)

    assert done.exit_code == 1
    assert "Aborted" in done.stderr
    assert [one["ready"] for one in full.json("queues", "--json")] == [2, 1]


def test_only_the_queues_that_are_named_are_purged(full):
    assert full.answer("purge", "-f", "-Q", "mail,other") == "deleted 1 messages\n"
    assert full.json("queues", "--json")[0]["ready"] == 2


def test_an_unknown_queue_holds_nothing_to_delete(full):
    assert full.answer("purge", "-f", "-Q", "mial") == "deleted 0 messages\n"
    assert [one["ready"] for one in full.json("queues", "--json")] == [2, 1]


def test_a_queue_that_rests_lends_nothing_until_it_is_resumed(full):
    told = full.answer("pause", "celery", "later")

    assert told == "paused celery, later; `cardoon resume` lets workers go on\n"
    assert full.hands.take() == []
    assert full.answer("queues").splitlines()[1].startswith("celery (paused)")
    assert [one["queue"] for one in full.json("queues", "--json") if one["paused"]] == [
        "celery",
        "later",
    ]

    assert full.answer("resume", "celery", "later") == "resumed celery, later\n"
    assert len(full.hands.take()) == 1


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_queue_must_be_named(project, command):
    assert project.run(command).exit_code == 2
