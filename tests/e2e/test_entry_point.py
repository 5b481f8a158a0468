"""Every command, through the real entry point: `python -m cardoon` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cardoon.cli.main import COMMANDS

TASKS = """\
from cardoon import Cardoon
app = Cardoon("tasks")
@app.task
def add(x, y):
    return x + y
"""
HERE = {
    "acl": (["acl", "--role", "client", "-b", "redis://localhost", "--json"], 0, "ACL SETUSER"),
    "amqp": (["amqp", "queue.purge"], 2, "cardoon purge -Q NAME"),
    "audit": (["audit", "verify"], 1, "audit.jsonl: No such file"),
    "bridge": (["bridge", "--from", "redis://127.0.0.1:1"], 1, "error: "),
    "call": (["-A", "tasks", "call", "add", "-a", "[1, 2]", "--json"], 0, '"id"'),
    "cert": (["cert", "list", "--json"], 0, '"state"'),
    "completion": (["completion", "bash"], 0, "complete -o nosort"),
    "db": (["-b", "postgresql://localhost/x", "db", "upgrade", "--sql"], 0, "CREATE"),
    "dead": (["dead", "list", "--json"], 0, "[]"),
    "doctor": (["doctor", "--only", "MSG-01", "--json"], 0, '"score": 100'),
    "firewall": (
        ["-b", "amqps://192.0.2.7", "firewall", "print"],
        0,
        "ip daddr 192.0.2.7 tcp dport 5671",
    ),
    "graph": (["-A", "tasks", "graph", "tasks"], 0, '"tasks.add" -> "queue celery"'),
    "init": (["init", "other", "--json"], 0, '"identities"'),
    "integrity": (
        ["integrity", "init", "--baseline", "b", "--root", "tasks.py", "--json"],
        0,
        '"serial"',
    ),
    "keys": (["keys", "init", "--json"], 0, '"folder"'),
    "limits": (["limits", "--json"], 0, "[]"),
    "list": (["-A", "tasks", "list", "bindings"], 0, "routing key"),
    "logtool": (["logtool", "stats", "worker.log"], 0, "records     1"),
    "migrate": (
        ["migrate", "sqlite:///.cardoon/cardoon.db", "sqlite:///new.db", "-t", "0"],
        0,
        "moved ",
    ),
    "multi": (["multi", "names", "2"], 0, "celery2@"),
    "pause": (["pause", "celery", "--json"], 0, '"paused"'),
    "policy": (["policy", "check"], 1, "security_policy is not set"),
    "purge": (["purge", "-f", "-Q", "other"], 0, "deleted 0 messages"),
    "quarantine": (["quarantine", "list", "--json"], 0, "[]"),
    "queues": (["queues", "--json"], 0, '"celery"'),
    "replay": (["replay", "show", "--json"], 0, '"since"'),
    "report": (["report"], 0, "cardoon"),
    "result": (["result", "none", "--json"], 0, '"PENDING"'),
    "resume": (["resume", "celery"], 0, "resumed celery"),
    "routes": (["-A", "tasks", "routes", "add", "--json"], 0, '"celery"'),
    "sandbox": (["-A", "tasks", "sandbox", "show", "--json"], 0, '"tasks.add"'),
    "shell": (["-A", "tasks", "shell", "--python"], 0, "3"),
    "signer": (["signer"], 2, "Missing option '--key'"),
    "syslog": (["syslog", "receivers", "made", "--json"], 0, "sigma.yml"),
    "upgrade": (["upgrade", "settings", "tasks.py", "--dry-run", "--json"], 0, '"files"'),
    "verify": (["verify", "worker.log", "--json"], 2, '"malformed"'),
    "why": (["why", "none", "--json"], 2, '"unknown"'),
}
"""By command: its words, its exit code, and what it says."""
ELSEWHERE = {
    "beat": "tests/e2e/test_beat.py",
    "control": "tests/e2e/test_commands.py",
    "events": "tests/e2e/test_events.py",
    "health": "tests/e2e/test_monitoring.py",
    "inspect": "tests/e2e/test_commands.py",
    "schedule": "tests/e2e/test_schedules.py",
    "status": "tests/e2e/test_commands.py",
    "worker": "tests/e2e/test_start_worker.py",
    "bridge": "tests/interop/test_bridge.py",
    "signer": "tests/e2e/test_signers.py",
    "multi": "tests/unit/cli/test_multi.py",
}
"""Commands that serve are tested at more length there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A project with a message that waits."""
    made = tmp_path_factory.mktemp("commands")
    (made / "tasks.py").write_text(TASKS)
    (made / "worker.log").write_text("[2026-12-02 10:00:00,001: INFO/MainProcess] queues: celery\n")
    assert run(made, ["init"]).returncode == 0
    assert run(made, ["-A", "tasks", "call", "add", "-a", "[1, 2]"]).returncode == 0
    return made


def run(folder, words, **more):
    return subprocess.run(
        [sys.executable, "-m", "cardoon", *words],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **more,
    )


def test_every_command_is_tested_through_the_real_entry_point():
    root = Path(__file__).parents[2]

    assert set(COMMANDS) == {*HERE, *ELSEWHERE} & set(COMMANDS), "name a scenario for each command"
    for path in (path for name, path in ELSEWHERE.items() if name in COMMANDS):
        assert (root / path).exists(), path


@pytest.mark.parametrize("name", sorted(HERE))
def test_a_command_answers(folder, name):
    words, code, told = HERE[name]

    done = run(folder, words, input="print(1 + 2)\n")

    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stdout + done.stderr
    if "--json" in words:
        json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_has_help(folder, name):
    done = run(folder, [name, "--help"])

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: cardoon {name} ")
