"""A real worker whose files are changed: it tells, takes nothing more, or ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys

import pytest

from tests.e2e.conftest import PROJECT, Site
from tests.unit.integrity.tree import Tree


class Guarded:
    """A site whose worker holds a tree of files against a baseline."""

    def __init__(self, folder, on_drift):
        self.site = Site(folder)
        self.tree = Tree(folder)
        self.tree.make(host="*")
        self.site.environment = {
            "CARDOON_INTEGRITY_BASELINE": str(self.tree.baseline),
            "CARDOON_INTEGRITY_KEY": str(self.tree.public),
            "CARDOON_INTEGRITY_ON_DRIFT": on_drift,
            "CARDOON_INTEGRITY_WATCH": "true",
        }

    def events(self, name):
        path = self.site.folder / ".cardoon" / "audit.jsonl"
        found = map(json.loads, path.read_text().splitlines())
        return [one for one in found if one["event"] == name]


@pytest.fixture
def guard(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(on_drift):
            made = Guarded(tmp_path, on_drift)
            stack.callback(made.site.stop)
            return made

        yield make


def status(guarded):
    """What `cardoon status` prints."""
    paths = [str(PROJECT), os.getenv("PYTHONPATH")]
    return subprocess.run(
        [sys.executable, "-m", "cardoon", "-A", "work", "status", "-t", "2"],
        cwd=guarded.site.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    ).stdout


def beats(receiver):
    return [one for one in receiver.receive(1.0) if one["type"] == "worker-heartbeat"]


def test_drift_is_told_and_tasks_run_on(guard):
    guarded = guard("alert")
    guarded.site.start("-c", "1")

    guarded.tree.write("tasks.py", "evil")

    guarded.site.until(lambda: guarded.events("integrity.drift"))
    assert guarded.site.call("add", 2, 3) == 5


def test_who_asks_a_worker_learns_which_baseline_it_is_held_against(guard):
    guarded = guard("alert")
    guarded.site.start("-c", "1")
    inspect = guarded.site.app.control.inspect
    digest = hashlib.sha256(guarded.tree.baseline.read_bytes()).hexdigest()

    [told] = inspect(timeout=20, limit=1).stats().values()
    assert (
        told["integrity"].items()
        >= {
            "serial": 1,
            "digest": digest,
            "result": "ok",
            "findings": 0,
        }.items()
    )
    assert told["integrity"]["checked_at"] > 0
    assert f"1 {digest[:12]} ok, 20" in status(guarded)

    guarded.tree.write("tasks.py", "evil")
    guarded.site.until(lambda: guarded.events("integrity.drift"))
    guarded.site.until(lambda: f"1 {digest[:12]} drift, " in status(guarded))
    receiver, heard = guarded.site.app.events.Receiver(), []
    guarded.site.until(lambda: heard.extend(beats(receiver)) or heard)
    assert (heard[0]["baseline_serial"], heard[0]["baseline_digest"]) == (1, digest)
    assert heard[0]["integrity_result"] == "drift"


def test_a_worker_that_is_to_drain_takes_nothing_more(guard):
    guarded = guard("drain")
    worker = guarded.site.start("-c", "1")

    guarded.tree.write("sitecustomize.py", "evil")
    guarded.site.until(lambda: guarded.events("worker.drained"))
    [queue] = guarded.site.app.control.inspect(timeout=20, limit=1).ping()

    assert queue
    assert worker.poll() is None
    waiting = guarded.site.send("add", 2, 3)
    assert guarded.site.app.control.inspect(timeout=20, limit=1).active() == {queue: []}
    assert waiting.state == "PENDING"


@pytest.mark.parametrize("kind", ["prefork", "solo"])
def test_a_worker_that_is_to_stop_ends_with_78(guard, kind):
    guarded = guard("stop")
    worker = guarded.site.start("-c", "1", "-P", kind)

    guarded.tree.write("tasks.py", "evil")

    assert worker.wait(30) == 78
    assert guarded.events("integrity.drift")[0]["kind"] == "changed"
    assert guarded.events("worker.stop")[-1]["code"] == 78


def test_a_worker_does_not_begin_where_code_was_changed_before(guard):
    guarded = guard("stop")
    waiting = guarded.site.send("add", 2, 3)
    guarded.tree.write("tasks.py", "evil")

    worker = guarded.site.start("-c", "1", wait=False)

    assert worker.wait(30) == 78
    assert waiting.state == "PENDING"
