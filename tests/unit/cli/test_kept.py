"""`cardoon dead` and `cardoon quarantine`."""

from __future__ import annotations

import json

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
    if place == "quarantine":
        assert rows.pop() == "2 of at most 10000 messages, 0.0 of 256.0 MiB"

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

    _, row, _ = project.answer("quarantine", "list").splitlines()

    assert row.endswith("unknown-signer: no certificate\\x0a\\x1b[2Jin the store")


def test_one_is_shown_with_its_frame(project, place, keep):
    keep()
    wanted = keep("the second")
    number = numbers(project, place)[1]

    shown = project.json(place, "show", number, "--json")

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
    said = {"dead": "Missing argument 'NUMBERS...'", "quarantine": "name numbers, or a --reason"}

    assert said[place] in project.usage(place, RESTORE[place])


def test_all_of_a_reason_are_released(project):
    ids = [project.refused(), project.refused("malformed"), project.refused()]

    said = project.answer("quarantine", "release", "--reason", "unknown-signer")

    assert said == "put back 2 messages\n"
    assert [one["id"] for one in project.json("quarantine", "list", "--json")] == [ids[1]]


def test_what_may_have_run_before_is_released_by_a_deliberate_act(project):
    task_id = project.refused("before-epoch", "it may have run before")
    [number] = numbers(project, "quarantine")
    assert "and 1 that go only when they are purged" in project.answer("quarantine", "list")

    for chosen in ([number], ["--reason", "before-epoch"]):
        done = project.run("quarantine", "release", *chosen)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "or have it run with --unsafe-accept-old" in done.stderr
    assert numbers(project, "quarantine") == [number]
    said = project.answer("quarantine", "release", "--unsafe-accept-old", number)

    assert said == "put back 1 messages\n"
    assert [delivery.id for delivery in project.hands.take()] == [task_id]
    trail = (project.state / "audit.jsonl").read_text()
    [event] = map(json.loads, trail.splitlines())
    assert (event["event"], event["source"]) == ("operator.accept_old", "operator")
    assert (event["message"], event["number"]) == (task_id, int(number))


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


def test_a_list_is_told_by_reason_queue_and_time(project, place, keep):
    first, second = keep("one"), keep("two")

    def ids(*options):
        return [one["id"] for one in project.json(place, "list", "--json", *options)]

    assert ids("--reason", "two") == [second]
    assert ids("--queue", "celery") == [first, second]
    assert ids("--queue", "other") == []
    assert ids("--since", "1h") == [first, second]
    assert ids("--since", "2999-01-01") == []
    assert ids("--since", "2001-01-01T12:00+02:00", "--reason", "one") == [first]


@pytest.mark.parametrize("text", ["yesterday", "5x", "h", "²h", "٣h", "99999999999999999999d"])
def test_what_is_no_time_is_named(project, place, text):
    assert "is no time; write" in project.usage(place, "list", "--since", text)


def test_a_long_list_is_read_in_pages(project, place, keep):
    wanted = [keep() for _ in range(3)]

    done = project.run(place, "list", "--limit", "2")
    *_, last = project.json(place, "list", "--limit", "2", "--json")
    rest = project.json(place, "list", "--after", str(last["number"]), "--json")

    assert done.stderr == f"there are more; --after {last['number']} shows them\n"
    assert [one["id"] for one in rest] == wanted[2:]
    assert project.run(place, "list", "--limit", "3").stderr == ""


def test_filters_look_through_more_than_one_page(project):
    broker = project.hands.broker
    for number in range(230):
        reason = "odd" if number in (5, 220) else "malformed"
        broker.quarantine(queue="control", id="", frame=b"x", reason=reason, detail="")

    assert len(project.json("quarantine", "list", "--reason", "odd", "--json")) == 2


def test_a_refused_message_is_judged_anew(project):
    """Its certificate is there now; whatever the reason was, it is accepted today."""
    project.refused("unknown-signer", "no certificate in the store")
    [number] = numbers(project, "quarantine")

    told = project.answer("quarantine", "show", number)

    assert "unknown-signer: no certificate in the store" in told
    assert "(2) signature passed" in told
    assert told.endswith(
        f"accepted\nnothing stands in its way any more: `cardoon quarantine release {number}`\n"
    )


