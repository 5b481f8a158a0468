"""A store that forgets which tasks ran, and one that is flooded: through the worker and the command line."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time

from cardoon.broker import Kept, Outgoing
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.clock import SystemClock
from cardoon.sqlite.database import Database
from tests.e2e.conftest import PROJECT
from tests.e2e.sites import DEADLINE

EXACT = {"CARDOON_SECURITY_CLOCK_SKEW": "0"}


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
    return done.stdout + done.stderr


def events(site):
    trail = (site.folder / ".cardoon" / "audit.jsonl").read_text()
    return [json.loads(line) for line in trail.splitlines()]


def test_a_task_whose_mark_was_lost_runs_again_only_by_a_deliberate_act(site):
    path = site.folder / ".cardoon" / "cardoon.db"
    sent_at = time.time()
    sent = site.send("touch", site.path("done"), "once")
    thief = SqliteBroker(Database(path, clock=SystemClock()))
    [copy] = thief.receive(["celery"], limit=1, lease=0.01, timeout=5)
    thief.maintain()
    site.start("-c", "1", env=EXACT)
    sent.get(timeout=DEADLINE)  # so that nothing of it is written any more
    began = thief.memory().since
    # Messages are signed in whole seconds.
    site.until(lambda: time.time() > sent_at + 2)

    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM replay")
    file.close()
    site.until(lambda: "replay.epoch_changed" in {event["event"] for event in events(site)})
    thief.publish([Outgoing("celery", copy.id, copy.frame)], timeout=5)

    site.until(lambda: thief.kept(Kept.QUARANTINE, limit=9))
    assert thief.memory().since > began
    [kept] = thief.kept(Kept.QUARANTINE, limit=9)
    thief.close()
    assert (kept.id, kept.reason) == (sent.id, "before-epoch")
    assert site.call("add", 1, 2) == 3
    assert "--unsafe-accept-old" in run(site, "quarantine", "release", str(kept.number), status=1)
    run(site, "quarantine", "release", "--unsafe-accept-old", str(kept.number))
    site.until(lambda: len(site.lines("done")) == 2)
    names = {event["event"] for event in events(site)}
    assert {"message.before_epoch", "operator.accept_old"} <= names


def test_a_flood_of_refusals_pushes_out_itself_on_record(site):
    path = site.folder / ".cardoon" / "cardoon.db"
    site.start("-c", "1", env={"CARDOON_QUARANTINE_MAX_MESSAGES": "100"})
    flood = SqliteBroker(Database(path, clock=SystemClock()))
    flood.quarantine(queue="results", id="r", frame=b"rare", reason="wrong-request", detail="")

    flood.publish([Outgoing("celery", f"g{n}", b"garbage %d" % n) for n in range(300)], timeout=20)

    site.until(lambda: "quarantine.overflow" in {event["event"] for event in events(site)})
    site.until(lambda: not any(depth.ready + depth.leased for depth in flood.depths()))
    site.until(lambda: sum(fill.messages for fill in flood.quarantined()) <= 100)
    assert {fill.reason: fill.messages for fill in flood.quarantined()} == {
        "wrong-request": 1,
        "malformed": 99,
    }
    flood.close()
    assert "\n100 of at most 10000 messages" in run(site, "quarantine", "list")
    assert site.call("add", 1, 2) == 3
