"""`cardoon dead` and `cardoon quarantine`."""

from __future__ import annotations

import pytest

from cardoon import states


@pytest.fixture(params=["dead", "quarantine"])
def place(request):
    return request.param


@pytest.fixture
def keep(project, place):
    """Puts a message there, for a reason; returns its id."""
    return project.dead if place == "dead" else project.refused


RESTORE = {"dead": "retry", "quarantine": "release"}


def numbers(project, place):
    return [str(one["number"]) for one in project.json(place, "list", "--json")]


def test_nothing_kept_is_an_empty_list(project, place):
    assert " ".join(project.answer(place, "list").split()) == "number when (UTC) queue id reason"
    assert project.json(place, "list", "--json") == []


def test_what_is_kept_is_listed_for_people(project, place, keep):
    ids = [keep("first"), keep("second")]

    _, *rows = project.answer(place, "list").splitlines()

    assert [row.split()[4] for row in rows] == ids
    assert ["first" in rows[0], "second" in rows[1]] == [True, True]
    assert [row.split()[3] for row in rows] == ["celery", "celery"]


def test_what_is_kept_is_listed_for_programs(project, place, keep):
    ids = [keep("first"), keep("second")]

    first, second = project.json(place, "list", "--json")

    assert [first["id"], second["id"]] == ids
    assert (first["queue"], first["reason"], first["attempt"]) == ("celery", "first", 1)
    assert (first["crashes"], first["retries"]) == (0, 0)
    assert first["bytes"] > 100
    assert "frame" not in first


def test_a_list_is_no_longer_than_asked_for(project, place, keep):
    first, *_ = [keep(), keep(), keep()]

    assert [one["id"] for one in project.json(place, "list", "--limit", "1", "--json")] == [first]


def test_the_two_places_are_two(project):
    dead, refused = project.dead(), project.refused()

    assert [one["id"] for one in project.json("dead", "list", "--json")] == [dead]
    assert [one["id"] for one in project.json("quarantine", "list", "--json")] == [refused]
    assert project.answer("quarantine", "show", *numbers(project, "quarantine"))
    assert project.run("quarantine", "show", *numbers(project, "dead")).exit_code == 1


def test_a_reason_of_two_parts_is_shown_whole(project):
    project.refused("unknown-signer", "no certificate\n\x1b[2Jin the store")

    _, row = project.answer("quarantine", "list").splitlines()

    assert row.endswith("unknown-signer: no certificate\\x0a\\x1b[2Jin the store")


def test_one_is_shown_with_its_frame(project, place, keep):
    keep()
    wanted = keep("the second")
    number = numbers(project, place)[1]

    shown = project.json(place, "show", number)

    assert (shown["id"], shown["reason"]) == (wanted, "the second")
    frame = bytes.fromhex(shown["frame"])
    assert len(frame) == shown["bytes"]
    assert wanted.encode() in frame


@pytest.mark.parametrize("number", ["99", "1", "0"])
def test_a_number_that_is_not_there_is_named_with_the_remedy(project, place, keep, number):
    keep()
    keep()
    project.answer(place, "purge", numbers(project, place)[0])
    assert number not in numbers(project, place)

    done = project.run(place, "show", number)

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {place} show: there is no number {number}; `cardoon {place} list` shows them\n"
    )


def test_what_is_put_back_is_delivered_again(project, place, keep):
    ids = [keep(), keep()]
    first, second = numbers(project, place)

    assert project.answer(place, RESTORE[place], first, second, "99") == "put back 2 messages\n"

    assert project.json(place, "list", "--json") == []
    assert [delivery.id for delivery in project.hands.take(limit=9)] == ids


def test_a_refused_result_is_not_put_in_a_queue(project):
    broker = project.hands.broker
    broker.quarantine(queue="results", id="a", frame=b"x", reason="malformed", detail="")
    [number] = numbers(project, "quarantine")

    done = project.run("quarantine", "release", number)

    assert (done.exit_code, done.stdout) == (1, "")
    assert f"number {number} is a result, which no worker takes from a queue" in done.stderr
    assert numbers(project, "quarantine") == [number]


def test_a_message_of_celerys_is_not_put_back(project):
    project.hands.broker.quarantine(
        queue="celery:old", id="one", frame=b"{}", reason="denied", detail="outside of the fence"
    )
    [number] = numbers(project, "quarantine")

    done = project.run("quarantine", "release", number)

    assert (done.exit_code, done.stdout) == (1, "")
    assert f"number {number} is a message of Celery's" in done.stderr
    assert numbers(project, "quarantine") == [number]


def test_without_a_number_nothing_is_put_back(project, place):
    assert "Missing argument 'NUMBERS...'" in project.usage(place, RESTORE[place])


def test_a_dead_letter_that_is_put_back_may_end_otherwise(project):
    task_id = project.dead()
    result = project.app.AsyncResult(task_id)
    assert project.app.AsyncResult(task_id).state == states.FAILURE

    project.answer("dead", "retry", *numbers(project, "dead"))
    assert result.state == states.PENDING
    [delivery] = project.hands.take()
    project.hands.succeed(delivery, 7)

    assert result.get(timeout=5) == 7


def test_of_what_is_not_put_back_the_result_stays(project):
    ids = [project.dead(), project.dead(), project.dead()]
    first, _, third = numbers(project, "dead")
    project.answer("dead", "purge", first)

    assert project.answer("dead", "retry", first, third) == "put back 1 messages\n"

    found = [project.app.AsyncResult(task_id).state for task_id in ids]
    assert found == [states.FAILURE, states.FAILURE, states.PENDING]


def test_those_that_are_named_are_deleted(project, place, keep):
    keep()
    left = keep()

    assert project.answer(place, "purge", numbers(project, place)[0]) == "deleted 1 messages\n"

    assert [one["id"] for one in project.json(place, "list", "--json")] == [left]


def test_to_delete_all_is_asked_first(project, place, keep):
    keep()
    keep()

    refused = project.run(place, "purge", input="n\n")
    assert (refused.exit_code, len(numbers(project, place))) == (1, 2)
    told = project.answer(place, "purge", input="y\n")

    assert told.endswith("deleted 2 messages\n")
    assert numbers(project, place) == []


def test_to_delete_all_by_force_is_not_asked(project, place, keep):
    keep()

    assert project.answer(place, "purge", "-f") == "deleted 1 messages\n"
