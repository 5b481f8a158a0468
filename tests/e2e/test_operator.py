"""The operator's view of a real worker: what it refuses, how that is mended, and what it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from cryptography.hazmat.primitives import serialization

from cardoon import Cardoon
from tests.e2e.conftest import PROJECT
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
