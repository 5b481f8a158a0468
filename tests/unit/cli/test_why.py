"""`cardoon why`: where a task is, and why it does not run."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from cardoon import Cardoon, chain, chord, group
from cardoon.broker import (
    Ack,
    Cause,
    Completion,
    DeadLetter,
    LimitUse,
    Outcome,
    Outgoing,
    QueueDepth,
    Requeue,
)
from cardoon.cli.inquiry import Ending, Findings, Predecessor
from cardoon.cli.reasons import Outlook, answer
from cardoon.lookup import Place, Whereabouts
from cardoon.sender import Report

ROOT = Path(__file__).parents[3]
NOW = 1_790_000_000.0


@pytest.fixture
def ask(project):
    """What is told of an id: the exit code, and the answer."""

    def ask(task_id, *options):
        done = project.run(*options, "why", task_id, "--json")
        assert done.stderr == "", done.output
        return done.exit_code, json.loads(done.stdout)

    return ask


def text(told):
    return "\n".join((*(one["text"] for one in told["because"]), *told["remedies"]))


def codes(told):
    return [one["code"] for one in told["because"]]


def test_of_an_id_that_nobody_knows_it_says_where_it_looked_and_for_how_long_results_stay(ask):
    code, told = ask("no-such-id")

    assert (code, told["state"], told["outlook"]) == (2, "unknown", "unknown")
    assert "no queue, no dead letter, no quarantine and no result has this id" in text(told)
    assert "24 hours (result_expires)" in text(told)


def test_it_is_told_for_people(project):
    sent = project.send(1)

    done = project.run("why", sent.id)

    head, *lines = done.stdout.splitlines()
    assert head == f"ready  tasks.add[{sent.id}]"
    assert lines[0].startswith("  it is due since ")
    assert lines[1] == "  it is the next of its queue"


def test_of_one_that_is_ready_what_goes_first_is_counted(project, ask):
    project.send(1)
    project.send(2, priority=9)
    sent = project.send(3, priority=4)

    code, told = ask(sent.id)

    assert (code, told["state"], told["task"]) == (0, "ready", "tasks.add")
    assert "about 1 message of the queue go first" in text(told)
    assert (told["message"]["ahead"], told["message"]["priority"]) == (1, 4)


def test_a_queue_that_rests_is_named_with_the_remedy(project, ask):
    sent = project.send(1)
    project.answer("pause", "celery")

    code, told = ask(sent.id)

    assert (code, told["outlook"], told["message"]["paused"]) == (1, "stuck", True)
    assert codes(told) == ["due", "next", "paused"]
    assert "queue celery is paused" in text(told)
    assert "`cardoon resume celery`" in text(told)


def test_a_limit_that_holds_it_back_is_named(project, ask):
    project.send(1, concurrency_limit=1)
    sent = project.send(2, concurrency_limit=1)
    project.hands.take()

    code, told = ask(sent.id)

    assert (code, told["state"]) == (0, "ready")
    assert codes(told)[:2] == ["due", "limited"]
    assert "holds it back: 1 of 1 run, 1 wait" in text(told)
    assert told["message"]["limit"] in text(told)


def test_a_unique_task_tells_the_key_that_it_holds(project, ask):
    sent = project.send(kwargs={"x": 1, "y": 2}, unique=True)

    assert ask(sent.id)[1]["message"]["unique"]


def test_of_one_that_is_scheduled_the_time_is_told(project, ask):
    sent = project.send(1, countdown=8000)

    code, told = ask(sent.id)

    assert (code, told["state"]) == (0, "scheduled")
    assert "its sender wants it to run" in text(told)
    assert "(in 2 hours) (eta or countdown)" in text(told)


def test_of_one_that_is_retried_it_is_told_how_often_and_when_next(project, ask):
    sent = project.send(1)
    [delivery] = project.hands.take()
    project.hands.broker.settle([Requeue(delivery, Cause.RETRIED, 600.0)])

    code, told = ask(sent.id)

    assert (code, told["state"]) == (0, "scheduled")
    assert codes(told) == ["retried", "runs-again"]
    assert "its task asked to run again once" in text(told)
    assert "it runs again" in text(told)
    assert "(in 10 minutes)" in text(told)


def test_of_one_whose_process_was_lost_that_is_told(project, ask):
    sent = project.send(1)
    [delivery] = project.hands.take()
    project.hands.broker.settle([Requeue(delivery, Cause.CRASHED, 60.0)])

    _, told = ask(sent.id)

    assert "the process that held it was lost once" in text(told)
    assert told["message"]["crashes"] == 1


def test_of_one_that_is_leased_it_is_told_by_whom_and_for_how_long(project, ask):
    sent = project.send(1)
    [delivery] = project.hands.take()

    before = ask(sent.id)
    project.hands.tell(delivery, "STARTED", {"result": {"pid": 1}})
    code, told = ask(sent.id)

    assert before[1]["message"]["holder"].startswith("process ")
    assert (code, told["state"]) == (0, "leased")
    assert "worker hands@here (process " in text(told)
    assert "from queue celery, attempt 1" in text(told)
    assert "its state is STARTED" in text(told)
    assert "the lease holds for another" in text(told)


def test_of_one_whose_worker_died_it_is_told_that_nobody_took_it_back(project, ask):
    sent = project.send(1)
    broker = project.hands.broker
    assert broker.receive(["celery"], limit=1, lease=-60.0, timeout=0)

    code, told = ask(sent.id)

    assert (code, told["state"]) == (1, "leased")
    assert "the lease ran out" in text(told)
    assert "start a worker: `cardoon worker -Q celery`" in text(told)


def test_of_one_that_waits_it_is_told_for_whom_and_where_those_are(project, ask):
    app = project.app
    add = app.signature("tasks.add", (1, 2))
    last = chain(add, app.signature("tasks.add", (3,)), app=app).apply_async()

    code, told = ask(last.id)

    assert (code, told["state"]) == (0, "dormant")
    assert "it waits for 1 task to end" in text(told)
    assert f"{last.parent.id} is ready to run" in text(told)
    assert f"`cardoon why {last.parent.id}`" in text(told)
    assert told["predecessors"] == [{"id": last.parent.id, "place": "ready", "state": None}]


def test_of_one_that_waits_for_a_dead_letter_that_is_the_matter(project, ask):
    app = project.app
    members = [app.signature("tasks.add", (number, 2)) for number in range(3)]
    last = chord(group(members, app=app), app.signature("tasks.sum"), app=app).apply_async()
    [delivery] = project.hands.take()
    project.hands.broker.settle([DeadLetter(delivery, "worn out")])

    code, told = ask(last.id)

    assert (code, told["outlook"]) == (1, "stuck")
    assert "it waits for 3 tasks to end" in text(told)
    assert f"{delivery.id} is a dead letter" in text(told)


def test_of_one_that_waits_for_what_is_nowhere_that_is_told(project, ask):
    app = project.app
    add = app.signature("tasks.add", (1, 2))
    last = chain(add, app.signature("tasks.add", (3,)), app=app).apply_async()
    [delivery] = project.hands.take()
    project.hands.broker.complete(
        [Completion(Ack(delivery), project.hands.seal_for(delivery, {"result": 3}))]
    )

    _, told = ask(last.id)

    assert f"{delivery.id} is nowhere (its result is SUCCESS)" in text(told)


def test_of_what_was_woken_nothing_is_waited_for(project, ask):
    app = project.app
    add = app.signature("tasks.add", (1, 2))
    last = chain(add, app.signature("tasks.add", (3,)), app=app).apply_async()
    [delivery] = project.hands.take()
    sealed = project.hands.seal_for(delivery, {"result": 3})
    ended = Completion(Ack(delivery), sealed, outcome=Outcome(sealed.frame, succeeded=True))
    project.hands.broker.complete([ended])

    assert ask(last.id)[1]["state"] == "ready"
    assert ask(delivery.id)[1]["state"] == "ended"


def test_one_that_is_revoked_will_not_run(project, ask):
    sent = project.send(1)
    project.app.control.revoke([sent.id, "unsent"])
    other = project.send(1)

    code, told = ask(sent.id)

    assert (code, told["message"]["revoked"]) == (1, True)
    assert "it was revoked" in text(told)
    assert "it was revoked" in text(ask("unsent")[1])
    assert not ask(other.id)[1]["message"]["revoked"]


def test_one_that_is_revoked_by_a_stamp_will_not_run(project, ask):
    sent = project.app.signature("tasks.add", (1, 2)).apply_async(stamps={"customer": 7})
    project.app.control.revoke_by_stamped_headers({"customer": [7]})
    other = project.app.signature("tasks.add", (1, 2)).apply_async(stamps={"customer": 8})

    assert ask(sent.id)[1]["message"]["revoked"]
    assert not ask(other.id)[1]["message"]["revoked"]


def test_a_forged_revocation_revokes_nothing(project, ask):
    sent = project.send(1)
    project.hands.broker.broadcast(b"not signed", expires_at=4e9)

    assert not ask(sent.id)[1]["message"]["revoked"]


def test_one_whose_time_to_begin_is_over_will_not_run(project, ask):
    sent = project.send(1, expires=0.001)

    code, told = ask(sent.id)

    assert code == 1
    assert "expired" in codes(told)
    assert "its time to begin was over" in text(told)


def test_one_that_a_worker_will_refuse_tells_why(project, ask):
    sent = project.send(1)
    [delivery] = project.hands.take()
    project.hands.broker.settle([Ack(delivery)])
    broken = delivery.frame[:-1] + b"?"
    project.hands.broker.publish([Outgoing("celery", sent.id, broken)], timeout=5)

    code, told = ask(sent.id)

    assert (code, told["state"]) == (1, "ready")
    assert "a worker will refuse it, wrong-digest" in text(told)


def test_a_copy_of_what_ran_is_told_to_be_one(project, ask):
    project.send(1)
    [delivery] = project.hands.take()
    nonce = project.hands.open(delivery).nonce
    project.hands.broker.complete([Completion(Ack(delivery), nonce=nonce)])
    project.hands.broker.publish([Outgoing("celery", delivery.id, delivery.frame)], timeout=5)

    _, told = ask(delivery.id)

    assert "a worker will refuse it, replayed" in text(told)


def test_of_a_dead_letter_the_reason_and_the_remedy_are_told(project, ask):
    task_id = project.dead("its process was lost 3 times")
    [one] = project.json("dead", "list", "--json")

    code, told = ask(task_id)

    assert (code, told["state"]) == (1, "dead")
    assert "its process was lost 3 times" in text(told)
    assert "its result is FAILURE" in text(told)
    assert f"`cardoon dead retry {one['number']}`" in text(told)
    assert told["message"]["kept"]["number"] == one["number"]


def test_of_one_in_the_quarantine_the_reason_and_the_way_to_more_are_told(project, ask):
    task_id = project.refused("unknown-signer", "no certificate")
    [one] = project.json("quarantine", "list", "--json")

    code, told = ask(task_id)

    assert (code, told["state"]) == (1, "quarantine")
    assert "unknown-signer: no certificate" in text(told)
    assert f"`cardoon quarantine show {one['number']}`" in text(told)
    assert f"`cardoon quarantine release {one['number']}`" in text(told)


def test_one_that_may_have_run_before_is_not_offered_like_others(project, ask):
    task_id = project.refused("before-epoch", "it may have run before")
    [one] = project.json("quarantine", "list", "--json")

    told = ask(task_id)[1]
    shown = project.answer("quarantine", "show", str(one["number"]))

    assert "--unsafe-accept-old" in text(told)
    assert "it would be accepted now" not in text(told)
    assert shown.endswith(f"`cardoon quarantine release {one['number']} --unsafe-accept-old`\n")


def test_of_one_that_ended_the_end_is_told(project, ask):
    sent = project.send(1)
    [delivery] = project.hands.take()
    project.hands.succeed(delivery, 3)

    code, told = ask(sent.id)

    assert (code, told["state"]) == (0, "ended")
    assert told["because"][0]["text"].startswith("tasks.add ended as SUCCESS")
    assert told["because"][0]["text"].endswith("by worker hands@here")
    assert told["remedies"] == []


def test_of_one_that_failed_the_way_to_the_traceback_is_told(project, ask):
    sent = project.send(1)
    [delivery] = project.hands.take()
    project.hands.fail(delivery, ValueError("no"))

    code, told = ask(sent.id)

    assert (code, told["state"]) == (0, "ended")
    assert f"`cardoon result {sent.id} --traceback`" in text(told)


def test_a_forged_result_is_not_believed_and_left_where_it_is(project, ask):
    """To look is not to touch: readers quarantine it, and this is none."""
    sealed = project.hands.seal({"result": 1}, id="a", request=bytes(32))
    project.hands.backend.store([sealed._replace(frame=b"forged")])

    code, told = ask("a")

    assert (code, told["state"]) == (2, "unknown")
    assert "what the result backend has under its id is refused: malformed" in text(told)
    assert project.json("quarantine", "list", "--json") == []


def test_to_ask_changes_nothing(project, ask):
    sent = project.send(1)
    before = project.json("queues", "--json")

    ask(sent.id)
    ask(sent.id)

    after = project.json("queues", "--json")
    assert [{**one, "oldest": 0} for one in after] == [{**one, "oldest": 0} for one in before]
    [delivery] = project.hands.take()
    assert (delivery.id, delivery.attempt) == (sent.id, 1)


def found(**changes):
    """What is known of a message that is ready."""
    where = {"place": Place.READY, "queue": "mail", "frame": b"", **changes.pop("where", {})}
    settings = Cardoon(set_as_current=False).settings
    return Findings(
        **{"id": "a", "now": NOW, "settings": settings, "where": Whereabouts(**where), **changes}
    )


def depth(**changes):
    usual = {"queue": "mail", "ready": 1, "scheduled": 0, "dormant": 0, "leased": 0, "oldest": 9.0}
    return QueueDepth(**{**usual, **changes})


def test_a_queue_of_which_nobody_has_anything_has_no_worker():
    told = answer(found(where={"due": NOW - 30}, depth=depth()))

    assert told.outlook is Outlook.STUCK
    assert "most likely no worker consumes it" in told.because[-1].text
    assert "`cardoon worker -Q mail`" in told.remedies[0]


def test_a_queue_from_which_workers_take_is_served():
    told = answer(found(where={"due": NOW - 30}, depth=depth(leased=4)))

    assert told.outlook is Outlook.GOES_ON
    assert "workers have 4 other messages of the queue" in told.because[-1].text


def test_what_has_only_just_come_is_not_missed_yet():
    assert answer(found(where={"due": NOW - 1}, depth=depth())).outlook is Outlook.GOES_ON


def test_a_rate_that_holds_it_back_tells_when_the_next_may_go():
    use = LimitUse(key="k", most=0, gap=6.0, running=0, waiting=3, opens_in=4.25)

    told = answer(found(where={"due": NOW, "limit": "k"}, use=use))

    assert "one in 6 seconds, 3 wait, the next in 4.2 seconds" in told.because[1].text


def test_many_predecessors_are_counted():
    some = tuple(Predecessor(f"p{number}", Place.LEASED, "") for number in range(100))

    told = answer(found(where={"place": Place.DORMANT, "waits_for": 250}, predecessors=some))

    assert told.because[0].text == "it waits for 250 tasks to end"
    assert told.because[1].text == "p0 is with a worker now"
    assert told.because[-1].text == "and 240 more"


def test_what_a_broker_cannot_tell_is_said():
    nothing = found(blind="RabbitMQ cannot be asked")
    told = answer(dataclasses.replace(nothing, where=None))

    assert told.outlook is Outlook.UNKNOWN
    assert ("cannot-tell", "RabbitMQ cannot be asked") in told.because


def test_a_state_on_the_way_is_told_where_no_queue_has_the_message():
    report = Report("a", "STARTED", "application/json", b"", worker="w@host")
    told = answer(dataclasses.replace(found(ending=Ending(report)), where=None))

    assert told.outlook is Outlook.GOES_ON
    assert [one.text for one in told.because] == [
        "its last state is STARTED, as worker w@host said, and no queue has its message"
    ]


def test_every_code_is_in_the_documents():
    written = (ROOT / "docs" / "refusals.md").read_text("utf-8")
    tree = ast.parse((ROOT / "src" / "cardoon" / "cli" / "reasons.py").read_text("utf-8"))
    codes = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("tell", "hold_up")
        and isinstance(node.args[0], ast.Constant)
    }

    assert len(codes) > 20
    assert [code for code in sorted(codes) if f"`{code}`" not in written] == []
