"""Workers that are asked and commanded: by the API, and by the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.cell import cell_site
from tests.e2e.conftest import DEADLINE, PROJECT

PATIENT = ("-t", "10")


def run(site, *words, env=None):
    """A command of ours: exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", "-A", "work", *words],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": path_of(site), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    return done.returncode, done.stdout, done.stderr


def path_of(site):
    return os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])])


def ask(site, *words, env=None):
    """What workers answer, as JSON."""
    code, out, err = run(site, *words, "-j", env=env)
    assert code == 0, err
    return json.loads(out)


def answer(site, command, *words):
    """What the only worker answers."""
    code, out, err = run(site, *command.split(), *words, "-d", "one@here", *PATIENT, "-j")
    assert out, err
    return code, json.loads(out)["one@here"]


def busy(site, gate, **options):
    """A task that runs until a file is there."""
    sent = site.send("progress", site.path(gate), **options)
    site.until(lambda: sent.state == "PROGRESS")
    return sent


@pytest.fixture
def one(site):
    site.start("-c", "2", "-n", "one@here")
    return site


def test_two_workers_answer_and_one_may_be_asked_alone(one):
    one.start("-P", "threads", "-n", "two@here", wait=False)
    inspect = one.app.control.inspect(timeout=DEADLINE, limit=2)
    one.until(lambda: len(one.app.control.ping(timeout=1, limit=2)) == 2)

    assert inspect.ping() == {"one@here": {"ok": "pong"}, "two@here": {"ok": "pong"}}
    assert ask(one, "inspect", "ping", "-d", "two@here", *PATIENT) == {"two@here": {"ok": "pong"}}
    pools = {name: told["pool"]["implementation"] for name, told in inspect.stats().items()}
    assert pools == {"one@here": "prefork", "two@here": "threads"}
    code, out, _ = run(one, "status", "-d", "one@here,two@here", *PATIENT)
    assert (code, "2 nodes online." in out) == (0, True)


def test_what_is_nearly_a_command_is_asked_for_and_warned_of(site):
    code, out, err = run(site, "inspect", "activ", "-t", "0.1")

    assert (code, out) == (69, "")
    assert "no command 'activ' here; did you mean 'active'?" in err


def test_nobody_answers_where_nobody_is(site):
    code, out, err = run(site, "inspect", "ping", "-t", "0.1")
    assert (code, out) == (69, "")
    assert "no worker answered within 0.1 seconds" in err
    assert run(site, "status", "-t", "0.1", "-j")[:2] == (69, "{}\n")
    assert site.app.control.inspect(timeout=0.1).active() is None


def test_what_runs_is_shown_and_stopped(one):
    sent = busy(one, "gate")

    [active] = answer(one, "inspect active")[1]
    assert (active["id"], active["name"], active["args"]) == (sent.id, "work.progress", "<hidden>")
    assert active["worker_pid"] > 0
    assert answer(one, f"inspect query_task {sent.id}")[1][sent.id][0] == "active"
    code, told = answer(one, f"control terminate SIGKILL {sent.id}")
    assert (code, told["terminated"]) == (0, [sent.id])
    one.until(lambda: sent.state == "REVOKED")
    assert sent.id in answer(one, "inspect revoked")[1]
    assert answer(one, "inspect active")[1] == []


def test_what_it_is_and_knows(one):
    assert "work.add" in answer(one, "inspect registered")[1]
    assert answer(one, "inspect stats")[1]["total"]["work.add"] == 1
    assert answer(one, "inspect active_queues")[1][0]["name"] == "celery"
    assert "software -> cardoon" in answer(one, "inspect report")[1]["ok"]
    conf = answer(one, "inspect conf with_defaults=true")[1]
    assert (conf["worker_pool"], conf["broker_url"]) == ("prefork", "")
    assert answer(one, "inspect scheduled")[1] == []
    assert answer(one, "inspect reserved")[1] == []


def test_limits_queues_and_the_pool_are_changed(one):
    assert answer(one, "control rate_limit work.add 1/h") == (
        0,
        {"ok": "new rate limit set successfully"},
    )
    first, second = one.send("add", 1, 1), one.send("add", 1, 2)
    assert first.get(timeout=DEADLINE) == 2
    assert second.state == "PENDING"

    assert answer(one, "control add_consumer slow")[0] == 0
    assert one.call("echo", 6, queue="slow") == 6
    assert answer(one, "control cancel_consumer slow")[0] == 0
    one.until(lambda: [q["name"] for q in answer(one, "inspect active_queues")[1]] == ["celery"])
    assert answer(one, "control time_limit work.progress hard=0.5")[0] == 0
    assert "TimeLimitExceeded" in repr(
        one.send("progress", one.path("no")).get(timeout=DEADLINE, propagate=False)
    )
    assert answer(one, "control rate_limit work.absent 1/h") == (
        1,
        {"error": "unknown task 'work.absent'"},
    )


