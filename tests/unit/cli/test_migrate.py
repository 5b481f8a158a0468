"""`cardoon migrate`: from one store to another, signed as they are, and none lost."""

from __future__ import annotations

import contextlib
import json
import signal
from datetime import UTC, datetime, timedelta

import pytest

from cardoon import Cardoon, brokers
from cardoon.broker import Kept, Outgoing, Requeue
from cardoon.cli.codes import Exit
from cardoon.clock import SystemClock
from tests.unit.cli.conftest import until
from tests.unit.hands import Hands


@pytest.fixture
def ways(project):
    """The project's own file, and another one."""
    return [f"sqlite:///{project.state}/cardoon.db", f"sqlite:///{project.folder}/new.db"]


@contextlib.contextmanager
def store(url):
    broker = brokers.connect(url, clock=SystemClock())
    with contextlib.closing(broker):
        yield broker


@contextlib.contextmanager
def new_hands(project, url):
    """Somebody who works at the destination."""
    app = Cardoon("tasks", broker=url, state_directory=str(project.state), set_as_current=False)
    hands = Hands(app.settings)
    with contextlib.closing(hands), app:
        yield hands


def send_many(project, count):
    app = project.app
    app.send_many([app.signature("tasks.add", (number, 0)) for number in range(count)])


def ready(url):
    with store(url) as broker:
        return sum(one.ready for one in broker.depths())


def test_what_waits_is_moved_and_runs_at_the_destination(project, ways):
    sent = [project.send(number, 0, priority=number) for number in range(3)]

    told = project.json("migrate", *ways, "--json", "-t", "0")

    assert (told["moved"], told["refused"], told["interrupted"]) == (3, {}, False)
    assert (ready(ways[0]), ready(ways[1])) == (0, 3)
    with new_hands(project, ways[1]) as hands:
        taken = hands.take(limit=10)
        # Verified as they were signed, the most urgent first.
        assert [hands.arguments(one)[0] for one in taken] == [2, 1, 0]
        assert {one.id for one in taken} == {one.id for one in sent}


def test_a_worker_there_takes_them_though_they_are_older_than_its_store(project, ways):
    """A store refuses what was signed before it began to remember, unless it knows it."""
    project.write_tasks()
    sent = project.send(2, 3)
    project.answer("migrate", *ways, "-t", "0")

    worker = project.start("-b", ways[1], "-A", "tasks", "worker", "-P", "solo")
    try:
        with Cardoon(
            "tasks", broker=ways[1], state_directory=str(project.state), set_as_current=False
        ) as app:
            assert app.AsyncResult(sent.id).get(timeout=20) == 5
    finally:
        worker.terminate()
        worker.communicate(timeout=20)


def test_what_does_not_verify_goes_to_the_quarantine(project, ways):
    project.send(1, 2)
    with store(ways[0]) as broker:
        broker.publish([Outgoing("celery", "junk", b"junk")], timeout=10)

    told = project.json("migrate", *ways, "--json", "-t", "0")

    assert (told["moved"], told["refused"]) == (1, {"malformed": 1})
    assert ready(ways[1]) == 1
    [kept] = project.json("quarantine", "list", "--json")
    assert (kept["id"], kept["reason"]) == ("junk", "malformed")
    assert '"operator.migrate"' in (project.state / "audit.jsonl").read_text()


def test_a_copy_of_what_was_moved_runs_in_neither_place(project, ways):
    sent = project.send(1, 2)
    [delivery] = project.hands.take()
    frame = delivery.frame
    project.hands.broker.settle([Requeue(delivery)])
    project.answer("migrate", *ways, "-t", "0")
    with store(ways[0]) as broker:
        broker.publish([Outgoing("celery", sent.id, frame)], timeout=10)

    told = project.json("migrate", *ways, "--json", "-t", "0")

    assert (told["moved"], told["refused"]) == (0, {"replayed": 1})
    assert ready(ways[1]) == 1


