"""An identity's life beside a worker that runs: renewed, revoked, and warned of, by `cardoon cert`."""

from __future__ import annotations

import contextlib
import json

from click.testing import CliRunner

from cardoon import Cardoon
from cardoon.cli.main import cardoon
from tests.e2e.conftest import DEADLINE


def run(*words):
    done = CliRunner().invoke(cardoon, words)
    assert done.exit_code == 0, done.output
    return done.stdout


@contextlib.contextmanager
def client(site):
    """A client that has not signed before."""
    made = Cardoon("work", state_directory=str(site.folder / ".cardoon"), set_as_current=False)
    yield made
    made.close()


def kept():
    return {one["reason"] for one in json.loads(run("quarantine", "list", "--json"))}


def trail(site):
    lines = (site.folder / ".cardoon" / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_worker_follows_a_renewal_a_revocation_and_an_end_without_a_restart(site, monkeypatch):
    monkeypatch.chdir(site.folder)
    run("init", ".")
    run("cert", "issue", "brief", "--lifetime", "60s", "--trust")
    site.start("-c", "1")

    run("cert", "renew", "client")
    assert site.call("add", 2, 2) == 4, "the old certificate is still good"
    with client(site) as renewed:
        assert renewed.send_task("work.add", (1, 2)).get(timeout=DEADLINE) == 3

        run("cert", "revoke", "client", "--reason", "stolen laptop")

        def is_refused():
            renewed.send_task("work.add", (3, 3))
            return any(one["event"] == "cert.revoked" for one in trail(site))

        site.until(is_refused)
    site.until(lambda: kept() == {"certificate-revoked"})
    run("cert", "renew", "client")
    with client(site) as renewed:
        assert renewed.send_task("work.add", (4, 4)).get(timeout=DEADLINE) == 8
    site.until(lambda: any(one["event"] == "certificate.expiring" for one in trail(site)))
    told = [one for one in trail(site) if one["event"].startswith("certificate.")]
    assert {(one["event"], one["source"]) for one in told} == {
        ("certificate.issued", "operator"),
        ("certificate.renewed", "operator"),
        ("certificate.revoked", "operator"),
        ("certificate.expiring", "worker"),
    }
    assert {one["name"] for one in told if one["event"] == "certificate.expiring"} == {
        "spiffe://cardoon.local/brief"
    }