@pytest.mark.parametrize("kind", ["prefork", "threads", "asyncio"])
def test_a_pool_grows_shrinks_and_is_renewed_while_tasks_run(site, kind):
    site.start("-P", kind, "-c", "1", "-n", "one@here")
    first = busy(site, "gate-1")

    assert answer(site, "control pool_grow 1")[1] == {"ok": "pool will grow to 2"}
    second = busy(site, "gate-2")

    assert "replaced" in answer(site, "control pool_restart")[1]["ok"]
    assert site.call("add", 1, 2) == 3  # by a new process, while the old one is busy
    assert answer(site, "control pool_shrink 1")[1] == {"ok": "pool will shrink to 1"}
    for gate in ("gate-1", "gate-2"):
        (site.folder / gate).touch()
    assert (first.get(timeout=DEADLINE), second.get(timeout=DEADLINE)) == ("all", "all")
    assert site.call("add", 1, 2) == 3
    assert answer(site, "inspect stats")[1]["pool"]["max-concurrency"] == 1


def test_solo_has_no_size(site):
    site.start("-P", "solo", "-n", "one@here")

    code, told = answer(site, "control pool_grow 1")

    assert (code, "one task at a time" in told["error"]) == (1, True)
    assert answer(site, "inspect ping")[1] == {"ok": "pong"}


def test_a_pool_follows_its_load(one):
    assert answer(one, "control autoscale 4 1")[1] == {"ok": "autoscale now max=4 min=1"}
    sent = [one.send("progress", one.path("gate")) for _ in range(4)]

    one.until(lambda: all(task.state == "PROGRESS" for task in sent))

    (one.folder / "gate").touch()
    assert [task.get(timeout=DEADLINE) for task in sent] == ["all"] * 4


def test_isolated_tasks_are_stopped_and_follow_the_load_also_with_a_log_file():
    with cell_site("process", "-n", "one@here", "-f", "own.log") as site:
        assert answer(site, "control autoscale 4 1")[1] == {"ok": "autoscale now max=4 min=1"}
        sent = [site.send("progress", str(site.place / "gate")) for _ in range(4)]
        site.until(lambda: all(task.state == "PROGRESS" for task in sent))

        assert answer(site, f"control terminate SIGTERM {sent[0].id}")[1]["terminated"] == [
            sent[0].id
        ]

        site.until(lambda: sent[0].state == "REVOKED")
        (site.place / "gate").touch()
        assert [task.get(timeout=DEADLINE) for task in sent[1:]] == ["all"] * 3
        assert any("revoked" in line for line in site.lines("own.log"))


def test_a_worker_is_shut_down(one):
    assert answer(one, "control shutdown")[1] == {"ok": "shutting down"}

    assert one.workers[0].wait(DEADLINE) == 0


def test_answers_for_people(one):
    code, out, _ = run(one, "inspect", "ping", *PATIENT, "-d", "one@here")
    assert (code, out) == (0, "-> one@here\n   pong\n")
    busy(one, "gate")
    out = run(one, "inspect", "active", *PATIENT, "-d", "one@here")[1]
    assert "work.progress" in out
    assert run(one, "inspect", "--list")[1].startswith("command")
    assert "rate_limit" in run(one, "control", "--list")[1]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("inspect", "ask what?"),
        ("control", "do what?"),
        ("inspect shutdown", "'shutdown' is a command of `cardoon control`"),
        ("control rate_limit work.add often", "'often' is not a rate"),
        ("control pool_grow 1 2", "'2' is one too many"),
        ("inspect objgraph", "use the package objgraph in a task"),
        ("control terminate SIGTERM", "give a signal and ids"),
    ],
)
def test_a_mistake_is_told_without_asking_anybody(site, words, error):
    code, out, err = run(site, *words.split())

    assert (code in {1, 2}, out) == (True, "")
    assert error in err


def test_a_worker_that_is_killed_does_not_answer_and_another_does(one):
    one.start("-n", "two@here", wait=False)
    one.until(lambda: len(one.app.control.ping(timeout=1, limit=2)) == 2)
    one.workers[0].send_signal(signal.SIGKILL)
    one.workers[0].wait()

    assert one.app.control.ping(timeout=2) == [{"two@here": {"ok": "pong"}}]


# Commands of the app's own


def own(site, command, *words):
    """What a command of the app `asked` answers."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cardoon",
            "-A",
            "asked",
            *command.split(),
            *words,
            "-j",
            "-t",
            "20",
        ],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": path_of(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["prefork", "solo"])
def test_commands_of_the_app_s_own_run_where_the_app_is(site, kind):
    site.start("-P", kind, "-n", "one@here", app="asked")
    to = ("-d", "one@here")

    assert own(site, "control keep apples 3", *to)["one@here"] == {"ok": "apples is 3"}
    told = own(site, "inspect where", *to)["one@here"]

    assert (told["worker"], told["kept"], told["secrets"]) == ("one@here", {"apples": 3}, [])
    assert (told["pid"] == site.workers[0].pid) == (kind == "solo")
    assert (
        "missing a required argument" in own(site, "control keep apples", *to)["one@here"]["error"]
    )
    assert "no command 'absent'" in own(site, "inspect absent", *to)["one@here"]["error"]


def test_one_that_hangs_or_dies_is_an_error_and_the_worker_goes_on(site):
    site.start("-c", "1", "-n", "one@here", app="asked")
    to = ("-d", "one@here")

    assert "took longer than 10 seconds" in own(site, "control hang", *to)["one@here"]["error"]
    assert "has died" in own(site, "control die", *to)["one@here"]["error"]
    assert site.call("add", 2, 3) == 5
    assert own(site, "control keep pears 1", *to)["one@here"] == {"ok": "pears is 1"}
