"""Who is trusted and who may do what changes while thousands of tasks run, and none of them is lost.

`TRUST_CHANGES_TASKS=5000 pytest -s tests/e2e/test_trust_changes.py` sends as many, and prints how long
each change took to hold.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from pathlib import Path

import pytest

from cardoon import Cardoon, group
from cardoon.broker import Kept
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.security.authority import ensure_identity
from cardoon.security.identity import identify, load_certificate
from tests.e2e.conftest import Site

TASKS = int(os.environ.get("TRUST_CHANGES_TASKS", "1000"))
CHUNKS = 20
PATIENCE = 120.0
"""Seconds for what another process brings about, on a machine that has much else to do."""

POLICY = """
version = 1
[role.shop]
ids = ["subject:CN=shop"]
[role.intruder]
ids = ["subject:CN=intruder"]
[role.worker]
ids = ["subject:CN=worker"]

[[allow]]
role = ["shop", "intruder"]
action = "send"
task = ["work.add", "work.touch"]
[[allow]]
role = "worker"
action = "result"
"""


class Person:
    """A client with an identity of its own."""

    def __init__(self, site: Site, role: str, folder: Path) -> None:
        self.paths = ensure_identity(folder, role, clock=SystemClock())
        self.fingerprint = identify(load_certificate(self.paths.certificate)).fingerprint.hex()
        self._trusted = site.folder / ".cardoon" / "trusted"
        self._pin = self._trusted / f"{folder.name}.pem"
        self.app = Cardoon(
            "work",
            set_as_current=False,
            state_directory=str(site.folder / ".cardoon"),
            security_key=str(self.paths.key),
            security_certificate=str(self.paths.certificate),
            security_cert_store=(str(self._trusted),),
        )

    def trust(self) -> None:
        """Have its messages accepted from now on."""
        put(self._pin, self.paths.certificate.read_text())

    def trust_no_more(self) -> None:
        """Have them refused."""
        self._pin.unlink()

    def send(self, name: str, *args):
        return self.app.send_task(f"work.{name}", args)


def put(path: Path, text: str) -> None:
    """Write a file in one step, as installers do."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


class Watch:
    """What the worker's audit trail says, and when it did."""

    def __init__(self, site: Site) -> None:
        self._path = site.folder / ".cardoon" / "audit.jsonl"

    def moments(self, event: str) -> list[float]:
        records = map(json.loads, self._path.read_text().splitlines())
        return [
            dt.datetime.fromisoformat(record["time"]).timestamp()
            for record in records
            if record["event"] == event
        ]

    def until(self, event: str, *, meanwhile, count: int = 1) -> float:
        """Seconds since the epoch when it was on record for the `count`-th time.

        `meanwhile` sends something: files are looked at when a message comes.
        """
        deadline = time.monotonic() + PATIENCE
        while len(found := self.moments(event)) < count:
            assert time.monotonic() < deadline, f"{event} is not on record"
            meanwhile()
            time.sleep(0.2)
        return found[count - 1]


@pytest.mark.slow
def test_no_task_is_lost_while_keys_and_policy_change_and_a_revoked_one_is_refused(site, tmp_path):
    policy, denied = tmp_path / "policy.toml", tmp_path / "revoked.txt"
    put(policy, POLICY)
    put(denied, "# nobody yet\n")
    ensure_identity(site.folder / ".cardoon", "client", clock=SystemClock())  # makes the folders
    old, new = (Person(site, "shop", tmp_path / name) for name in ("old", "new"))
    intruder = Person(site, "intruder", tmp_path / "intruder")
    site.start(
        *("-c", "2", "-l", "warning"),
        env={"CARDOON_SECURITY_POLICY": str(policy), "CARDOON_SECURITY_REVOKED": str(denied)},
        wait=False,
    )
    old.trust()
    intruder.trust()
    intruder.send("touch", site.path("taken"), "before").get(timeout=PATIENCE)
    watch, told, sent, more, now = Watch(site), {}, [], [], old

    def go_on():
        more.append(now.send("add", 1, len(more)))

    def intrude():
        intruder.send("touch", site.path("taken"), "late")

    for chunk in range(CHUNKS):
        match chunk:
            case 2:
                put(policy, POLICY + "# a comment\n")
            case 5:
                seen = watch.until("policy.reloaded", meanwhile=go_on)
                told["policy reloaded"] = seen - changed(policy)
                put(policy, POLICY.replace("[[allow]]", "[[alow]]"))
            case 8:
                new.trust()
                now = new
            case 10:
                seen = watch.until("policy.reload_refused", meanwhile=go_on)
                told["broken policy reported"] = seen - changed(policy)
                put(policy, POLICY + "# another comment\n")
            case 12:  # the old certificate goes when all that it has signed has run
                for one in (*sent, *more):
                    one.get(timeout=PATIENCE)
                old.trust_no_more()
            case 14:
                put(denied, f"sha256:{intruder.fingerprint}\n")
        intrude()
        size = TASKS // CHUNKS
        calls = [now.app.signature("work.add", (chunk, number)) for number in range(size)]
        sent.append(group(calls, app=now.app).apply_async())
    refused_at = watch.until("cert.revoked", meanwhile=intrude)
    told["revoked identity refused first"] = refused_at - changed(denied)
    told["revoked identity served last"] = changed(Path(site.path("taken"))) - changed(denied)

    results = [one.get(timeout=PATIENCE) for one in sent]
    assert results == [[chunk + n for n in range(TASKS // CHUNKS)] for chunk in range(CHUNKS)]
    assert [one.get(timeout=PATIENCE) for one in more] == [1 + n for n in range(len(more))]
    taken = site.lines("taken")
    old.send("touch", site.path("late"))
    watch.until("message.signer_unknown", meanwhile=intrude)
    watch.until("policy.reloaded", count=2, meanwhile=go_on)
    assert site.lines("taken") == taken
    assert site.lines("late") == []
    assert refusals(site) == {"certificate-revoked", "unknown-signer"}
    for what, seconds in told.items():
        print(f"{what}: {seconds:.1f} s")
    print(f"tasks: {sum(map(len, results)) + len(more)}, none lost")
    for person in (old, new, intruder):
        person.app.close()


def changed(path: Path) -> float:
    return path.stat().st_mtime


def refusals(site: Site) -> set[str]:
    """Why messages lie in the quarantine."""
    deployment = Deployment(site.app.settings, clock=SystemClock())
    broker = deployment.open_broker()
    kept = broker.kept(Kept.QUARANTINE, limit=10_000)
    broker.close()
    return {one.reason for one in kept}
