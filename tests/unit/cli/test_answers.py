"""`--json`: every command that says something has it, and answers with one document."""

from __future__ import annotations

import json

import click
import pytest

from cardoon.cli.main import COMMANDS, cardoon

POLICY = """\
version = 1
[role.web]
ids = ["spiffe://x/web"]
[[allow]]
role = "web"
action = "send"
task = ["**"]
"""
NO_ANSWER = {
    ("amqp",): "says what to use, and fails",
    ("audit", "checkpoint"): "prints a signed note",
    ("audit", "export"): "prints records, which are JSON",
    ("audit", "prove"): "prints JSON, and nothing else",
    ("beat",): "serves until it is stopped; its log says what happens",
    ("completion",): "prints a script",
    ("graph", "workers"): "says what to use, and fails",
    ("logtool", "incomplete"): "says what to use, and fails",
    ("multi",): "reads its own words, --json among them",
    ("shell",): "is talked to",
    ("signer",): "serves until it is stopped",
    ("worker",): "serves until it is stopped; its log says what happens",
}


def leaves(command=cardoon, path=()):
    """Every command with its words."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    with click.Context(command) as ctx:
        names = COMMANDS if command is cardoon else command.list_commands(ctx)
        for name in names:
            yield from leaves(command.get_command(ctx, name), (*path, name))


def test_every_command_that_says_something_has_json():
    without = {
        path
        for path, command in leaves()
        if not any("--json" in getattr(one, "opts", ()) for one in command.params)
    }

    assert without <= set(NO_ANSWER), sorted(without - set(NO_ANSWER))


def test_every_command_has_help_that_begins_with_a_sentence():
    for path, command in leaves():
        first = (command.help or "").strip().split("\n\n")[0].strip()
        assert first.endswith((".", ":")), path


@pytest.mark.parametrize(
    "words",
    [
        ["acl", "--role", "worker", "-b", "redis://localhost"],
        ["init", "shop"],
        ["keys", "init"],
        ["keys", "rotate"],
        ["keys", "renew"],
        ["keys", "retire"],
        ["pause", "celery"],
        ["resume", "celery"],
        ["purge", "-f"],
        ["purge", "-f", "-X", "celery"],
        ["replay", "renew", "-f"],
        ["dead", "retry", "1"],
        ["dead", "purge", "-f"],
        ["quarantine", "release", "1"],
        ["quarantine", "purge", "-f"],
        ["policy", "check", "--file", "policy.toml"],
        ["db", "upgrade", "--sql"],
        ["report"],
        ["cert", "issue", "web"],
        ["cert", "request", "mail", "--domain", "cardoon.local"],
        ["cert", "renew", "client"],
        ["cert", "revoke", "client", "--reason", "superseded"],
        ["cert", "crl"],
        ["logtool", "stats", "policy.toml"],
        ["graph", "tasks"],
        ["graph", "bootsteps"],
        ["multi", "names", "2"],
    ],
)
def test_the_answer_is_one_document(project, words):
    project.answer("init")
    project.answer("keys", "init")
    project.send(1, 2)
    (project.folder / "policy.toml").write_text(POLICY)
    before = ["-b", "postgresql://localhost/x"] if words[0] == "db" else []

    done = project.run(*before, *words, "--json")

    assert done.exit_code == 0, (done.output, done.exception)
    json.loads(done.stdout)


def test_purge_leaves_out_what_it_is_told_to(project):
    project.send(1, 2)
    project.send(1, 2, queue="other")

    assert project.json("purge", "-f", "-X", "celery", "--json") == {
        "deleted": 1,
        "queues": ["other"],
    }
    assert [one["queue"] for one in project.json("queues", "--json") if one["ready"]] == ["celery"]
