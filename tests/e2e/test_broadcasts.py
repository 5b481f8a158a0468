"""Real workers with a broadcast queue: each runs its copy, and one that is killed finds it again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import DEADLINE, PROJECT

ONE, TWO = "one@here", "two@here"


@pytest.fixture
def announced(site, monkeypatch):
    """The client's side of the app, in the folder where its workers run."""
    monkeypatch.chdir(site.folder)
    with site.client("announced") as module:
        yield module


def start(site, *names):
    return [site.start("-n", name, "-c", "1", app="announced", wait=False) for name in names]


def subscribers(site):
    """How many workers `cardoon queues` tells of."""
    told = subprocess.run(
        [sys.executable, "-m", "cardoon", "-A", "announced", "queues", "--json"],
        cwd=site.folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {one["queue"]: one["subscribers"] for one in json.loads(told.stdout)}.get("caches", 0)


def test_each_worker_runs_what_is_broadcast_once(site, announced):
    start(site, ONE, TWO)
    site.until(lambda: subscribers(site) == 2)
    log = site.path("log")

    announced.reload.delay(log)
    site.until(lambda: len(site.lines("log")) == 2)
    announced.announce.delay(log).get(timeout=DEADLINE)
    site.until(lambda: len(site.lines("log")) == 4)

    assert sorted(site.lines("log")) == [f"{ONE} caches"] * 2 + [f"{TWO} caches"] * 2


def test_a_worker_that_stops_is_no_longer_counted(site, announced):
    one, _ = start(site, ONE, TWO)
    site.until(lambda: subscribers(site) == 2)
    one.send_signal(signal.SIGTERM)
    assert one.wait(DEADLINE) == 0

    announced.reload.delay(site.path("log"))
    site.until(lambda: site.lines("log"))

    assert subscribers(site) == 1
    assert site.lines("log") == [f"{TWO} caches"]


def test_a_worker_that_was_killed_finds_its_copies_under_its_name(site, announced):
    _, two = start(site, ONE, TWO)
    site.until(lambda: subscribers(site) == 2)
    until = site.path("until")
    announced.reload.delay(site.path("begun"), until)
    site.until(lambda: len(site.lines("begun")) == 2)
    announced.reload.delay(site.path("waiting"))

    two.kill()
    two.wait(DEADLINE)
    Path(until).touch()
    start(site, TWO)

    site.until(lambda: len(site.lines("waiting")) == 2 and len(site.lines("begun")) == 3)
    assert sorted(site.lines("waiting")) == [f"{ONE} caches", f"{TWO} caches"]
    assert sorted(site.lines("begun")) == [f"{ONE} caches", *[f"{TWO} caches"] * 2]
