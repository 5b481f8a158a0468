"""`cardoon sandbox show`, and what `cardoon policy` says of sandboxes."""

from __future__ import annotations

import pytest

TASKS = """\
from cardoon import Cardoon, Sandbox

app = Cardoon("tasks", set_as_current=False)
app.conf.worker_sandbox = {"level": "strict", "read": ["/srv/data"]}


@app.task
def add(x, y=0):
    return x + y


@app.task(sandbox=Sandbox(cpu=2, network=["db:5432"], syscalls="net"), queue="mail")
def mail():
    pass


@app.task(sandbox={"tmp": "1MiB", "level": "strict"})
def resize():
    pass
"""
POLICY = """\
version = 1
[role.web]
ids = ["spiffe://a.example/web"]
[[allow]]
role = "web"
action = "send"
task = "tasks.*"

[[sandbox]]
task = "tasks.resize"
queue = "slow"
level = "process"
"""


@pytest.fixture
def boxed(project):
    """A project whose app has sandboxes, and its policy file."""
    (project.folder / "tasks.py").write_text(TASKS)
    project.policy = project.folder / "policy.toml"
    project.policy.write_text(POLICY)
    project.policy.chmod(0o600)
    return project


def ruled(boxed):
    with (boxed.folder / "tasks.py").open("a") as file:
        file.write(f"\napp.conf.security_policy = {str(boxed.policy)!r}\n")
    return boxed


def test_every_task_is_a_line(boxed):
    told = boxed.answer("-A", "tasks", "sandbox", "show").splitlines()

    assert [line.split()[:3] for line in told] == [
        ["task", "queue", "level"],
        ["tasks.add", "celery", "strict"],
        ["tasks.mail", "mail", "strict"],
        ["tasks.resize", "celery", "strict"],
    ]
    assert told[1].endswith("the setting worker_sandbox")
    assert told[2].endswith("raised to the level 'strict' of worker_sandbox")


def test_one_task_is_shown_field_by_field(boxed):
    told = dict(
        line.split(None, 1)
        for line in boxed.answer("-A", "tasks", "sandbox", "show", "mail").splitlines()
    )

    assert told["task"] == "tasks.mail"
    assert told["queue"] == "mail"
    assert (told["level"], told["network"], told["cpu"]) == ("strict", "db:5432", "2.0")
    assert (told["read"], told["memory"], told["uid"]) == (
        "none",
        "unlimited",
        "nobody, where the worker is root",
    )


def test_a_queue_decides_where_the_file_says_so(boxed):
    project = ruled(boxed)

    usual = project.json("-A", "tasks", "sandbox", "show", "resize", "--json")
    slow = project.json("-A", "tasks", "sandbox", "show", "resize", "--queue", "slow", "--json")

    assert usual["sandbox"]["level"] == "strict"
    assert usual["sandbox"]["tmp"] == 1 << 20
    assert (slow["sandbox"]["level"], slow["because"]) == (
        "process",
        "[[sandbox]] 1 of the policy file",
    )


def test_a_task_that_is_not_there_is_an_error(boxed):
    assert "task 'nothing' is not known here" in boxed.error(
        "-A", "tasks", "sandbox", "show", "nothing"
    )


def test_the_check_counts_the_rows_and_finds_those_that_never_count(boxed):
    with boxed.policy.open("a") as file:
        file.write('[[sandbox]]\ntask = "tasks.resize"\nqueue = "slow"\n')

    told = boxed.answer("policy", "check", "--file", str(boxed.policy))

    assert told.splitlines() == [
        "1 roles, 1 rules, 2 sandboxes",
        "sandbox 2: 1 comes first for whatever it fits",
    ]


def test_explain_tells_the_row_that_a_task_runs_in(boxed):
    asked = ("policy", "explain", "spiffe://a.example/web", "send", "tasks.resize")
    file = ("--file", str(boxed.policy))

    slow, usual = boxed.answer(*asked, "slow", *file), boxed.answer(*asked, "celery", *file)

    assert slow.splitlines()[-1] == "sandbox 1: it runs at the level 'process'"
    assert "sandbox" not in usual
    assert boxed.json(*asked, "slow", *file, "--json")["sandbox"]["row"] == 1
    assert boxed.json(*asked, "celery", *file, "--json")["sandbox"] is None


def test_a_worker_that_cannot_hold_a_sandbox_does_not_start(boxed):
    code, _, errors = boxed.finish("-A", "tasks", "worker")

    assert code == 1
    assert "use -P isolated" in errors
