"""A worker that may do nothing unrecorded, and whose audit log lies on a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import shutil
import subprocess
import sys

import pytest

from cardoon.exceptions import TimeoutError as LateError
from tests.e2e.conftest import DEADLINE
from tests.servers.ground import free_port

DISK_BYTES = 256 * 1024
POKES = 200
"""More commands than there is room for in the last page of a file."""


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, small enough to be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "audit", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk):
    """Leave no page; what is left of the last page of each file may still be written."""
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    assert shutil.disk_usage(disk).free == 0


def readiness(port):
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(line):
        line.request("GET", "/readyz")
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())


def records(log):
    return [json.loads(line) for line in log.read_bytes().splitlines()]


def verify(site, log):
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", "audit", "verify", "--json", str(log)],
        cwd=site.folder,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, {one["flaw"] for one in json.loads(done.stdout)["findings"]}


def test_a_worker_whose_audit_log_is_full_takes_no_task_until_there_is_room(site, disk):
    log, port = disk / "audit.jsonl", free_port()
    environment = {
        "CARDOON_SECURITY_AUDIT_LOG": str(log),
        "CARDOON_SECURITY_AUDIT_REQUIRED": "true",
    }
    site.start("-c", "2", "--metrics", f"127.0.0.1:{port}", env=environment)
    before = len(records(log))
    running = site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))
    fill(disk)

    for _ in range(POKES):
        site.app.control.rate_limit("work.add", 0, reply=True, timeout=DEADLINE, limit=1)
        if readiness(port)[0] == 503:
            break
    site.until(lambda: readiness(port)[0] == 503)
    [reason] = readiness(port)[1]["reasons"]
    assert reason.startswith(f"audit log: {log} cannot be written (")
    assert os.strerror(errno.ENOSPC) in reason
    waiting = [site.send("add", number, 1) for number in range(20)]
    site.until(lambda: f"audit log {log} cannot be written (" in site.log.read_text())
    (site.folder / "gate").touch()
    running.get(timeout=DEADLINE)  # what had begun goes on
    with pytest.raises(LateError):
        waiting[0].get(timeout=3)
    assert readiness(port)[1]["tasks_held"] == 0

    (disk / "filler").unlink()

    assert [one.get(timeout=DEADLINE) for one in waiting] == list(range(1, 21))
    site.until(lambda: readiness(port)[0] == 200)
    assert f"audit log {log} is written again" in site.log.read_text()
    later = records(log)[before:]
    [gap] = [one for one in later if one["event"] == "audit.gap"]
    assert [one["event"] for one in later if one["event"].startswith("audit.")] == [
        "audit.gap",
        "audit.resumed",
    ]
    assert gap["lost"] >= 1
    site.stop()
    assert verify(site, log) == (9, {"gap"})


def test_no_task_begins_whose_acceptance_the_full_log_cannot_take(site, disk):
    log = disk / "audit.jsonl"
    environment = {
        "CARDOON_SECURITY_AUDIT_LOG": str(log),
        "CARDOON_SECURITY_AUDIT_LEVEL": "tasks",
        "CARDOON_SECURITY_AUDIT_REQUIRED": "true",
    }
    site.start("-c", "2", env=environment)
    fill(disk)

    waiting = [site.send("touch", site.path("run"), str(number)) for number in range(POKES)]
    site.until(lambda: f"audit log {log} cannot be written (" in site.log.read_text())
    on_record = {one["task_id"] for one in records(log) if one["event"] == "task.accepted"}
    assert len(site.lines("run")) <= len(on_record) < POKES

    (disk / "filler").unlink()

    for one in waiting:
        one.get(timeout=DEADLINE)
    accepted = [one["task_id"] for one in records(log) if one["event"] == "task.accepted"]
    assert {one.id for one in waiting} <= set(accepted)
    assert {line.split()[0] for line in site.lines("run")} == {str(one) for one in range(POKES)}
    site.stop()
    assert verify(site, log) == (9, {"gap"})
