"""The operator's view of a real worker: what it refuses, how that is mended, and what it runs."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

from cryptography.hazmat.primitives import serialization

from cardoon import Cardoon, brokers
from cardoon.broker import Outgoing
from cardoon.clock import SystemClock
from tests.e2e.conftest import DEADLINE, PROJECT
from tests.security.actors import DAY, make_person


def ask(site, *words):
    """What a command with the project's settings answers: its exit code, and its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", *words, "--json"],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def make_stranger(site):
    """Somebody whom the worker does not know, with an app of their own on the same broker."""
    person = make_person("stranger", ends=36_500 * DAY)
    key = site.folder / "stranger.key"
    key.touch(0o600)
    key.write_bytes(
        person.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate = site.folder / "stranger.pem"
    certificate.write_bytes(person.pem)
    app = Cardoon(
        "work",
        set_as_current=False,
        state_directory=str(site.folder / ".cardoon"),
        security_key=str(key),
        security_certificate=str(certificate),
        security_cert_store=str(site.folder / ".cardoon" / "trusted"),
    )
    return person, app


def test_what_is_refused_is_explained_mended_and_runs(site):
    site.start("-c", "1", "-n", "one@here")
    person, app = make_stranger(site)
    with app:
        sent = app.send_task("work.progress", (site.path("gate"),))
    seen = site.app.AsyncResult(sent.id)
    site.until(lambda: seen.whereabouts() == "quarantine")

    code, refused = ask(site, "why", sent.id)
    number = str(refused["message"]["kept"]["number"])
    _, shown = ask(site, "quarantine", "show", number)

    assert (code, refused["state"], refused["task"]) == (1, "quarantine", None)
    assert shown["judgement"]["certificate"] == person.fingerprint.hex()
    assert shown["judgement"]["reason"] == "unknown-signer"
    (site.folder / ".cardoon" / "trusted" / "stranger.pem").write_bytes(person.pem)
    captured = site.folder / "captured"
    captured.write_text(shown["frame"])
    assert ask(site, "verify", str(captured), "--queue", "celery")[0] == 0

    # The worker looks at the files every few seconds.
    site.until(lambda: site.call("add", 1, 1) and "reloaded" in site.log.read_text())
    subprocess.run(
        [sys.executable, "-m", "cardoon", "quarantine", "release", number],
        cwd=site.folder,
        check=True,
        capture_output=True,
    )
    site.until(lambda: seen.state == "PROGRESS")
    waiting = site.send("add", 2, 2)
    code, running = ask(site, "why", sent.id)
    behind = ask(site, "why", waiting.id)[1]

    assert (code, running["state"]) == (0, "leased")
    assert running["result"]["worker"] == "one@here"
    assert running["message"]["lease_left"] > 0
    assert running["message"]["attempt"] >= 2
    # It may lie behind the other one in the worker already.
    assert behind["because"][0]["code"] in {"due", "leased"}
    (site.folder / "gate").touch()
    assert waiting.get(timeout=30) == 4
    assert ask(site, "why", sent.id)[1]["state"] == "ended"


def test_a_flood_of_what_is_refused_is_loud_and_honest_tasks_run(site):
    site.start("-c", "1")
    store = brokers.connect(f"sqlite:///{site.folder}/.cardoon/cardoon.db", clock=SystemClock())
    with closing(store):
        store.publish([Outgoing("celery", f"junk-{n}", b"junk") for n in range(150)], timeout=10)

    assert site.call("add", 1, 2) == 3

    trail = site.folder / ".cardoon" / "audit.jsonl"
    site.until(lambda: '"messages.refused_often"' in trail.read_text())
    [told] = [
        one
        for one in map(json.loads, trail.read_text().splitlines())
        if "refused_often" in one["event"]
    ]
    assert (told["queue"], told["reasons"]) == ("celery", f"{told['count']} malformed")


def test_a_store_that_was_set_back_while_no_worker_ran_is_noticed_by_the_next(site):
    def events():
        trail = (site.folder / ".cardoon" / "audit.jsonl").read_text().splitlines()
        return [one["event"] for one in map(json.loads, trail) if "replay." in one["event"]]

    def copy(source, target):
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)

    store, backup = site.folder / ".cardoon" / "cardoon.db", site.folder / "backup.db"
    worker = site.start("-c", "1")
    site.call("add", 1, 2)
    copy(store, backup)
    until = time.monotonic() + 2.5  # it looks once a second
    while time.monotonic() < until:
        site.call("add", 3, 4)
    worker.terminate()
    worker.wait(DEADLINE)

    copy(backup, store)
    site.start("-c", "1")

    site.until(lambda: events() == ["replay.epoch", "replay.epoch", "replay.set_back"])
    assert "it was set back from message" in site.log.read_text()
