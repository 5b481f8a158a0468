"""`cardoon multi`, with real workers in the background."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import sys

import pytest

from cardoon.cli.pids import find_holder, send_signal
from cardoon.exceptions import ImproperlyConfigured
from tests.unit.cli.conftest import until

HERE = os.uname().nodename


@pytest.fixture
def nodes(project):
    """A project, whose workers are killed at the end, however it comes."""
    project.write_tasks()
    yield project
    for path in project.folder.glob("**/*.pid"):
        with contextlib.suppress(ImproperlyConfigured):
            send_signal(path, signal.SIGKILL)
            until(lambda path=path: find_holder(path) is None)


def multi(project, *words):
    code, output, errors = project.finish("multi", *words)
    return code, output, errors


def test_nodes_are_started_seen_restarted_and_stopped(nodes):
    code, output, errors = multi(
        nodes, "start", "web", "mail", "-A", "tasks", "-c", "1", "-l", "info", "-Q:mail", "mails"
    )

    pids = {name: find_holder(nodes.folder / f"{name}.pid") for name in ("web", "mail")}
    assert (code, errors) == (0, "")
    assert f"web@{HERE}: started (process {pids['web']})" in output
    assert nodes.send(2, 3).get(timeout=20) == 5
    assert nodes.send(2, 4, queue="mails").get(timeout=20) == 6
    assert f"mail@{HERE}" in (nodes.folder / "mail.log").read_text()

    code, output, _ = multi(nodes, "start", "web", "-A", "tasks", "--json")
    [told] = json.loads(output)
    assert (code, told["state"], told["pid"]) == (0, "runs already", pids["web"])

    code, output, _ = multi(nodes, "restart", "web", "-A", "tasks", "-c", "1")
    assert code == 0
    assert f"web@{HERE}: ended (process {pids['web']})" in output
    assert find_holder(nodes.folder / "web.pid") not in {None, pids["web"]}
    assert find_holder(nodes.folder / "mail.pid") == pids["mail"]

    code, output, _ = multi(nodes, "stopwait", "web", "mail", "--json")
    assert code == 0
    assert {one["node"]: one["state"] for one in json.loads(output)} == {
        f"web@{HERE}": "ended",
        f"mail@{HERE}": "ended",
    }
    assert list(nodes.folder.glob("*.pid")) == []

    code, output, _ = multi(nodes, "stop", "web", "mail")
    assert (code, output.count("does not run")) == (0, 2)


def test_files_may_lie_elsewhere_and_a_node_may_be_killed(nodes):
    files = ["--pidfile=run/%n.pid", "--logfile", "log/%n%I.log"]

    assert multi(nodes, "start", "1", "-A", "tasks", "-c", "1", *files)[0] == 0
    pid = find_holder(nodes.folder / "run" / "celery1.pid")
    assert (nodes.folder / "log" / "celery1.log").exists()

    code, output, _ = multi(nodes, "kill", "1", *files)

    assert (code, f"celery1@{HERE}: ended (process {pid})" in output) == (0, True)
    # What a killed process left behind is not taken for one that runs.
    assert (nodes.folder / "run" / "celery1.pid").exists()
    assert "does not run" in multi(nodes, "stop", "1", *files)[1]


def test_one_that_does_not_come_up_is_named_with_its_last_words(nodes):
    code, output, _ = multi(nodes, "start", "web", "-A", "nowhere", "-c", "1")

    assert code == 1
    assert "web@" in output
    assert (
        "failed: error: ImproperlyConfigured: -A 'nowhere': there is no module 'nowhere'" in output
    )
    assert "(see web.log)" in output

    code, output, _ = multi(nodes, "start", "web", "-A", "tasks", "-c", "none")
    assert code == 1
    assert "'none' is not a valid integer" in output


def test_a_signal_may_be_named(nodes):
    multi(nodes, "start", "web", "-A", "tasks", "-c", "1")

    code, output, _ = multi(nodes, "stop", "web", "-QUIT")

    assert (code, "SIGQUIT sent" in output) == (0, True)
    until(lambda: find_holder(nodes.folder / "web.pid") is None)


def test_one_that_does_not_end_in_time_is_named(nodes):
    multi(nodes, "start", "web", "-A", "tasks", "-c", "1")
    pid = find_holder(nodes.folder / "web.pid")
    os.kill(pid, signal.SIGSTOP)
    try:
        code, output, _ = multi(nodes, "stopwait", "web", "--timeout", "0.2")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert (code, "has not ended" in output) == (1, True)
    until(lambda: find_holder(nodes.folder / "web.pid") is None)


def test_commands_are_shown_and_started_by_nobody(project):
    shown = project.answer(
        "-A", "tasks", "multi", "show", "web", "mail@other", "-c", "2", "-c:2=8", "--", "-E"
    ).splitlines()

    assert shlex.split(shown[0]) == [
        sys.executable, "-m", "cardoon", "--app=tasks", "worker", "--concurrency=2", "--detach",
        "--pidfile=web.pid", "--logfile=web.log", f"--hostname=web@{HERE}", "-E",
    ]  # fmt: skip
    assert "--concurrency=8" in shown[1]
    assert "--hostname=mail@other" in shown[1]
    assert project.answer("multi", "get", "mail", "web", "mail").count("\n") == 1
    assert project.answer("multi", "names", "3") == "".join(
        f"celery{number}@{HERE}\n" for number in (1, 2, 3)
    )
    assert (
        project.answer("multi", "names", "2", "--range-prefix=w", "-n", "%n@box")
        == "w1@box\nw2@box\n"
    )
    assert project.answer("multi", "expand", "/run/%n.pid", "a", "b", "--suffix=x") == (
        "/run/a.pid\n/run/b.pid\n"
    )
    assert project.json("multi", "names", "a", "--json") == [f"a@{HERE}"]
    assert project.json("multi", "show", "a", "--json")[0]["node"] == f"a@{HERE}"
    assert list(project.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["begin", "web"], "no action 'begin'; use start, restart"),
        (["start"], "name nodes, or give their number"),
        (["get"], "name what to get first"),
        (["get", "x", "web"], "no node 'x'; there are: web@"),
        (["start", "web", "--cmd=celery"], "--cmd: nodes are workers of this cardoon"),
        (["stopwait", "web", "--timeout=soon"], "'soon' is not a number of seconds"),
        (["start", "web", "--timeout:web=3"], "are for all nodes"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(project, words, told):
    assert told in project.usage("multi", *words)


def test_help_teaches(project):
    for words in (["multi", "help"], ["multi", "--help"]):
        text = project.answer(*words)
        assert "cardoon multi start web mail -A tasks -c 2 -c:mail 8" in text
        assert "stopwait" in text


def test_a_pidfile_of_somebody_else_sends_no_signal_to_processes_of_ours(project):
    if os.getuid() != 0:
        pytest.skip("only root may be made to signal anybody")
    path = project.folder / "trap.pid"
    with path.open("w") as held:
        held.write(f"{os.getpid()}\n")
        held.flush()
        os.chown(path, 65534, 65534)
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ImproperlyConfigured, match="nothing is sent to it"):
            send_signal(path, signal.SIGCONT)


def test_a_link_is_no_pidfile(project):
    (project.folder / "link.pid").symlink_to(project.folder / "elsewhere")

    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        find_holder(project.folder / "link.pid")
