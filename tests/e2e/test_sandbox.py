"""Sandboxes in force: through the API, a real worker and its command line."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

import cardoon
from cardoon.exceptions import WorkerLostError
from cardoon.sandbox.violations import MAX_KINDS, Violation
from tests.e2e.conftest import DEADLINE, PROJECT, Site


class Boxes(Site):
    """A project whose workers have a sandbox."""

    def serve(self, *arguments, own=None, **settings):
        """Start a worker with these settings, and wait until it works."""
        with self.log.open("ab") as log:
            command, environment = self.command(*arguments, own=own, **settings)
            self.workers.append(
                subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
            )
        self.call("add", 1, 1)

    def refuse(self, *arguments, own=None, **settings):
        """What a worker says that does not start."""
        command, environment = self.command(*arguments, own=own, **settings)
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def command(self, *arguments, own, **settings):
        """How a worker is started, and its environment."""
        python, path = readable_python()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PROJECT), path]),
            "BOXED": json.dumps(settings),
        }
        if own is not None:
            environment["BOXED_OWN"] = json.dumps(own)
        words = ("-m", "cardoon", "-A", "boxed", "worker", "-l", "info", "-c", "1")
        return [python, *words, *arguments], environment

    def send(self, name, *args, **options):
        return self.app.send_task(f"boxed.{name}", args, **options)

    def clear(self):
        for one in (self.folder, self.elsewhere):
            shutil.rmtree(one, ignore_errors=True)

    def violations(self):
        """What the audit trail has of them."""
        events = map(json.loads, self.lines(".cardoon/audit.jsonl"))
        return [one for one in events if one["event"] == "sandbox.violation"]


@functools.cache
def readable_python():
    """An interpreter that tasks of a root worker can read, who are nobody, and its path of modules."""
    known = (str(Path(cardoon.__file__).parents[1]), sysconfig.get_path("purelib"))
    path = os.pathsep.join([*known, *filter(None, [os.getenv("PYTHONPATH")])])
    if os.getuid():
        return sys.executable, path
    version = ".".join(map(str, sys.version_info[:2]))
    for python in (sys.executable, f"/usr/bin/python{version}"):
        with contextlib.suppress(OSError):
            subprocess.run([python, "-c", ""], user=65534, group=65534, cwd="/", check=True)
            return python, path
    pytest.skip(f"nobody can read neither {sys.executable} nor /usr/bin/python{version}")


def make_boxes():
    folder = Path(tempfile.mkdtemp(prefix="boxes-"))  # not below a folder that only root can search
    folder.chmod(0o755)
    made = Boxes(folder)
    made.elsewhere = Path(tempfile.mkdtemp(prefix="elsewhere-"))  # the project's own folder is code
    made.elsewhere.chmod(0o755)
    made.public = made.elsewhere / "public"
    made.public.write_text("for everybody")
    made.secret = made.elsewhere / "secret"
    made.secret.write_text("for nobody")
    return made


@pytest.fixture
def boxes():
    made = make_boxes()
    yield made
    made.stop()
    made.clear()


def told(sent):
    """The violations of a task, without how often."""
    return {(one.rule, one.detail, one.by) for one in sent.violations}


# Processes that serve many tasks


def test_prefork_holds_its_processes_to_the_workers_sandbox(boxes):
    boxes.serve(worker_sandbox={"read": [str(boxes.public)]})

    assert boxes.call("read", str(boxes.public)) == "for everybody"
    sent = boxes.send("read", "/etc/shadow")
    with pytest.raises(PermissionError) as caught:
        sent.get(timeout=DEADLINE)

    assert caught.value.__notes__ == ["sandbox: read /etc/shadow refused, as the task says"]
    assert sent.isolation == "shared-confined/v1"
    [record] = boxes.violations()
    assert (record["task"], record["rule"], record["detail"], record["by"]) == (
        "boxed.read",
        "read",
        "/etc/shadow",
        "task",
    )


def test_its_network_and_environment_are_gone_and_it_still_sends(boxes):
    boxes.serve(worker_sandbox={}, worker_pass_environment=["BOXED"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        sent = boxes.send("call", server.getsockname()[1])
        with pytest.raises(PermissionError):
            sent.get(timeout=DEADLINE)

    seen = boxes.call("look")
    inner = boxes.call("send")

    assert ("socket", "AF_INET SOCK_STREAM", "task") in told(sent)
    assert set(seen["environment"]) <= {"LANG", "LC_ALL", "PATH", "TZ", "CARDOON_PROCESS"}
    assert seen["cwd"] == "/"
    assert seen["uid"] == (65534 if os.getuid() == 0 else os.getuid())
    assert boxes.app.AsyncResult(inner).get(timeout=DEADLINE) == 3


def test_what_a_task_keeps_to_itself_is_on_record_all_the_same(boxes):
    boxes.serve(worker_sandbox={})

    sent = boxes.send("hide", "/etc/shadow")

    assert sent.get(timeout=DEADLINE) == "PermissionError"
    assert sent.violations == (Violation("read", "/etc/shadow", "task"),)


def test_the_workers_own_files_are_hidden_though_they_lie_beside_what_is_granted(boxes):
    trail = boxes.folder / "audit.jsonl"
    trail.touch(mode=0o644)  # so that nothing but the sandbox keeps a task from it
    (boxes.folder / "beside").write_text("code, too")
    boxes.serve(worker_sandbox={}, security_audit_log=str(trail))

    assert boxes.call("read", str(boxes.folder / "beside")) == "code, too"
    assert boxes.call("hide", str(trail)) == "PermissionError"


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_the_other_pools_of_processes_hold_theirs_as_well(boxes, pool):
    boxes.serve("-P", pool, worker_sandbox={})

    sent = boxes.send("hide", "/etc/shadow")

    assert sent.get(timeout=DEADLINE) == "PermissionError"
    assert sent.isolation == "shared-confined/v1"


def test_without_a_sandbox_nothing_is_held_and_nothing_is_claimed(boxes):
    boxes.serve()

    sent = boxes.send("read", str(boxes.secret))

    assert sent.get(timeout=DEADLINE) == "for nobody"
    assert sent.isolation is None


# What does not start


def test_a_tasks_own_sandbox_needs_the_pool_isolated(boxes):
    told = boxes.refuse(own={"cpu": 1})

    assert "no sandbox for boxed.own (the task's own, @app.task(sandbox=...))" in told
    assert "use -P isolated" in told


def test_strict_needs_the_pool_isolated(boxes):
    assert "cannot hold level='strict'" in boxes.refuse(worker_sandbox={"level": "strict"})


def test_best_effort_starts_and_says_so(boxes):
    boxes.serve(own={"cpu": 1}, unsafe_sandbox_best_effort=True)

    assert boxes.call("own", str(boxes.public)) == "for everybody"
    events = [json.loads(line) for line in boxes.lines(".cardoon/audit.jsonl")]
    unsafe = [one["setting"] for one in events if one["event"] == "config.unsafe"]
    assert unsafe == ["unsafe_sandbox_best_effort"]
    log = boxes.log.read_text()
    assert "not held: sandbox: worker_pool='prefork' has no process for each task" in log


# A process for each task


@pytest.mark.parametrize("level", ["confined", "strict"])
def test_each_task_is_held_and_what_it_was_refused_is_told(boxes, level):
    boxes.serve("-P", "isolated", worker_sandbox={"level": level, "read": [str(boxes.public)]})

    assert boxes.call("read", str(boxes.public)) == "for everybody"
    sent = boxes.send("read", str(boxes.secret))
    with pytest.raises((PermissionError, FileNotFoundError)) as caught:
        sent.get(timeout=DEADLINE)

    assert f"sandbox: read {boxes.secret} refused, as the task says" in caught.value.__notes__
    assert sent.isolation == f"{level}/v1"
    assert ("read", str(boxes.secret)) in {
        (one["rule"], one["detail"]) for one in boxes.violations()
    }


def test_a_task_has_its_own_sandbox_beside_those_of_others(boxes):
    own = {"level": "strict", "read": [str(boxes.secret)]}
    boxes.serve("-P", "isolated", own=own, worker_sandbox={"read": [str(boxes.public)]})

    usual, other = boxes.send("hide", str(boxes.secret)), boxes.send("own", str(boxes.secret))

    assert other.get(timeout=DEADLINE) == "for nobody"
    assert usual.get(timeout=DEADLINE) == "PermissionError"
    assert (usual.isolation, other.isolation) == ("confined/v1", "strict/v1")


POLICY = """
version = 1
[role.all]
ids = ["spiffe://cardoon.local/client", "spiffe://cardoon.local/worker"]
[[allow]]
role = "all"
action = "send"
task = "**"
[[allow]]
role = "all"
action = "result"

