"""The audit log of a real worker, which is killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter

import pytest

from cardoon.audit import AuditLog
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.transparency.archive import KIND
from cardoon.transparency.testimony import parse_testimony
from tests.e2e.conftest import DEADLINE


def verify(site, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", "audit", "verify", "--json", *arguments],
        cwd=site.folder,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def test_a_log_whose_worker_was_killed_verifies_and_names_the_torn_line(site):
    log = site.folder / ".cardoon" / "audit.jsonl"
    worker = site.start("-P", "solo")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = len(log.read_bytes().splitlines())
    with log.open("ab") as file:
        file.write(b'{"event":"worker.')  # as a crash of the host leaves it

    worker = site.start("-P", "solo", "-n", "second")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE) == 0

    code, told = verify(site)
    assert (code, told["verdict"], told["epochs"]) == (0, "ok", 2), told
    assert [(one["flaw"], one["seq"]) for one in told["findings"]] == [("torn", before)]
    assert told["identities"] == ["CN=worker"]
    assert told["sealed"] == told["size"] > before + 2
    assert log.stat().st_mode & 0o077 == 0


def test_each_task_is_on_record_from_its_acceptance_to_its_end_where_that_is_asked_for(site):
    log = site.folder / ".cardoon" / "audit.jsonl"
    worker = site.start("-c", "2", env={"CARDOON_SECURITY_AUDIT_LEVEL": "tasks"})
    sums = [site.send("add", number, 1) for number in range(100)]
    assert [one.get(timeout=DEADLINE) for one in sums] == list(range(1, 101))
    with pytest.raises(ValueError, match="confidential"):
        site.call("fail", "confidential")
    stop(worker)

    accepted, ended = events(log, "task.accepted"), events(log, "task.ended")
    assert {one.id for one in sums} < {one["task_id"] for one in accepted}
    assert sorted(one["task_id"] for one in accepted) == sorted(one["task_id"] for one in ended)
    assert {one["signer"] for one in accepted} == {"CN=client"}
    outcomes = Counter((one["task"], one["outcome"], one.get("error")) for one in ended)
    assert outcomes["work.add", "succeeded", None] == 101  # with the one that a start waits for
    assert outcomes["work.fail", "failed", "ValueError"] == 1
    assert all(one["runtime"] > 0 for one in ended)
    assert "confidential" not in log.read_text()
    assert verify(site)[0] == 0


LOOKS = {"CARDOON_SECURITY_AUDIT_WITNESS_INTERVAL": "0.3"}


def audit_files(folder):
    return [file for file in folder.iterdir() if file.name.startswith("audit.jsonl")]


def events(log, family="audit."):
    records = [json.loads(line) for line in log.read_bytes().splitlines()]
    return [one for one in records if one["event"].startswith(family)]


def stop(worker):
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE) == 0


def test_a_log_that_was_put_back_with_its_keys_is_an_alarm_at_the_start_and_verify_names_it(
    site, tmp_path
):
    log = site.folder / ".cardoon" / "audit.jsonl"
    yesterday = tmp_path / "yesterday"
    yesterday.mkdir()
    stop(site.start("-P", "solo", env=LOOKS))
    for file in audit_files(log.parent):
        shutil.copy2(file, yesterday)
    stop(site.start("-P", "solo", env=LOOKS))
    lost = json.loads(log.read_bytes().splitlines()[-1])["seq"]
    assert verify(site, "--witness", "store")[0] == 0
    for file in audit_files(log.parent):
        file.unlink()
    for file in yesterday.iterdir():
        shutil.copy2(file, log.parent)
    size = len(log.read_bytes().splitlines())

    code, told = verify(site, "--witness", "store")
    assert (code, told["verdict"]) == (7, "cut")
    assert ("rollback", told["sealed"]) in {(one["flaw"], one["seq"]) for one in told["findings"]}

    stop(site.start("-P", "solo", env=LOOKS))
    [alarm] = events(log, "audit.rollback")
    assert size <= alarm["seq"] < lost + 3
    assert lost - 3 < alarm["seen"] <= lost + 1
    assert "audit.rollback" in site.log.read_text()
    assert verify(site)[0] == 0  # by itself it is as good as any
    code, told = verify(site, "--witness", "store")
    assert code == 7
    assert "fork" in {one["flaw"] for one in told["findings"]}


def test_a_log_that_was_put_back_without_its_state_is_an_alarm_too(site, tmp_path):
    log = site.folder / ".cardoon" / "audit.jsonl"
    yesterday = tmp_path / "yesterday"
    yesterday.mkdir()
    stop(site.start("-P", "solo", env=LOOKS))
    for file in audit_files(log.parent):
        if not file.name.endswith(".state"):
            shutil.copy2(file, yesterday)
    size = len(log.read_bytes().splitlines())
    stop(site.start("-P", "solo", env=LOOKS))
    for file in yesterday.iterdir():
        shutil.copy2(file, log.parent)

    code, told = verify(site, "--witness", "store")
    assert (code, told["verdict"]) == (7, "cut")
    assert "rollback" in {one["flaw"] for one in told["findings"]}

    stop(site.start("-P", "solo", env=LOOKS))
    assert {one["event"] for one in events(log)} == {"audit.begin", "audit.gap", "audit.rollback"}
    code, told = verify(site)  # the state knew how many there had been
    assert (code, told["verdict"]) == (6, "tampered")
    assert ("removed", size) in {(one["flaw"], one["seq"]) for one in told["findings"]}


def test_a_worker_notices_that_the_log_of_another_one_has_forked(site):
    theirs, ours = (site.folder / name / "audit.jsonl" for name in ("theirs", "ours"))
    logs = [{**LOOKS, "CARDOON_SECURITY_AUDIT_LOG": str(one)} for one in (theirs, ours)]
    intruder = site.start("-P", "solo", "-n", "theirs", env=logs[0])
    site.start("-P", "solo", "-n", "ours", env=logs[1])
    seen = ours.with_name("audit.jsonl.seen")
    site.until(lambda: seen.exists() and len(json.loads(seen.read_text())) == 2)
    intruder.send_signal(signal.SIGKILL)
    intruder.wait()

    # Who owns a host has all its keys: he takes out what tells of him, and has the store say nothing else.
    records = [json.loads(line) for line in theirs.read_bytes().splitlines()]
    for file in audit_files(theirs.parent):
        if not file.name.endswith(".key"):
            file.unlink()
    forged = Deployment(site.app.settings, clock=SystemClock(), role="worker")
    log = AuditLog(theirs, clock=SystemClock(), source="worker")
    for record in [*records[1:], *records]:
        log.record(record["event"])
    log.close()
    broker = forged.open_broker()
    for name, record in broker.records(KIND).items():
        if parse_testimony(record.frame).size <= len(records):
            broker.drop_record(KIND, name, revision=record.revision)
    broker.close()
    site.start("-P", "solo", "-n", "theirs", env=logs[0])

    site.until(lambda: events(ours, "audit.fork") or events(ours, "audit.rollback"))
    assert events(theirs, "audit.fork") == []
    assert verify(site, str(theirs))[0] == 0
    code, told = verify(site, str(theirs), "--witness", "store")
    assert (code, told["verdict"]) == (7, "cut")
