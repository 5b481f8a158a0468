"""The options of `cardoon worker`: what is refused, and what the worker is told."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest

from tests.unit.cli.conftest import PATIENCE, until


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--autoscale", "3,10"], "'3,10': give MAX,MIN such as 10,2"),
        (["--autoscale", "many"], "'many': give MAX,MIN such as 10,2"),
        (["--autoscale", "9", "-P", "solo"], "the pool solo runs one task at a time"),
        (["-S", "x.db"], "--statedb: not needed"),
        (["--executable", "pypy3"], "start that Python itself: pypy3 -m cardoon -A ... worker"),
        (["--detach"], "--detach needs --logfile"),
        (
            ["-P", "gevent"],
            "'gevent' is not one of 'prefork', 'isolated', 'threads', 'asyncio', 'solo'",
        ),
        (["-c", "many"], "'many' is not a valid integer"),
        (["-l", "loud"], "'loud' is not one of 'debug', 'info'"),
        (["--umask", "9"], "'9' is not a number in octal, such as 027"),
        (["--umask", "77777"], "'77777' is not a number in octal"),
        (["--umask", "-22"], "'-22' is not a number in octal"),
        (["--no-such"], "No such option '--no-such'"),
    ],
)
def test_an_option_that_is_wrong_is_named_with_the_remedy(project, options, told):
    mask = os.umask(0o022)
    os.umask(mask)

    assert told in project.usage("-A", "tasks", "worker", *options)

    assert os.umask(mask) == mask


def test_without_an_app_there_is_nothing_to_run(project):
    assert "-A is missing: name the module of your app, as in `-A tasks`" in project.usage("worker")


def test_options_that_need_a_word_say_so(project):
    assert "Option '-Q' requires an argument" in project.usage("-A", "tasks", "worker", "-Q")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-c", "0"], "error: worker_concurrency: 0 "),
        (["--time-limit", "-1"], "error: task_time_limit: -1.0 "),
        (["--time-limit", "1", "--soft-time-limit", "2"], "task_soft_time_limit=2.0 is not below"),
        (["-Q", "a,b", "-X", "b,a"], "error: -X excludes every queue that -Q names"),
        (["-X", "celery"], "error: -X excludes every queue that the settings declare"),
        (["-I", "nowhere"], "error: include: there is no module 'nowhere'"),
        (["-f", "no/worker.log"], "error: logfile 'no/worker.log' cannot be opened"),
        (["--pidfile", "no/worker.pid"], "/no/worker.pid: cannot be opened: No such file"),
        (["--uid", "no-such-user"], "error: --uid no-such-user"),
    ],
)
def test_a_value_that_is_wrong_ends_the_worker_with_a_line(project, options, told):
    project.write_tasks()

    code, output, errors = project.finish("-A", "tasks", "worker", "-P", "solo", *options)

    assert (code, output) == (1, "")
    assert told in errors
    assert errors.count("\n") == 1
    assert not project.state.exists()


def test_an_unknown_app_is_named(project):
    code, _, errors = project.finish("-A", "nowhere", "worker")

    assert code == 1
    assert errors.splitlines()[-1].startswith("error: ")
    assert "-A 'nowhere': there is no module 'nowhere' in " in errors.splitlines()[-1]


def banner(output):
    """The lines `name   value` of the worker's first words."""
    pairs = (line.split(maxsplit=1) for line in output.splitlines() if line.startswith("  "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0] != "."}


@contextmanager
def working(project, *options, **more):
    """A worker that has begun to serve; it is told to stop at the end, and must do so properly."""
    with project.start(*options, **more) as process:
        try:
            until(lambda: process.poll() is not None or serves(project))
            yield process
            process.send_signal(signal.SIGTERM)
            process.output, process.errors = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()  # or `with` would wait for it
            raise
    assert process.returncode == 0, process.errors


def serves(project):
    trail = project.state / "audit.jsonl"
    return trail.exists() and "worker.start" in trail.read_text()


def test_the_banner_says_who_runs_what_and_whom_it_trusts(project):
    project.write_tasks()
    host = os.uname().nodename

    options = ["-P", "solo", "-n", "w1@%h", "-Q", "a,b,c", "-X", "b"]
    with working(project, "-A", "tasks", "worker", *options) as process:
        pass

    told = banner(process.output)
    assert told["worker"] == f"w1@{host}"
    assert told["queues"] == "a, c"
    assert told["messages"] == "signed only"
    assert told["pool"] == "solo, 1 at a time"
    assert told["keys"] == "in the process that runs the tasks"
    assert told["broker"] == f"sqlite:///{project.state}/cardoon.db"
    assert told["tasks"] == "1"
    assert "warm shutdown" in process.errors


def test_the_app_may_stand_behind_the_command_and_messages_be_unsigned(project):
    project.write_tasks()
    environment = {
        **os.environ,
        "CARDOON_TASK_SERIALIZER": "json",
        "CARDOON_ACCEPT_CONTENT": "json",
    }

    with working(project, "worker", "-A", "tasks", "-P", "solo", env=environment) as process:
        pass

    told = banner(process.output)
    assert told["messages"] == "UNSIGNED ones are accepted"
    assert told["identity"] == "none: messages are not signed"
    assert not (project.state / "worker.key").exists()


def test_a_quiet_worker_shows_no_banner_and_purges_if_asked_to(project):
    project.write_tasks()
    project.send(1, 2)
    with working(project, "-q", "-A", "tasks", "worker", "-P", "solo", "--purge") as process:
        until(lambda: project.json("queues", "--json")[0]["ready"] == 0)

    assert process.output == ""
    assert "deleted 1 waiting messages" in process.errors


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_further_modules_are_imported(project, pool):
    project.write_tasks()
    (project.folder / "more.py").write_text(
        "from tasks import app\napp.task(name='more.double')(lambda x: 2 * x)\n"
    )

    with working(project, "-A", "tasks", "worker", "-P", pool, "-I", "more") as process:
        assert project.send(4, name="more.double").get(timeout=PATIENCE) == 8

    assert ". more.double" in process.output


def test_a_password_on_the_command_line_is_warned_of_and_not_repeated(project, tmp_path):
    project.write_tasks()
    results = f"sqlite:///{tmp_path}/a:secret@b.db"

    options = ["--result-backend", results, "-A", "tasks", "worker", "-P", "solo"]
    with working(project, *options) as process:
        pass

    assert "result_backend was given on the command line, where every user" in process.errors
    assert "secret" not in process.errors
    assert "secret" not in process.output
