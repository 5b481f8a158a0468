"""A policy file in force: through the worker, the sender's result, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cardoon import Cardoon, chunks, states, xmap, xstarmap
from cardoon.clock import SystemClock
from cardoon.exceptions import TaskDeniedError
from cardoon.security.authority import ensure_identity
from tests.e2e.conftest import DEADLINE, PROJECT, Site

WORKER = """
version = 1
[role.client]
ids = ["CLIENT"]
[role.worker]
ids = ["WORKER"]

[[allow]]
role = "worker"
action = ["result"]
[[allow]]
role = "client"
action = "send"
task = ["work.add", "work.touch"]
max_body = "2KiB"
"""
MORE = """
[[allow]]
role = "client"
action = "send"
task = "work.echo"
"""


@pytest.fixture
def ruled_site(tmp_path) -> Site:
    """A project with two identities, and a policy that names them."""
    site = Site(tmp_path)
    run(site, "init", ".")
    site.policy = tmp_path / "policy.toml"
    write(site, WORKER)
    site.app.conf.security_policy = str(site.policy)
    site.environment = {"CARDOON_SECURITY_POLICY": str(site.policy)}
    yield site
    site.stop()


def run(site, *words, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", *words],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def write(site, text):
    for role in ("client", "worker"):
        text = text.replace(role.upper(), f"spiffe://cardoon.local/{role}")
    new = site.folder / "policy.new"
    new.write_text(text)
    new.chmod(0o600)
    new.replace(site.policy)


def test_what_no_rule_allows_is_not_run_and_its_sender_is_told(ruled_site):
    site = ruled_site
    site.start("-c", "1", env=site.environment)

    denied = site.send("echo", "x")
    too_large = site.send("touch", site.path("done"), "x" * 4096)

    for result, said in [(denied, "work.echo"), (too_large, "2048")]:
        with pytest.raises(TaskDeniedError, match=said):
            result.get(timeout=DEADLINE)
        assert result.state == states.REJECTED
    assert site.lines("done") == []
    kept = json.loads(run(site, "quarantine", "list", "--json"))
    assert [one["reason"] for one in kept] == ["denied"] * 2
    trail = (site.folder / ".cardoon" / "audit.jsonl").read_text()
    assert trail.count('"task.unauthorized"') == 2
    assert site.call("add", 1, 2) == 3
    assert f"; policy {site.policy}" in site.log.read_text()


def test_a_change_holds_while_running_and_what_was_refused_can_be_released(ruled_site):
    site = ruled_site
    site.start("-c", "1", env=site.environment)
    denied = site.send("echo", "x")
    with pytest.raises(TaskDeniedError):
        denied.get(timeout=DEADLINE)

    write(site, WORKER + MORE)
    site.until(lambda: site.call("add", 1, 1) and "policy: reloaded" in site.log.read_text())
    [kept] = json.loads(run(site, "quarantine", "list", "--json"))
    run(site, "quarantine", "release", str(kept["number"]))

    site.until(lambda: json.loads(run(site, "result", denied.id, "--json"))["state"] == "SUCCESS")
    assert site.call("echo", "y") == "y"


def test_results_of_who_may_not_give_them_are_refused(ruled_site):
    site = ruled_site
    write(site, WORKER.replace('action = ["result"]', 'action = ["event"]'))
    site.start("-c", "1", env=site.environment, wait=False)
    result = site.send("add", 1, 2)

    site.until(lambda: result.ready() or json.loads(run(site, "quarantine", "list", "--json")))

    assert not result.ready()
    kept = json.loads(run(site, "quarantine", "list", "--json"))
    assert {(one["queue"], one["reason"]) for one in kept} == {("results", "denied")}


def test_the_command_line_says_what_a_file_holds_and_why(ruled_site):
    site = ruled_site
    words = ("policy", "explain", "--file", "policy.toml")
    client = "spiffe://cardoon.local/client"

    assert "2 roles, 2 rules" in run(site, "policy", "check", "--file", "policy.toml")
    told = run(site, *words, client, "send", "work.add", "cardoon")
    assert told.startswith("allowed\nroles: client\nrule 1: it is for worker\nrule 2: allows it")
    told = json.loads(run(site, *words, "--json", client, "send", "work.fail", "cardoon", status=1))
    assert told["allowed"] is False
    assert "it covers work.add, work.touch" in told["rules"]["2"]
    assert "denied" in run(site, *words, ".cardoon/worker.pem", "send", "work.add", status=1)


ON_BEHALF = """
[role.ops]
ids = ["subject:CN=ops"]
[[allow]]
role = ["client", "ops"]
action = "send"
task = "work.ask_other"
[[allow]]
role = "worker"
action = "send"
task = "work.add"
origin = "client"
"""


def test_a_task_may_send_what_its_requests_signer_is_a_reason_for(ruled_site):
    site = ruled_site
    write(site, WORKER + ON_BEHALF)
    paths = ensure_identity(site.folder / ".cardoon", "ops", clock=SystemClock())
    site.start("-c", "2", env=site.environment)
    ops = Cardoon(
        "work",
        set_as_current=False,
        state_directory=str(site.folder / ".cardoon"),
        security_key=str(paths.key),
        security_certificate=str(paths.certificate),
        security_cert_store=(str(site.folder / ".cardoon" / "trusted"),),
    )

    ours = site.send("ask_other", 4)
    theirs = ops.send_task("work.ask_other", (4,))

    assert ours.get(timeout=DEADLINE) == 5
    with pytest.raises(TaskDeniedError, match="not sent while running a request of client"):
        theirs.get(timeout=DEADLINE)
    ops.close()


def test_a_map_may_be_sent_if_what_it_maps_may(ruled_site):
    site = ruled_site
    site.start("-c", "1", env=site.environment)
    add, echo = (site.app.signature(f"work.{name}") for name in ("add", "echo"))

    assert xstarmap(add, [(1, 2), (3, 4)]).apply_async().get(timeout=DEADLINE) == [3, 7]
    assert chunks(add, [(1, 2), (3, 4)], 1)().get(timeout=DEADLINE) == [[3], [7]]
    with pytest.raises(TaskDeniedError, match=r"work\.echo"):
        xmap(echo, ["x"]).apply_async().get(timeout=DEADLINE)
