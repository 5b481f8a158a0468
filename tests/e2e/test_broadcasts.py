"""Real workers with a broadcast queue: each runs its copy, and one that is killed finds it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from cardoon.clock import SystemClock
from cardoon.security.authority import ensure_identity
from tests.e2e.conftest import DEADLINE, PROJECT

ONE, TWO = "one@here", "two@here"


@pytest.fixture(params=["sqlite", "rabbitmq"])
def announced(request, site, monkeypatch):
    """The client's side of the app, in the folder where its workers run, on each kind of broker."""
    monkeypatch.chdir(site.folder)
    if request.param == "rabbitmq":
        for role in ("client", "worker"):
            ensure_identity(site.folder / ".cardoon", role, clock=SystemClock())
        monkeypatch.setenv("CARDOON_BROKER_URL", request.getfixturevalue("rabbitmq").url)
        monkeypatch.setenv("CARDOON_RESULT_BACKEND", f"sqlite:///{site.folder}/results.db")
        monkeypatch.setenv("RABBITMQ_TEST_PREFIX", f"b{uuid.uuid4().hex}")
    with site.client("announced") as module:
        yield module


def start(site, *names):
    return [site.start("-n", name, "-c", "1", app="announced", wait=False) for name in names]


def command(site, *arguments):
    """What a command says, run where the workers run."""
    return subprocess.run(
        [sys.executable, "-m", "cardoon", "-A", "announced", *arguments],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def caches(site):
    """What `cardoon queues` tells of the broadcast queue."""
    told = json.loads(command(site, "queues", "--json"))
    return next((one for one in told if one["queue"] == "caches"), {"subscribers": 0})


def subscribers(site):
    """How many workers `cardoon queues` tells of."""
    return caches(site)["subscribers"]


def test_each_worker_runs_what_is_broadcast_once(site, announced):
    start(site, ONE, TWO)
    site.until(lambda: subscribers(site) == 2)
    log = site.path("log")

    announced.reload.delay(log)
    site.until(lambda: len(site.lines("log")) == 2)
    announced.announce.delay(log).get(timeout=DEADLINE)
    site.until(lambda: len(site.lines("log")) == 4)

    assert sorted(site.lines("log")) == [f"{ONE} caches"] * 2 + [f"{TWO} caches"] * 2


def test_copies_wait_while_the_broadcast_queue_rests(site, announced):
    start(site, ONE, TWO)
    site.until(lambda: subscribers(site) == 2)
    command(site, "pause", "caches")

    announced.reload.delay(site.path("log"))
    waiting = caches(site)
    assert (waiting["ready"], waiting["paused"]) == (2, True)
    assert site.lines("log") == []

    command(site, "resume", "caches")
    site.until(lambda: len(site.lines("log")) == 2)


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