def test_what_still_stands_in_the_way_is_told_with_the_remedy(project):
    project.refused()
    [number] = numbers(project, "quarantine")
    store = project.state / "trusted" / "worker.pem"
    project.write_tasks()
    with (project.folder / "tasks.py").open("a") as file:
        file.write(f"\napp.conf.security_cert_store = {str(store)!r}\n")

    told = project.answer("-A", "tasks", "quarantine", "show", number)
    as_json = project.json("-A", "tasks", "quarantine", "show", number, "--json")

    assert "refused: unknown-signer" in told
    assert "why:    the certificate sha256:" in told
    assert f"put it into security_cert_store ({store})" in told
    assert f"then `cardoon quarantine release {number}`" in told
    assert as_json["judgement"]["reason"] == "unknown-signer"
    assert as_json["judgement"]["claims"] is None


def test_a_copy_of_what_was_carried_out_is_called_a_replay(project):
    project.send(1)
    [delivery] = project.hands.take()
    message = project.hands.open(delivery)
    project.hands.broker.finish([message.nonce])
    project.hands.refuse(delivery, "replayed", "it was carried out before")
    [number] = numbers(project, "quarantine")

    told = project.json("quarantine", "show", number, "--json")["judgement"]

    assert told["reason"] == "replayed"
    assert [step["check"] for step in told["steps"] if step["verdict"] == "failed"] == ["replay"]
    assert "purge it" in told["advice"][0]["remedy"]


def test_a_message_under_another_id_is_seen(project):
    project.send(1)
    [delivery] = project.hands.take()
    project.hands.broker.quarantine(
        queue="celery", id="stolen", frame=delivery.frame, reason="wrong-id", detail=""
    )
    [number] = numbers(project, "quarantine")

    told = project.json("quarantine", "show", number, "--json")["judgement"]

    assert told["reason"] == "wrong-id"


def test_what_came_from_elsewhere_is_judged_as_what_it_is(project):
    project.send(1)
    [delivery] = project.hands.take()
    sealed = project.hands.seal_for(delivery, {"result": 3})
    broker = project.hands.broker
    result = {"queue": "results", "id": sealed.task_id, "frame": sealed.frame}
    broker.quarantine(**result, reason="unknown-signer", detail="")
    broker.quarantine(queue="control", id="", frame=sealed.frame, reason="odd", detail="")
    broker.quarantine(queue="celery:old", id="x", frame=b"{}", reason="denied", detail="fence")

    first, second, third = (
        project.json("quarantine", "show", number, "--json")
        for number in numbers(project, "quarantine")
    )

    assert first["judgement"]["accepted"]
    assert second["judgement"]["reason"] == "wrong-kind"
    assert third["judgement"] is None
    told = project.answer("quarantine", "show", str(third["number"]))
    assert "not judged: it is one of Celery's" in told


def test_hostile_bytes_are_shown_as_harmless_text(project):
    project.hands.broker.quarantine(
        queue="q\x1b[2J", id="\x1b]0;", frame=b"\xd2\x84\x1b[2J", reason="odd\n", detail="\x1b[31m"
    )
    [number] = numbers(project, "quarantine")

    told = project.answer("quarantine", "show", number, "--body")

    assert "\x1b" not in told
    assert "refused: malformed" in told
    assert "body: not shown" in told


def test_a_message_is_shown_where_nobody_can_judge_it(project):
    project.refused()
    [number] = numbers(project, "quarantine")
    project.write_tasks()
    with (project.folder / "tasks.py").open("a") as file:
        file.write('\napp.conf.security_cert_store = "/nowhere/*.pem"\n')

    told = project.answer("-A", "tasks", "quarantine", "show", number)

    assert "unknown-signer" in told
    assert "not judged: trust store" in told


def test_the_body_of_a_kept_message_is_shown_only_if_asked_for(project, place, keep):
    keep()
    [number] = numbers(project, place)

    without = project.answer(place, "show", number)
    shown = project.answer(place, "show", number, "--body")

    assert "body:" not in without
    assert "body: [[1, 2], {}" in shown
