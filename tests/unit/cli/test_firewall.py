"""`cardoon firewall`, as far as it goes without an nft; tests/e2e/test_firewall.py goes on."""

from __future__ import annotations

import json

import pytest

from cardoon.exceptions import OperationalError
from cardoon.firewall import nft

BROKER = ("-b", "amqps://me:secret@192.0.2.7", "--result-backend", "disabled://")


@pytest.fixture(autouse=True)
def no_nft(monkeypatch):
    monkeypatch.setattr(nft, "PLACES", ())


def test_rules_are_printed_with_their_digest_and_without_passwords(project):
    text = project.run(*BROKER, "firewall", "print").stdout
    told = json.loads(project.run(*BROKER, "firewall", "print", "--json").stdout)

    assert "ip daddr 192.0.2.7 tcp dport 5671 counter accept" in text
    assert f"# digest {told['digest']}" in text
    assert told["ruleset"] in text
    assert "secret" not in text


def test_what_the_rules_keep_from_working_is_said_beside_them(project):
    done = project.run(*BROKER, "firewall", "print")

    assert "note: firewall_open" in done.stderr
    assert "note" not in done.stdout


def test_a_role_can_be_given(project):
    assert "firewall_peers: names nobody" in project.error(
        *BROKER, "firewall", "print", "--role", "broker"
    )


@pytest.mark.parametrize("verb", ["check", "load"])
def test_without_nft_nothing_is_well(project, verb):
    done = project.run(*BROKER, "firewall", verb)

    assert isinstance(done.exception, OperationalError)  # of which main makes exit code 69
    assert "install nftables" in str(done.exception)


def test_a_watch_tells_workers_that_it_could_not_look(project, tmp_path):
    state = tmp_path / "firewall.json"

    done = project.run(*BROKER, "firewall", "watch", "--once", "--state", str(state), "--json")

    assert done.exit_code == 69
    assert json.loads(done.stdout)["verdict"] == "could-not-check"
    assert json.loads(state.read_text())["verdict"] == "could-not-check"