[[sandbox]]
task = "boxed.own"
level = "process"
"""


def test_the_policy_file_goes_before_all(boxes):
    subprocess.run(
        [sys.executable, "-m", "cardoon", "init", "."],
        cwd=boxes.folder,
        check=True,
        capture_output=True,
    )
    policy = boxes.folder / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    boxes.app.conf.security_policy = str(policy)
    boxes.serve("-P", "isolated", own={}, security_policy=str(policy))

    row, usual = boxes.send("own", str(boxes.secret)), boxes.send("hide", str(boxes.secret))

    assert row.get(timeout=DEADLINE) == "for nobody"
    assert usual.get(timeout=DEADLINE) == "PermissionError"
    assert (row.isolation, usual.isolation) == ("process/v1", "confined/v1")


@pytest.fixture(scope="module", params=["confined", "strict"])
def held(request):
    """A worker with narrow limits, whose tasks are held at each level."""
    made = make_boxes()
    limits = {"cpu": 1, "memory": "64MiB"}
    try:
        made.serve("-P", "isolated", worker_sandbox={"level": request.param, **limits})
        yield made
    finally:
        made.stop()
        made.clear()


def test_what_the_kernel_was_asked_is_told_as_the_kernels_word(held):
    sent = held.send("dance", 3)

    sent.get(timeout=DEADLINE)

    [kernel] = [one for one in sent.violations if one.by == "kernel"]
    assert kernel.rule == "socket"
    assert 1 <= kernel.count <= 3, "repetitions are told now and then"
    [own] = [one for one in sent.violations if one.by == "task"]
    assert (own.rule, own.detail, own.count) == ("socket", "AF_PACKET SOCK_RAW", 3)


def test_a_program_that_may_not_be_started_is_told(held):
    sent = held.send("start", "/bin/true")

    with pytest.raises(OSError, match=r"."):
        sent.get(timeout=DEADLINE)

    assert ("exec", "/bin/true", "task") in told(sent)
    assert any(one.by == "kernel" for one in sent.violations)


def test_a_task_that_uses_up_its_processor_time_ends_and_that_is_said(held):
    sent = held.send("spin")

    with pytest.raises(WorkerLostError) as caught:
        sent.get(timeout=DEADLINE)

    assert any(one.startswith("sandbox: cpu 1 seconds") for one in caught.value.__notes__)
    assert held.call("add", 1, 2) == 3


def test_a_task_that_wants_too_much_memory_fails_and_that_is_said(held):
    sent = held.send("hoard", 1 << 30)

    with pytest.raises(MemoryError) as caught:
        sent.get(timeout=DEADLINE)

    assert caught.value.__notes__ == [f"sandbox: memory {64 << 20} refused, as the task says"]
    assert held.call("hoard", 1 << 20) == 1 << 20


def test_a_flood_of_attempts_is_bounded_and_the_worker_goes_on(held):
    sent = held.send("dance", 100_000)
    sent.get(timeout=DEADLINE, propagate=False)

    assert len(sent.violations) <= MAX_KINDS + 2
    assert held.call("add", 1, 2) == 3


def test_the_command_line_tells_it_too(held):
    sent = held.send("read", "/etc/shadow")
    sent.get(timeout=DEADLINE, propagate=False)
    words = ["-m", "cardoon", "-A", "boxed", "result", sent.id]

    shown = subprocess.run(
        [sys.executable, *words],
        cwd=held.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), readable_python()[1]])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert shown.returncode == 1
    assert "sandbox: read /etc/shadow refused, as the task says" in shown.stderr
