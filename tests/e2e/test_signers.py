"""A worker whose key is in another process, and identities that are replaced while tasks run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.e2e.conftest import DEADLINE, PROJECT, Site, wait_until
from tests.security.spiffe import Helper, Server


class SpiffeSite(Site):
    """A project whose client and worker have identities of a SPIFFE server, with a helper each."""

    def __init__(self, folder):
        super().__init__(folder)
        self.server = Server(now=time.time())
        self.helpers = {role: Helper(folder / role) for role in ("client", "worker")}
        for role in self.helpers:
            self.renew(role)
        self.app.conf.update(self.helpers["client"].settings())

    def renew(self, role):
        svid = self.server.issue(role)
        self.helpers[role].write(self.server, svid)
        return svid

    def variables(self, **more):
        settings = {**self.helpers["worker"].settings(), **more}
        told = {f"CARDOON_{name.upper()}": value for name, value in settings.items()}
        return {
            name: "true" if value is True else value[0] if isinstance(value, list) else value
            for name, value in told.items()
        }

    def events(self, source):
        path = self.folder / ".cardoon" / "audit.jsonl"
        records = map(json.loads, path.read_text().splitlines())
        return [one for one in records if one["source"] == source]


@pytest.fixture
def spiffe_site(tmp_path):
    site = SpiffeSite(tmp_path)
    yield site
    site.stop()


@contextlib.contextmanager
def agent(site, path):
    """`cardoon signer` with the worker's key."""
    helper = site.helpers["worker"]
    words = ["--key", helper.key, "--certificate", helper.certificate, "--socket", path]
    running = subprocess.Popen(
        [sys.executable, "-m", "cardoon", "signer", *words, "--domain", "acme/prod"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
    )
    try:
        with running.stdout as told:
            line = told.readline().decode()
            assert "spiffe://acme.example/worker" in line
            assert line.endswith(f": unix:{path}\n")
        yield running
    finally:
        running.kill()
        running.wait()


def test_a_worker_loses_nothing_while_the_agent_with_its_key_is_killed_and_started_again(
    spiffe_site,
):
    site = spiffe_site
    path = site.folder / "signer.sock"
    environment = site.variables(security_key=f"unix:{path}")
    with agent(site, path) as running:
        site.start("-c", "2", env=environment)
        sent = [site.send("touch", site.path("ran"), str(number)) for number in range(20)]
        sent[0].get(timeout=DEADLINE)
        running.send_signal(signal.SIGKILL)
        running.wait()
    sent += [site.send("touch", site.path("ran"), str(number)) for number in range(20, 40)]
    site.until(lambda: "outcomes cannot be written" in site.log.read_text())
    with agent(site, path) as running:
        texts = [one.get(timeout=DEADLINE) for one in sent]
        running.send_signal(signal.SIGTERM)
        assert running.wait(DEADLINE) == 0

    assert texts == [str(number) for number in range(40)]
    assert sorted(int(line.split()[0]) for line in site.lines("ran")) == list(range(40))
    assert not path.exists()


def test_identities_are_replaced_three_times_in_ten_seconds_and_no_task_is_lost(spiffe_site):
    site = spiffe_site
    site.start("-c", "2", env=site.variables())
    began = time.monotonic()
    last = {}
    sent = []
    for turn in range(3):
        for role in site.helpers:
            last[role] = site.renew(role).fingerprint.hex()[:16]
        until = began + (turn + 1) * 10 / 3
        while time.monotonic() < until:
            sent.append(site.send("add", len(sent), 1))
            time.sleep(0.05)

    def is_used(role):
        sent.append(site.send("add", len(sent), 1))  # files are looked at when something is signed
        told = [one for one in site.events(role) if one["event"] == "identity.reloaded"]
        return any(f"{last[role]}> in place of" in one["detail"] for one in told)

    for role in site.helpers:
        wait_until(lambda role=role: is_used(role), role)

    assert [one.get(timeout=DEADLINE) for one in sent] == list(range(1, len(sent) + 1))
    assert len(sent) > 20
    for role in site.helpers:
        names = {one["event"] for one in site.events(role)}
        assert not {name for name in names if name.startswith(("message.", "cert."))}
