"""A canary on another host: a port that must be filtered, and is opened, is an alarm elsewhere within seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest

from cardoon.cli.codes import Exit
from tests.doctor.hardened import deployed, redis

GOAL = 60.0
"""Seconds from the change to the record at the syslog server."""
EVERY = 2.0


class Service:
    """`cardoon doctor expose --every` on the host that is nobody's peer, with an identity of its own."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.result = deployment.folder / "canary.json"
        self.target = f"{deployment.queue.address}:{deployment.broker.port}"
        state = deployment.folder / "canary"
        state.mkdir(mode=0o700)
        for name in ("client.key", "client.pem", "ca.pem"):
            source = deployment.folder if name == "client.key" else deployment.state
            shutil.copy(source / name, state / name)
        subprocess.run(["chown", "-R", "0:0", state], check=True)
        settings = {
            "broker_url": deployment.broker.url,
            "state_directory": str(state),
            "security_domain": "shop-production",
            "syslog_address": [deployment.syslog.address("tls")],
            "syslog_tls": deployment.syslog.tls_files,
        }
        lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
        (deployment.folder / "canary_settings.py").write_text("".join(lines))
        self.command = [
            *deployment.words("--config", "canary_settings", app=""),
            *("doctor", "expose", "--timeout", "1", "--json"),
        ]
        self.process = None

    def start(self, *words):
        self.process = subprocess.Popen(
            self.deployment.elsewhere.command(*self.command, "--every", str(EVERY), *words),
            cwd=self.deployment.folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self.next()

    def once(self, *words):
        return self.deployment.elsewhere.run(*self.command, *words, cwd=self.deployment.folder)

    def next(self):
        """What it says next, which it does when something is new."""
        return json.loads(self.process.stdout.readline())

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def service():
    with deployed(redis) as deployment:
        made = Service(deployment)
        try:
            yield made
        finally:
            made.stop()


def test_a_port_that_is_opened_is_told_elsewhere_and_in_a_signed_result(service):
    deployment = service.deployment
    first = service.start("--result", str(service.result))
    assert (first["verdict"], first["targets"][service.target]) == ("filtered", "filtered")
    assert len(first["targets"]) == 2  # the broker, and the bus of a cluster

    began = time.monotonic()
    rule = f"insert rule inet cardoon input tcp dport {deployment.broker.port} accept"
    assert deployment.queue.run("nft", rule).returncode == 0
    told = service.next()
    [record] = [
        one
        for one in deployment.syslog.wait_for(
            lambda all_: any(one.sd.get("event") == "firewall.port_exposed" for one in all_)
        )
        if one.sd.get("event") == "firewall.port_exposed"
    ]
    seconds = time.monotonic() - began

    assert (told["verdict"], told["targets"][service.target]) == ("exposed", "open")
    assert record.severity == "crit"
    assert service.target in str(record.sd)
    assert seconds < GOAL
    print(f"an alarm after {seconds:.1f} s, with a round every {EVERY:g} s")

    done = deployment.cardoon("doctor", "expose", "--verify", str(service.result))
    assert done.returncode == Exit.CRITICAL, done.stderr
    assert "signed by spiffe://shop.example/client" in done.stdout
    forged = deployment.folder / "forged.json"
    forged.write_text(service.result.read_text().replace('"open"', '"filtered"'))
    done = deployment.cardoon("doctor", "expose", "--verify", str(forged))
    assert done.returncode == Exit.ERROR
    assert "does not count" in done.stderr

    deployment.load_queue()
    assert service.next()["verdict"] == "filtered"
    deployment.syslog.wait_for(
        lambda all_: any(one.sd.get("event") == "firewall.port_filtered" for one in all_)
    )

    deployment.elsewhere.run("ip", "link", "set", "wire", "down")
    told = service.next()
    assert told["verdict"] == "unchecked"
    assert "does not reach" in told["doubt"]


def test_a_canary_that_reaches_nothing_finds_nothing_out(service):
    done = service.once()

    assert done.returncode == Exit.UNCHECKED
    assert json.loads(done.stdout)["verdict"] == "unchecked"