def test_a_run_that_was_killed_is_gone_on_with_and_loses_nothing(project, ways):
    count = 1200
    send_many(project, count)
    with store(ways[1]) as broker:
        broker.declare(["celery"])
        process = project.start("migrate", *ways)
        until(lambda: sum(one.ready for one in broker.depths()) > 0)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    moved = ready(ways[1])
    assert 0 < moved < count
    with store(ways[0]) as broker:
        broker.maintain()  # takes back what the dead one held, which rests for a moment
        until(lambda: not any(one.scheduled or one.leased for one in broker.depths()))

    done = project.run(
        "migrate", *ways, "--json", "-t", "0"
    )  # tells of its progress, if it is slow

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (
        moved + told["moved"] >= count
    )  # what was published and not yet forgotten comes twice, and is dropped
    assert (ready(ways[0]), ready(ways[1])) == (0, count)
    with new_hands(project, ways[1]) as hands:
        numbers = sorted(hands.arguments(one)[0] for one in hands.take(limit=count))
    assert numbers == list(range(count))


def test_one_that_is_interrupted_says_so(project, ways):
    send_many(project, 1200)
    with store(ways[1]) as broker:
        broker.declare(["celery"])
        process = project.start("migrate", *ways, "--json")
        until(lambda: sum(one.ready for one in broker.depths()) > 0)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)

    told = json.loads(output)
    assert (process.returncode, told["interrupted"]) == (Exit.WAITED, True), errors
    assert told["moved"] + ready(ways[0]) == 1200


def test_only_what_is_asked_for_is_moved(project, ways):
    project.send(1, 2)
    project.send(1, 2, name="tasks.pay")
    project.send(1, 2, queue="other")

    told = project.json("migrate", *ways, "--json", "-t", "0", "-Q", "celery", "-T", "tasks.pay")
    assert (told["moved"], told["left"]["of another task"]) == (1, 1)
    told = project.json("migrate", *ways, "--json", "-t", "0", "-n", "1")
    assert told["moved"] == 1
    assert (ready(ways[0]), ready(ways[1])) == (1, 2)


def test_what_is_not_due_or_cannot_be_handed_over_stays(project, ways):
    (project.folder / "tasks.py").write_text(
        "from cardoon import Cardoon\napp = Cardoon('tasks', set_as_current=False)\n"
        "@app.task(concurrency_limit=1)\ndef one(): pass\n"
        "@app.task(unique=True)\ndef only(): pass\n"
    )
    for name in ("one", "only"):
        project.answer("-A", "tasks", "call", name)
    project.send(1, 2, eta=datetime.now(UTC) + timedelta(hours=1))

    told = project.json("migrate", *ways, "--json", "-t", "0")

    assert told["moved"] == 0
    assert (told["left"]["unique or limited"], told["left"]["not due"]) == (2, 1)
    assert ready(ways[0]) == 2
    assert "not due; run it again then, or with -F" in project.answer("migrate", *ways, "-t", "0")


def test_workflows_are_left_to_those_who_began_them(project, ways):
    (project.app.signature("tasks.add", (1, 2)) | project.app.signature("tasks.add", (3,))).delay()

    told = project.error("migrate", *ways, "-t", "0")

    assert "messages of workflows wait at the source for others to end (1 in celery)" in told
    assert ready(ways[0]) == 1


def test_what_is_revoked_stays_so(project, ways):
    sent = project.send(1, 2)
    project.app.control.revoke(sent.id)

    assert project.json("migrate", *ways, "--json", "-t", "0")["revocations"] == 1
    assert project.json("migrate", *ways, "--json", "-t", "0")["revocations"] == 0
    with store(ways[1]) as broker:
        assert len(broker.heard(0)) == 1


def test_to_the_same_store_nothing_is_moved(project, ways):
    project.send(1, 2)
    same = f"sqlite:///{project.state}/../.cardoon/cardoon.db"

    assert "both URLs lead to one store" in project.error("migrate", ways[0], same)
    assert ready(ways[0]) == 1


def test_what_is_wrong_is_named_with_the_remedy(project, ways, monkeypatch):
    project.send(1, 2)
    assert "DST: memory has nothing" in project.error("migrate", ways[0], "memory://")
    assert "SRC: the environment has no variable 'NO'" in project.error(
        "migrate", "env:NO", ways[1]
    )
    assert "moved 0 messages" in project.answer("migrate", ways[1], ways[0], "-t", "0")
    monkeypatch.setenv("NEW", ways[1])
    assert "moved 1 messages" in project.answer("migrate", ways[0], "env:NEW", "-a", "-t", "0")


def test_dead_letters_and_the_quarantine_stay(project, ways):
    project.dead()

    project.answer("migrate", *ways, "-t", "0")

    with store(ways[0]) as broker:
        assert len(broker.kept(Kept.DEAD_LETTER, limit=5)) == 1
